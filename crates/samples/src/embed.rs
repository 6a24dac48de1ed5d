//! Embeddings without a model: words are hashed to dimensions of a vector.
//!
//! Texts that share words and word pairs get similar vectors, which is sufficient for a demo and for tests. The hash is
//! implemented here because its values are part of golden tests and of stored data: they must not change with the
//! compiler, the platform or a library. For the same reason frequencies are damped by a square root, which IEEE 754
//! rounds exactly, instead of a logarithm, which it does not. Language models and access to stores are not here.

use crate::rng::mix;

/// Exclusive upper bound of sparse indices: the vocabulary size of SPLADE models.
pub const SPARSE_SIZE: u32 = 30522;

/// Vectors are rounded to seven decimals. An f32 between -1 and 1 represents them all, and in JSON a number takes ten
/// bytes instead of twenty. The norm differs from 1 by less than 1e-6.
const DECIMALS: f64 = 1e7;
const PAIR_WEIGHT: f64 = 0.5;
/// The weight of words of up to three bytes, mostly articles and prepositions: a simple substitute for document
/// frequency.
const SHORT_WEIGHT: f64 = 0.25;

/// A unit vector of `size` numbers by signed hashing of words and word pairs. For a text without words it is the first
/// axis, so that the cosine is always defined. Empty if `size` is 0.
pub fn dense(text: &str, size: usize) -> Vec<f32> {
    let mut sums = vec![0.0f64; size];
    if size > 0 {
        let words = words(text);
        for (hash, weight, count) in counted(features(&words)) {
            let place = (hash % size as u64) as usize;
            // The highest bit does not affect the dimension unless `size` is astronomically large.
            let sign = if hash >> 63 == 0 { 1.0 } else { -1.0 };
            sums[place] += sign * weight * f64::from(count).sqrt();
        }
    }
    normalised(&sums)
}

/// A sparse vector: strictly increasing indices below [`SPARSE_SIZE`], and one weight per index. A weight is a word's
/// frequency, saturating below 2.2, because further occurrences of a word add less information. Both are empty for a
/// text without words.
pub fn sparse(text: &str) -> (Vec<u32>, Vec<f32>) {
    const SATURATION: f32 = 1.2;
    let mut places: Vec<u32> = words(text).iter().map(|word| (word.hash % u64::from(SPARSE_SIZE)) as u32).collect();
    places.sort_unstable();
    places
        .chunk_by(|a, b| a == b)
        .map(|run| {
            let count = run.len() as f32;
            (run[0], count * (SATURATION + 1.0) / (count + SATURATION))
        })
        .unzip()
}

/// Scales to length one and rounds to [`DECIMALS`]; returns the first axis if the norm is 0.
pub(crate) fn normalised(sums: &[f64]) -> Vec<f32> {
    let norm = sums.iter().map(|sum| sum * sum).sum::<f64>().sqrt();
    if norm == 0.0 {
        return (0..sums.len()).map(|place| if place == 0 { 1.0 } else { 0.0 }).collect();
    }
    sums.iter().map(|sum| rounded(sum / norm) as f32).collect()
}

/// Rounds a number of a vector to [`DECIMALS`]: exact as text, and the same f32 when read back.
pub(crate) fn rounded(number: f64) -> f64 {
    (number * DECIMALS).round() / DECIMALS
}

/// 64-bit FNV-1a with a final mix, because its low bits are poorly distributed.
pub(crate) fn hash(bytes: &[u8]) -> u64 {
    mix(bytes.iter().fold(FNV_START, |state, &byte| fnv(state, byte)))
}

const FNV_START: u64 = 0xcbf2_9ce4_8422_2325;

fn fnv(state: u64, byte: u8) -> u64 {
    (state ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
}

struct Word {
    hash: u64,
    is_short: bool,
}

/// The lower-cased runs of letters and digits. An underscore separates words, so `spike_filter` is two words.
fn words(text: &str) -> Vec<Word> {
    text.split(|letter: char| !letter.is_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(|word| {
            let hash = if word.is_ascii() {
                let state = word.bytes().fold(FNV_START, |s, byte| fnv(s, byte.to_ascii_lowercase()));
                mix(state)
            } else {
                hash(word.to_lowercase().as_bytes())
            };
            Word { hash, is_short: word.len() <= 3 }
        })
        .collect()
}

/// The hash and weight of each word and of each pair of adjacent words.
fn features(words: &[Word]) -> Vec<(u64, f64)> {
    let weight = |word: &Word| if word.is_short { SHORT_WEIGHT } else { 1.0 };
    let singles = words.iter().map(|word| (word.hash, weight(word)));
    let pairs = words.windows(2).map(|pair| {
        // The rotation distinguishes "tide table" from "table tide".
        let hash = mix(pair[0].hash.rotate_left(17) ^ pair[1].hash);
        (hash, PAIR_WEIGHT * weight(&pair[0]) * weight(&pair[1]))
    });
    singles.chain(pairs).collect()
}

/// Groups equal features and counts them. Sorted, so that sums are computed in a fixed order.
fn counted(mut features: Vec<(u64, f64)>) -> Vec<(u64, f64, u32)> {
    features.sort_unstable_by_key(|feature| feature.0);
    features.chunk_by(|a, b| a.0 == b.0).map(|run| (run[0].0, run[0].1, run.len() as u32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cosine(a: &str, b: &str) -> f32 {
        dense(a, 768).iter().zip(dense(b, 768)).map(|(x, y)| x * y).sum()
    }

    #[test]
    fn the_hash_matches_the_one_of_stored_vectors() {
        assert_eq!(hash(b""), mix(0xcbf2_9ce4_8422_2325));
        assert_eq!(b"a".iter().fold(FNV_START, |s, &b| fnv(s, b)), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(hash(b"tide"), 17_604_226_807_815_553_839);
    }

    #[test]
    fn vectors_equal_the_golden_ones_bit_for_bit() {
        let bits: Vec<u32> = dense("The spring tide at Saltmere, Μέση στάθμη", 8).iter().map(|n| n.to_bits()).collect();
        assert_eq!(
            bits,
            [0, 1_052_997_498, 0, 1_031_950_249, 3_204_599_717, 3_179_433_897, 1_061_386_104, 3_179_433_897]
        );
        let (indices, values) = sparse("tide Tide TIDE table");
        assert_eq!(indices, [17595, 24205]);
        assert_eq!(values, [3.0 * 2.2 / 4.2, 1.0]);
    }

    #[test]
    fn every_dense_vector_has_length_one() {
        for text in ["", "?!", "a", "tide", "Ebb at six", "潮位は海図基準面", &"tide table ".repeat(900)] {
            for size in [1, 3, 384, 768] {
                let norm: f32 = dense(text, size).iter().map(|n| n * n).sum::<f32>().sqrt();
                assert!((norm - 1.0).abs() < 1e-5, "{text:.20} {size}: {norm}");
            }
        }
        assert!(dense("tide", 0).is_empty());
    }

    #[test]
    fn text_without_words_gets_the_first_axis() {
        assert_eq!(dense("…!?", 4), [1.0, 0.0, 0.0, 0.0]);
        assert_eq!(sparse("…!?"), (vec![], vec![]));
    }

    #[test]
    fn case_and_punctuation_do_not_matter_and_order_does() {
        assert_eq!(dense("Spike filter!", 768), dense("spike_filter", 768));
        assert_ne!(dense("tide table", 768), dense("table tide", 768));
    }

    #[test]
    fn similar_texts_are_closer_than_unrelated_ones() {
        let base = "The spike filter removes readings that stick out of their neighbourhood.";
        let near = "A spike filter flags readings which stick out of the neighbourhood by a lot.";
        let far = "Invoices are sent on the first working day and payable within a month.";
        assert!(cosine(base, near) > cosine(base, far) + 0.3, "{} {}", cosine(base, near), cosine(base, far));
        assert!(cosine(base, far).abs() < 0.2);
    }

    #[test]
    fn sparse_indices_increase_strictly_and_weights_saturate() {
        let (indices, values) = sparse(crate::json_lines());
        assert_eq!(indices.len(), values.len());
        assert!(indices.is_sorted_by(|a, b| a < b));
        assert!(indices.iter().all(|&index| index < SPARSE_SIZE));
        assert!(values.iter().all(|&value| (0.99..2.2).contains(&value)));
    }
}
