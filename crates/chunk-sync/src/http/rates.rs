//! Limits how often a client may ask, and how often it may guess the token, by its address.
//!
//! Behind a proxy all clients have one address, and an address may be shared by programs of which one has an old token. A
//! token that was accepted from an address is therefore accepted there, whatever others guess.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::Response;
use tracing::warn;

use super::Context;
use super::connections::Connection;
use super::refusal::Refusal;

/// Wrong tokens that an address may send at once, and the time after which it may send one more.
const GUESSES: f64 = 10.0;
const GUESS_EVERY: Duration = Duration::from_secs(6);

/// Maximum number of addresses remembered.
const ADDRESSES: usize = 4096;

/// How often guessing from an address is logged.
const LOGGED: Duration = Duration::from_secs(60);

/// The limits of one server.
pub(super) struct Rates {
    requests: Buckets,
    guesses: Buckets,
    /// Addresses that have sent the right token.
    proven: Mutex<HashSet<IpAddr>>,
    logged: Mutex<Option<Instant>>,
}

impl Rates {
    /// `per_second` requests of each address, twice as many at once; 0 for no limit.
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = f64::from(per_second);
        Self {
            requests: Buckets::new(per_second, 2.0 * per_second),
            guesses: Buckets::new(1.0 / GUESS_EVERY.as_secs_f64(), GUESSES),
            proven: Mutex::default(),
            logged: Mutex::default(),
        }
    }

    /// Refuses to compare a token from an address that has sent too many wrong ones and never a right one.
    ///
    /// # Errors
    /// [`Refusal::TooManyGuesses`].
    pub(super) fn may_guess(&self, peer: IpAddr) -> Result<(), Refusal> {
        let address = network(peer);
        if self.proven.lock().unwrap_or_else(PoisonError::into_inner).contains(&address) {
            return Ok(());
        }
        self.guesses.look(address, Instant::now()).map_err(|wait| self.guessing(peer, wait))
    }

    /// Counts a wrong token.
    ///
    /// # Errors
    /// [`Refusal::TooManyGuesses`] if the address has sent too many.
    pub(super) fn guessed_wrong(&self, peer: IpAddr) -> Result<(), Refusal> {
        self.guesses.take(network(peer), Instant::now()).map_err(|wait| self.guessing(peer, wait))
    }

    /// Notes that the right token came from this address.
    pub(super) fn guessed_right(&self, peer: IpAddr) {
        let mut proven = self.proven.lock().unwrap_or_else(PoisonError::into_inner);
        if proven.len() < ADDRESSES {
            proven.insert(network(peer));
        }
    }

    fn guessing(&self, peer: IpAddr, wait: Duration) -> Refusal {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|at| at.elapsed() >= LOGGED) {
            *logged = Some(Instant::now());
            warn!(%peer, "a client sends wrong tokens; refusing its requests for some seconds");
        }
        Refusal::TooManyGuesses(wait)
    }
}

/// Middleware: refuses what a connection on a reserved place may not ask, and what exceeds the rate. Health is always
/// answered.
pub(super) async fn limit(
    State(context): State<Arc<Context>>,
    request: Request,
    next: Next,
) -> Result<Response, Refusal> {
    let connection = of(&request);
    if !matches!(request.uri().path(), "/healthz" | "/readyz") {
        if connection.reserved {
            return Err(Refusal::TooManyConnections);
        }
        context.rates.requests.take(network(connection.peer), Instant::now()).map_err(Refusal::TooManyRequests)?;
    }
    Ok(next.run(request).await)
}

/// The connection of a request.
pub(super) fn of(request: &Request) -> Connection {
    let unknown = Connection { peer: IpAddr::V6(Ipv6Addr::UNSPECIFIED), reserved: false };
    request.extensions().get().copied().unwrap_or(unknown)
}

/// The addresses that count as one: of IPv6 a /64, of which a client usually has all.
fn network(peer: IpAddr) -> IpAddr {
    match peer.to_canonical() {
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into(),
        address => address,
    }
}

/// A bucket of tokens per address, which fills at a constant rate.
struct Buckets {
    per_second: f64,
    most: f64,
    of: Mutex<HashMap<IpAddr, Bucket>>,
}

#[derive(Clone, Copy)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl Buckets {
    fn new(per_second: f64, most: f64) -> Self {
        Self { per_second, most, of: Mutex::default() }
    }

    /// Takes one from the bucket of an address. Returns how long to wait if it is empty.
    fn take(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        self.with(address, now, 1.0)
    }

    /// Whether the bucket of an address has one, without taking it.
    fn look(&self, address: IpAddr, now: Instant) -> Result<(), Duration> {
        self.with(address, now, 0.0)
    }

    fn with(&self, address: IpAddr, now: Instant, taken: f64) -> Result<(), Duration> {
        if self.per_second == 0.0 {
            return Ok(());
        }
        let mut of = self.of.lock().unwrap_or_else(PoisonError::into_inner);
        if of.len() >= ADDRESSES && !of.contains_key(&address) {
            of.retain(|_, bucket| self.filled(*bucket, now) < self.most);
        }
        // With too many addresses at once, those without a bucket share one.
        let address = if of.len() >= ADDRESSES && !of.contains_key(&address) {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        } else {
            address
        };
        let bucket = of.entry(address).or_insert(Bucket { left: self.most, at: now });
        *bucket = Bucket { left: self.filled(*bucket, now), at: now };
        if bucket.left < 1.0 {
            return Err(Duration::from_secs_f64((1.0 - bucket.left) / self.per_second));
        }
        bucket.left -= taken;
        Ok(())
    }

    fn filled(&self, bucket: Bucket, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.left + passed * self.per_second).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_bucket_fills_at_its_rate_and_each_address_has_its_own() {
        let (buckets, now) = (Buckets::new(2.0, 4.0), Instant::now());
        let [one, other] = ["192.0.2.1", "192.0.2.2"].map(|address| address.parse().unwrap());
        for _ in 0..4 {
            buckets.take(one, now).unwrap();
        }
        assert_eq!(buckets.take(one, now), Err(Duration::from_millis(500)));
        assert_eq!(buckets.look(one, now), Err(Duration::from_millis(500)));
        buckets.take(other, now).unwrap();
        buckets.take(one, now + Duration::from_millis(500)).unwrap();
        assert!(buckets.take(one, now + Duration::from_millis(500)).is_err());
        Buckets::new(0.0, 0.0).take(one, now).unwrap();
    }

    #[test]
    fn the_number_of_addresses_is_bounded() {
        let (buckets, now) = (Buckets::new(1.0, 1.0), Instant::now());
        let address = |n: u32| IpAddr::from(n.to_be_bytes());
        let refused = (0..10_000).filter(|n| buckets.take(address(*n), now).is_err()).count();
        assert_eq!(refused, 10_000 - ADDRESSES - 1, "those without a bucket share one");
        assert!(buckets.of.lock().unwrap().len() <= ADDRESSES + 1);
        buckets.take(address(20_000), now + Duration::from_secs(2)).unwrap();
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let of = |text: &str| network(text.parse().unwrap());
        assert_eq!(of("2001:db8::1"), of("2001:db8::2:3"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
    }
}
