//! How long an answer may take: a connection is taken for dead for lack of progress, and not because much is on its way.
//!
//! Answers come in the order of requests, so one waits for all bytes that were sent before it, too. How fast a link is is
//! known from what it has carried; who is not answered in time waits twice as long the next time, so that anything gets
//! through in the end, however slow the link.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Bytes that a link carries in a second, as long as nothing else is known of it,
const RATE: u64 = 1 << 20;
/// and at the least.
const LEAST_RATE: u64 = 16 << 10;
/// A link is taken to be so many times slower than it was seen to be.
const CAUTION: u64 = 4;
/// What is sent says how fast a link is from so many bytes on.
const MUCH: usize = 64 << 10;
/// The longest time for an answer.
const LONGEST: Duration = Duration::from_secs(300);

/// How long answers of one link may take.
pub(super) struct Patience {
    /// The time for an answer when there is next to nothing to carry.
    answer: Duration,
    /// Bytes a second.
    rate: AtomicU64,
    /// Bytes that were sent and are not answered.
    under_way: AtomicUsize,
    /// The time for an answer of whoever was not answered in time before, in milliseconds.
    wanted: AtomicU64,
}

impl Patience {
    pub(super) fn new(answer: Duration) -> Self {
        Self {
            answer,
            rate: AtomicU64::new(RATE),
            under_way: AtomicUsize::new(0),
            wanted: AtomicU64::new(0),
        }
    }

    /// The time for any answer of a connection that is made now, where that is said once for all of them.
    pub(super) fn of_connection(&self) -> Duration {
        self.answer
            .max(Duration::from_millis(self.wanted.load(Ordering::Relaxed)))
    }

    /// Notes that so many bytes are being sent. They count until this is dropped.
    pub(super) fn send(&self, bytes: usize) -> UnderWay<'_> {
        let before = self.under_way.fetch_add(bytes, Ordering::Relaxed);
        UnderWay {
            patience: self,
            bytes,
            with_those_before: before + bytes,
            since: Instant::now(),
        }
    }
}

/// A request that was sent and is not answered.
pub(super) struct UnderWay<'a> {
    patience: &'a Patience,
    bytes: usize,
    with_those_before: usize,
    since: Instant,
}

impl UnderWay<'_> {
    /// The time for the answer of a request that was not answered in time so often before.
    pub(super) fn time(&self, silences: u32) -> Duration {
        let rate = self.patience.rate.load(Ordering::Relaxed) as f64;
        let carrying = Duration::from_secs_f64(self.with_those_before as f64 / rate);
        let time = (self.patience.answer + carrying).min(LONGEST);
        let time = time.saturating_mul(1 << silences.min(8)).min(LONGEST);
        if silences > 0 {
            let wanted = u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
            self.patience.wanted.store(wanted, Ordering::Relaxed);
        }
        time
    }

    /// It was answered.
    pub(super) fn answered(self, silences: u32) {
        if silences > 0 {
            self.patience.wanted.store(0, Ordering::Relaxed);
        }
        if self.with_those_before < MUCH {
            return;
        }
        let seen = self.with_those_before as f64 / self.since.elapsed().as_secs_f64().max(0.001);
        let rate = (seen as u64 / CAUTION).clamp(LEAST_RATE, RATE);
        self.patience.rate.store(rate, Ordering::Relaxed);
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.patience.under_way.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: Duration = Duration::from_secs(2);

    #[test]
    fn time_grows_with_bytes_under_way_and_with_silence() {
        let patience = Patience::new(ANSWER);
        assert_eq!(patience.send(0).time(0), ANSWER);
        let large = patience.send(16 << 20);
        assert_eq!(large.time(0), ANSWER + Duration::from_secs(16));
        assert_eq!(large.time(2), 4 * (ANSWER + Duration::from_secs(16)));
        assert_eq!(
            patience.send(0).time(0),
            ANSWER + Duration::from_secs(16),
            "it waits behind the other"
        );
        assert_eq!(patience.of_connection(), large.time(2));
        large.answered(2);
        assert_eq!(patience.of_connection(), ANSWER);
        assert_eq!(patience.send(0).time(0), ANSWER);
        assert_eq!(patience.send(0).time(100), LONGEST);
    }

    #[test]
    fn slow_link_is_given_more_time() {
        let patience = Patience::new(ANSWER);
        let mut sent = patience.send(MUCH);
        sent.since -= Duration::from_secs(1);
        sent.answered(0);
        let time = patience.send(MUCH).time(0);
        assert!(
            time > ANSWER + Duration::from_secs(3) && time < ANSWER + Duration::from_secs(5),
            "{time:?}"
        );
        patience.send(MUCH).answered(0);
        assert!(patience.send(MUCH).time(0) < ANSWER + Duration::from_secs(1));
    }
}
