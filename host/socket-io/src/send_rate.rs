//! Limits the rate at which one client may send events or packets.
//!
//! The allowance of two seconds may come at once. A client that sends more is read at its rate. A client that exceeds the rate for 30
//! seconds, or sends as much at once, is disconnected.

use std::time::{Duration, Instant};

use crate::gcra::Gcra;

const BURST_SECONDS: u32 = 2;
/// A client that exceeds its rate for this long is disconnected.
const PATIENCE: Duration = Duration::from_secs(30);

/// The rate of one client.
#[derive(Debug)]
pub(crate) struct SendRate {
    limit: Gcra,
    arrival: Option<Instant>,
    exceeded_since: Option<Instant>,
}

/// The decision after an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RateDecision {
    /// Read on.
    Continue,
    /// Accept this event, and pause reading for this long.
    Pause(Duration),
    /// Disconnect the client: it is a [`Flood`].
    Disconnect,
}

/// A client is disconnected because it exceeded a rate for too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Flood {
    /// The rate of events.
    #[error("too many events: it sent more than it may for too long")]
    Events,
    /// The rate of packets of any kind.
    #[error("too many packets: it sent more than it may for too long")]
    Packets,
}

impl SendRate {
    /// A rate of `per_second`, at least 1.
    pub(crate) fn new(per_second: u32) -> Self {
        Self {
            limit: Gcra::new(per_second, BURST_SECONDS),
            arrival: None,
            exceeded_since: None,
        }
    }

    /// Whether `events` more at once would disconnect the client.
    pub(crate) fn is_flooded_by(&self, events: usize, now: Instant) -> bool {
        let ahead = self
            .arrival
            .map_or(Duration::ZERO, |arrival| arrival.saturating_duration_since(now));
        self.limit.is_exceeded_by(events, ahead, PATIENCE)
    }

    /// Counts an event.
    pub(crate) fn count(&mut self, now: Instant) -> RateDecision {
        let ahead = self.limit.count(&mut self.arrival, now);
        let Some(wait) = self.limit.wait(ahead) else {
            if self.limit.is_relaxed(ahead) {
                self.exceeded_since = None;
            }
            return RateDecision::Continue;
        };
        let since = *self.exceeded_since.get_or_insert(now);
        if now - since >= PATIENCE || wait >= PATIENCE {
            return RateDecision::Disconnect;
        }
        RateDecision::Pause(wait)
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn never_pauses_a_client_within_its_rate() {
        let mut now = Instant::now();
        let mut rate = SendRate::new(100);
        for _ in 0..10_000 {
            assert_eq!(rate.count(now), RateDecision::Continue);
            now += SECOND / 100;
        }
        // A full burst from time to time.
        for _ in 0..100 {
            (0..200).for_each(|_| assert_eq!(rate.count(now), RateDecision::Continue));
            now += 2 * SECOND;
        }
    }

    #[test]
    fn pauses_a_fast_client_and_disconnects_it_later() {
        let start = Instant::now();
        let mut now = start;
        let mut rate = SendRate::new(10);
        let mut sent = 0;
        loop {
            match rate.count(now) {
                RateDecision::Continue => sent += 1,
                RateDecision::Pause(wait) => {
                    sent += 1;
                    now += wait;
                }
                RateDecision::Disconnect => break,
            }
        }
        assert!((PATIENCE..PATIENCE + SECOND).contains(&(now - start)));
        // A burst of two seconds, then ten a second.
        assert!((310..=330).contains(&sent), "{sent}");
    }

    #[test]
    fn forgives_a_client_that_slows_down() {
        let mut now = Instant::now();
        let mut rate = SendRate::new(10);
        for _ in 0..20 {
            let mut paused = false;
            while !paused {
                match rate.count(now) {
                    RateDecision::Continue => {}
                    RateDecision::Pause(wait) => {
                        now += wait;
                        paused = true;
                    }
                    RateDecision::Disconnect => panic!("it slowed down in between"),
                }
            }
            now += 3 * SECOND;
        }
    }

    #[test]
    fn disconnects_a_client_that_sends_too_many_at_once() {
        let now = Instant::now();
        let mut rate = SendRate::new(10);
        let taken = (0..10_000)
            .take_while(|_| rate.count(now) != RateDecision::Disconnect)
            .count();
        assert!((310..=330).contains(&taken), "{taken}");
    }

    proptest! {
        #[test]
        fn never_exceeds_the_rate(
            rate in 1_u32..1_000,
            events in vec((0_u64..200, any::<bool>()), 0..400),
        ) {
            let start = Instant::now();
            let (mut now, mut taken) = (start, 0_u64);
            let mut limit = SendRate::new(rate);
            for (later, is_patient) in events {
                now += Duration::from_millis(later);
                taken += 1;
                match limit.count(now) {
                    RateDecision::Continue => {
                        let allowed = u64::from(rate * BURST_SECONDS) + (now - start).as_millis() as u64 * u64::from(rate) / 1_000;
                        prop_assert!(taken <= allowed + 1, "{taken} of {allowed}");
                    }
                    RateDecision::Pause(wait) => {
                        prop_assert!(wait > Duration::ZERO && wait < PATIENCE);
                        now += if is_patient { wait } else { Duration::ZERO };
                    }
                    RateDecision::Disconnect => break,
                }
            }
        }
    }
}
