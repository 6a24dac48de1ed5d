//! A pseudorandom sequence that is the same in every version and on every platform.
//!
//! A seed printed by a failed test must replay years later, and golden hashes must survive an upgrade. General-purpose
//! libraries may change their standard generator; the seven lines of SplitMix64 below do not change. Not for secrets.

/// SplitMix64: a counter and a mixer.
#[derive(Debug, Clone)]
pub struct Rng {
    state: u64,
}

/// Mixes every input bit into all output bits. A bijection.
pub(crate) fn mix(mut bits: u64) -> u64 {
    bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    bits ^ (bits >> 31)
}

impl Rng {
    /// The sequence of `seed`.
    pub fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.state)
    }

    /// A number from 0 to `limit` - 1; 0 if `limit` is 0. The bias is below 2⁻³² for the limits used here.
    pub fn below(&mut self, limit: usize) -> usize {
        ((u128::from(self.next_u64()) * limit as u128) >> 64) as usize
    }

    /// True with probability 1/`times`.
    pub fn one_in(&mut self, times: usize) -> bool {
        self.below(times) == 0
    }

    /// A plausible confidence: a number of hundredths from `low` to `high` inclusive, divided by 100.
    pub fn hundredths(&mut self, low: usize, high: usize) -> f64 {
        (low + self.below(high - low + 1)) as f64 / 100.0
    }

    /// A number from 1 to 2^`octaves` - 1 with a probability proportional to about 1/number (Zipf's law).
    ///
    /// Draws the octave first, then a number in it. This avoids a logarithm, whose last bit differs between platforms.
    pub fn zipf(&mut self, octaves: usize) -> usize {
        let octave = 1 << self.below(octaves);
        octave + self.below(octave)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_matches_published_splitmix64_values() {
        let mut rng = Rng::new(1_234_567);
        assert_eq!(rng.next_u64(), 6_457_827_717_110_365_317);
        assert_eq!(rng.next_u64(), 3_203_168_211_198_807_973);
    }

    #[test]
    fn small_ranks_are_drawn_more_often() {
        let mut rng = Rng::new(1);
        let mut counts = [0usize; 1 << 8];
        for _ in 0..80_000 {
            counts[rng.zipf(8)] += 1;
        }
        assert_eq!(counts[0], 0);
        // Rank 1 gets an eighth of the draws; each rank of the fifth octave gets a sixteenth of that.
        assert!((9_000..11_000).contains(&counts[1]), "{}", counts[1]);
        assert!((500..750).contains(&counts[20]), "{}", counts[20]);
    }
}
