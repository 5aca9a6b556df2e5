//! How long a retry waits: exponential backoff with full jitter.

use std::time::Duration;

/// A sink that asks for more than this is asked again all the same.
const LONGEST_REQUEST: Duration = Duration::from_secs(3600);

/// The bounds of the delays.
#[derive(Debug, Clone, Copy)]
pub(super) struct Backoff {
    pub(super) shortest: Duration,
    pub(super) longest: Duration,
}

impl Backoff {
    /// The delay before the retry that follows `failures` failures in a row.
    ///
    /// Anything from nothing to the bound is equally likely, so that many chains and many processes
    /// that failed at once do not come back at once. What the sink asked for is the least.
    pub(super) fn delay(self, failures: u32, asked: Option<Duration>) -> Duration {
        let doubled = 1_u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
        let bound = self.shortest.saturating_mul(doubled).min(self.longest);
        at_least(bound.mul_f64(rand::random()), asked)
    }

    /// The delay where a retry is hopeless until a person mends something.
    pub(super) fn longest(self, asked: Option<Duration>) -> Duration {
        at_least(self.longest.mul_f64(0.5 + rand::random::<f64>() / 2.0), asked)
    }
}

fn at_least(delay: Duration, asked: Option<Duration>) -> Duration {
    asked.map_or(delay, |asked| delay.max(asked.min(LONGEST_REQUEST)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const BACKOFF: Backoff =
        Backoff { shortest: Duration::from_millis(100), longest: Duration::from_secs(30) };

    #[test]
    fn the_bound_doubles_up_to_the_longest() {
        for failures in 1..100 {
            let bound = Duration::from_millis(100)
                .saturating_mul(2_u32.saturating_pow(failures - 1))
                .min(BACKOFF.longest);
            let most = (0..200).map(|_| BACKOFF.delay(failures, None)).max();
            assert!(most.is_some_and(|most| most <= bound && most > bound / 2), "{failures}");
        }
    }

    #[test]
    fn the_jitter_is_full() {
        let least = (0..200).map(|_| BACKOFF.delay(5, None)).min();
        assert!(least.is_some_and(|least| least < Duration::from_millis(400)), "{least:?}");
    }

    #[test]
    fn what_the_sink_asks_for_is_the_least_within_reason() {
        let asked = Duration::from_secs(90);
        assert_eq!(BACKOFF.delay(1, Some(asked)), asked);
        assert_eq!(BACKOFF.longest(Some(asked)), asked);
        assert_eq!(BACKOFF.delay(1, Some(Duration::MAX)), LONGEST_REQUEST);
    }

    #[test]
    fn hopeless_retries_are_rare() {
        assert!((0..200).all(|_| BACKOFF.longest(None) >= BACKOFF.longest / 2));
    }
}
