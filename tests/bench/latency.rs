//! Latencies: one histogram for all clients of a round.
//!
//! Coordinated omission: an open loop measures from the time at which a message was due, which needs no correction. A closed
//! loop would have sent more messages during a long wait: [`Latency::corrected`] adds them.

use std::sync::Mutex;
use std::time::Duration;

use hdrhistogram::Histogram;

/// From a microsecond to 100 seconds, in nanoseconds.
const BOUNDS: (u64, u64) = (1_000, 100_000_000_000);
const DIGITS: u8 = 3;

/// Round-trip times, in nanoseconds.
pub(crate) struct Latency(Mutex<Histogram<u64>>);

/// Percentiles of the latency in a round.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Percentiles {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Latency {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(BOUNDS.0, BOUNDS.1, DIGITS).expect("the bounds are valid");
        Self(Mutex::new(histogram))
    }

    pub(crate) fn record(&self, wait: Duration) {
        self.histogram().saturating_record(nanos(wait));
    }

    /// Discards the latencies of the warm-up.
    pub(crate) fn clear(&self) {
        self.histogram().reset();
    }

    /// The percentiles of the recorded latencies.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        percentiles(&self.histogram())
    }

    /// Corrected for coordinated omission: as if messages had been due at intervals of the median.
    pub(crate) fn corrected(&self) -> Option<Percentiles> {
        let histogram = self.histogram();
        percentiles(&histogram.clone_correct(histogram.value_at_quantile(0.5)))
    }

    fn histogram(&self) -> std::sync::MutexGuard<'_, Histogram<u64>> {
        self.0.lock().expect("the lock is not poisoned")
    }
}

/// None when nothing was recorded.
fn percentiles(histogram: &Histogram<u64>) -> Option<Percentiles> {
    let at = |quantile| Duration::from_nanos(histogram.value_at_quantile(quantile));
    (!histogram.is_empty()).then(|| Percentiles {
        p50: at(0.5),
        p99: at(0.99),
    })
}

fn nanos(wait: Duration) -> u64 {
    u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX)
}
