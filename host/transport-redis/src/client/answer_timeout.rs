//! Adaptive response timeout: a connection counts as dead for lack of progress, not because much data is in flight.
//!
//! Answers come in the order of requests, so a request also waits for all bytes sent before it. The throughput of a link is
//! estimated from earlier requests. Each timeout of a request doubles its next one, so that it succeeds on any link in the
//! end.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// Initial and highest estimate of a link's throughput, in bytes per second.
const RATE: u64 = 1 << 20;
/// Lowest estimate, in bytes per second.
const LOWEST_RATE: u64 = 16 << 10;
/// The estimate is the measured throughput divided by this.
const SAFETY_FACTOR: u64 = 4;
/// Minimum number of bytes for a measurement.
const MEASURED: usize = 64 << 10;
/// Longest timeout.
const LONGEST: Duration = Duration::from_secs(300);

/// Response timeout of one link.
pub(crate) struct AnswerTimeout {
    /// Timeout of a small request on an idle link.
    answer: Duration,
    /// Estimated throughput, in bytes per second.
    rate: AtomicU64,
    /// Bytes of requests that are not answered.
    in_flight: AtomicUsize,
    /// Timeout of the last request that has timed out before and is not answered, in milliseconds; 0 for none.
    wanted: AtomicU64,
}

impl AnswerTimeout {
    pub(crate) fn new(answer: Duration) -> Self {
        Self {
            answer,
            rate: AtomicU64::new(RATE),
            in_flight: AtomicUsize::new(0),
            wanted: AtomicU64::new(0),
        }
    }

    /// Timeout for a new connection, where it is fixed for all requests.
    pub(crate) fn for_new_connection(&self) -> Duration {
        self.answer
            .max(Duration::from_millis(self.wanted.load(Ordering::Relaxed)))
    }

    /// Adds a request of this size in bytes. It counts until the result is dropped.
    pub(crate) fn send(&self, bytes: usize) -> InFlightRequest<'_> {
        let before = self.in_flight.fetch_add(bytes, Ordering::Relaxed);
        InFlightRequest {
            timeout: self,
            bytes,
            bytes_ahead: before + bytes,
            since: Instant::now(),
        }
    }
}

/// A request that is not answered.
pub(crate) struct InFlightRequest<'a> {
    timeout: &'a AnswerTimeout,
    bytes: usize,
    /// Its bytes and those in flight before it.
    bytes_ahead: usize,
    since: Instant,
}

impl InFlightRequest<'_> {
    /// Timeout of the request, which has timed out this often before.
    pub(crate) fn timeout_after(&self, timeouts: u32) -> Duration {
        let rate = self.timeout.rate.load(Ordering::Relaxed) as f64;
        let carrying = Duration::from_secs_f64(self.bytes_ahead as f64 / rate);
        let timeout = (self.timeout.answer + carrying).min(LONGEST);
        let timeout = timeout.saturating_mul(1 << timeouts.min(8)).min(LONGEST);
        if timeouts > 0 {
            let wanted = u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX);
            self.timeout.wanted.store(wanted, Ordering::Relaxed);
        }
        timeout
    }

    /// Notes the answer, and measures the throughput.
    pub(crate) fn answered(self, timeouts: u32) {
        if timeouts > 0 {
            self.timeout.wanted.store(0, Ordering::Relaxed);
        }
        if self.bytes_ahead < MEASURED {
            return;
        }
        let seen = self.bytes_ahead as f64 / self.since.elapsed().as_secs_f64().max(0.001);
        let rate = (seen as u64 / SAFETY_FACTOR).clamp(LOWEST_RATE, RATE);
        self.timeout.rate.store(rate, Ordering::Relaxed);
    }
}

impl Drop for InFlightRequest<'_> {
    fn drop(&mut self) {
        self.timeout.in_flight.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ANSWER: Duration = Duration::from_secs(2);

    #[test]
    fn timeout_grows_with_bytes_in_flight_and_with_timeouts() {
        let timeout = AnswerTimeout::new(ANSWER);
        assert_eq!(timeout.send(0).timeout_after(0), ANSWER);
        let large = timeout.send(16 << 20);
        assert_eq!(large.timeout_after(0), ANSWER + Duration::from_secs(16));
        assert_eq!(large.timeout_after(2), 4 * (ANSWER + Duration::from_secs(16)));
        assert_eq!(
            timeout.send(0).timeout_after(0),
            ANSWER + Duration::from_secs(16),
            "it waits behind the other"
        );
        assert_eq!(timeout.for_new_connection(), large.timeout_after(2));
        large.answered(2);
        assert_eq!(timeout.for_new_connection(), ANSWER);
        assert_eq!(timeout.send(0).timeout_after(0), ANSWER);
        assert_eq!(timeout.send(0).timeout_after(100), LONGEST);
    }

    #[test]
    fn slow_link_gets_a_longer_timeout() {
        let timeout = AnswerTimeout::new(ANSWER);
        let mut sent = timeout.send(MEASURED);
        sent.since -= Duration::from_secs(1);
        sent.answered(0);
        let time = timeout.send(MEASURED).timeout_after(0);
        assert!(
            time > ANSWER + Duration::from_secs(3) && time < ANSWER + Duration::from_secs(5),
            "{time:?}"
        );
        timeout.send(MEASURED).answered(0);
        assert!(timeout.send(MEASURED).timeout_after(0) < ANSWER + Duration::from_secs(1));
    }
}
