//! When the events of a partition are tried again.

use std::collections::BTreeSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::time::Duration;

use tokio::time::Instant;

/// Longest random delay after the second conflict. It doubles with each further one,
const FIRST_CONFLICT_DELAY: Duration = Duration::from_millis(2);
/// up to this. There is no delay after the first.
const MAX_CONFLICT_DELAY: Duration = Duration::from_millis(64);
/// The same while the event's keys are reserved: it waits only for commits that are already running.
const MAX_RESERVED_DELAY: Duration = Duration::from_millis(8);

/// The events that wait for another attempt, by sequence number, in order of time.
#[derive(Debug, Default)]
pub(super) struct RetrySchedule(BTreeSet<(Instant, u64)>);

impl RetrySchedule {
    pub(super) fn insert(&mut self, delay: Duration, sequence: u64) {
        self.0.insert((Instant::now() + delay, sequence));
    }

    /// When the first is due.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.first().map(|(at, _)| *at)
    }

    /// Takes the first if it was due at `now`.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<u64> {
        let first = self.0.first().filter(|(at, _)| *at <= now)?.1;
        self.0.pop_first();
        Some(first)
    }

    /// Takes all of them.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = u64> + use<> {
        std::mem::take(&mut self.0).into_iter().map(|(_, sequence)| sequence)
    }
}

/// The delay before an event is handled again after this many conflicts. It is random, so that events that conflicted do not meet
/// again.
pub(super) fn conflict_delay(conflicts: u32, has_reservation: bool) -> Duration {
    let max = if has_reservation {
        MAX_RESERVED_DELAY
    } else {
        MAX_CONFLICT_DELAY
    };
    let Some(doublings) = conflicts.checked_sub(2) else {
        return Duration::ZERO;
    };
    let longest = FIRST_CONFLICT_DELAY.saturating_mul(1 << doublings.min(16)).min(max);
    longest.mul_f64(random_fraction())
}

/// A number from 0 to 1, good enough to spread delays.
fn random_fraction() -> f64 {
    RandomState::new().hash_one(()) as f64 / u64::MAX as f64
}
