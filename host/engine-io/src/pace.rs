//! A limit on how often something happens: GCRA, which keeps one number.

use std::time::{Duration, Instant};

/// So many seconds' worth may come at once.
const BURST: u32 = 10;

/// The rate of one session.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Theoretical arrival time of the next.
    next: Option<Instant>,
}

impl Pace {
    /// Counts one, and says whether it keeps the rate.
    pub(crate) fn keeps(&mut self, per_second: u32, now: Instant) -> bool {
        let each = Duration::from_secs(1) / per_second.max(1);
        let next = self.next.map_or(now, |next| next.max(now)) + each;
        self.next = Some(next);
        next - now <= each * per_second.max(1) * BURST
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn burst_is_bounded_and_refills() {
        let mut pace = Pace::default();
        let mut now = Instant::now();
        let burst = (0..1_000).take_while(|_| pace.keeps(4, now)).count();
        assert_eq!(burst, 40);
        now += Duration::from_secs(2);
        let more = (0..1_000).take_while(|_| pace.keeps(4, now)).count();
        assert!((6..=8).contains(&more), "{more}");
    }
}
