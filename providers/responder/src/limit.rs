//! How many answers go where: response rate limiting, so that forged questions cannot make this server flood
//! somebody else.

use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};

use tokio::time::Instant;

/// So many networks are told apart; each costs some 40 octets, whether used or not.
const SLOTS: usize = 16_384;

/// The network an address counts for: /24 in IPv4, /56 in IPv6, as other servers count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Network {
    V4([u8; 3]),
    V6([u8; 7]),
}

impl Network {
    pub(crate) fn of(address: IpAddr) -> Self {
        match address.to_canonical() {
            IpAddr::V4(ip) => {
                let [a, b, c, _] = ip.octets();
                Self::V4([a, b, c])
            }
            IpAddr::V6(ip) => {
                let [a, b, c, d, e, f, g, ..] = ip.octets();
                Self::V6([a, b, c, d, e, f, g])
            }
        }
    }
}

/// What may be sent back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The answer.
    Answer,
    /// Only the word that the answer is to be had over TCP, which nobody forges.
    Truncate,
    /// Nothing.
    Drop,
}

#[derive(Debug, Clone, Copy)]
struct Bucket {
    network: Network,
    /// What is left, as of `at`.
    tokens: f64,
    at: Instant,
    /// Whether the last one over the limit was dropped: the next one is told to use TCP.
    dropped: bool,
}

/// A token bucket a network, in a table of a fixed size.
///
/// Whose bucket is where is a secret of this process. A network that finds another's bucket in its place takes
/// the place over with a full one: this bounds memory, and at worst lets a few answers too many out.
#[derive(Debug)]
pub(crate) struct Limiter {
    per_second: f64,
    burst: f64,
    hasher: RandomState,
    slots: Mutex<Vec<Option<Bucket>>>,
}

impl Limiter {
    /// So many answers a second, after twice as many at once; 0 is no limit.
    pub(crate) fn new(per_second: u32) -> Self {
        let slots = if per_second == 0 { 0 } else { SLOTS };
        Self {
            per_second: f64::from(per_second),
            burst: f64::from(per_second) * 2.0,
            hasher: RandomState::new(),
            slots: Mutex::new(vec![None; slots]),
        }
    }

    pub(crate) fn check(&self, from: IpAddr) -> Verdict {
        let network = Network::of(from);
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let count = u64::try_from(slots.len()).unwrap_or(u64::MAX);
        let Some(index) = self.hasher.hash_one(network).checked_rem(count) else { return Verdict::Answer };
        let Some(slot) = usize::try_from(index).ok().and_then(|index| slots.get_mut(index)) else {
            return Verdict::Answer;
        };
        let now = Instant::now();
        let fresh = Bucket { network, tokens: self.burst, at: now, dropped: false };
        let bucket = match slot {
            Some(bucket) if bucket.network == network => bucket,
            other => other.insert(fresh),
        };
        let passed = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.tokens = (bucket.tokens + passed * self.per_second).min(self.burst);
        bucket.at = now;
        if bucket.tokens >= 1.0 {
            bucket.tokens -= 1.0;
            return Verdict::Answer;
        }
        bucket.dropped = !bucket.dropped;
        if bucket.dropped { Verdict::Drop } else { Verdict::Truncate }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_network_gets_its_burst_then_its_rate() {
        let limiter = Limiter::new(10);
        let burst = (0..40).filter(|_| limiter.check(ip("192.0.2.1")) == Verdict::Answer).count();
        assert_eq!(burst, 20);
        tokio::time::advance(Duration::from_secs(1)).await;
        let second = (0..40).filter(|_| limiter.check(ip("192.0.2.77")) == Verdict::Answer).count();
        assert_eq!(second, 10, "another address of the same /24 shares the bucket");
    }

    #[tokio::test(start_paused = true)]
    async fn every_other_one_over_the_limit_is_sent_to_tcp() {
        let limiter = Limiter::new(1);
        let said: Vec<Verdict> = (0..6).map(|_| limiter.check(ip("192.0.2.1"))).collect();
        use Verdict::{Answer, Drop, Truncate};
        assert_eq!(said, [Answer, Answer, Drop, Truncate, Drop, Truncate]);
    }

    #[tokio::test(start_paused = true)]
    async fn networks_do_not_pay_for_each_other() {
        let limiter = Limiter::new(5);
        while limiter.check(ip("2001:db8:0:100::1")) == Verdict::Answer {}
        assert_ne!(limiter.check(ip("2001:db8:0:1ff::2")), Verdict::Answer, "the same /56");
        assert_eq!(limiter.check(ip("2001:db8:0:200::1")), Verdict::Answer, "the next /56");
        assert_eq!(limiter.check(ip("192.0.2.1")), Verdict::Answer);
    }

    #[test]
    fn an_address_in_the_clothes_of_the_other_family_is_the_same_network() {
        assert_eq!(Network::of(ip("::ffff:192.0.2.9")), Network::of(ip("192.0.2.1")));
    }

    #[tokio::test(start_paused = true)]
    async fn a_million_networks_cost_no_memory() {
        let limiter = Limiter::new(5);
        for number in 0..1_000_000_u32 {
            limiter.check(IpAddr::V4((number << 8).into()));
        }
        assert_eq!(limiter.slots.lock().unwrap().len(), SLOTS);
    }

    #[tokio::test(start_paused = true)]
    async fn no_limit_is_none() {
        let limiter = Limiter::new(0);
        assert!((0..10_000).all(|_| limiter.check(ip("192.0.2.1")) == Verdict::Answer));
    }
}
