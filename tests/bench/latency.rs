//! How long answers took: one histogram for all clients of a round.
//!
//! Waiting must not hide itself. Who sends at fixed times measures from when a message was due, which is right as it is.
//! Who sends when an answer came would have sent more during a long wait: [`Latency::corrected`] adds what was not sent.

use std::sync::Mutex;
use std::time::Duration;

use hdrhistogram::Histogram;

/// From a microsecond to 100 seconds.
const BOUNDS: (u64, u64) = (1_000, 100_000_000_000);
const DIGITS: u8 = 3;

/// Round trips, in nanoseconds.
pub(crate) struct Latency(Mutex<Histogram<u64>>);

/// What a round's latency was: half took no longer, and 99 of 100 did not.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Percentiles {
    pub(crate) p50: Duration,
    pub(crate) p99: Duration,
}

impl Latency {
    pub(crate) fn new() -> Self {
        let histogram = Histogram::new_with_bounds(BOUNDS.0, BOUNDS.1, DIGITS).expect("these bounds can be");
        Self(Mutex::new(histogram))
    }

    pub(crate) fn record(&self, wait: Duration) {
        self.histogram().saturating_record(nanos(wait));
    }

    /// Forgets what was before a round.
    pub(crate) fn clear(&self) {
        self.histogram().reset();
    }

    /// As recorded.
    pub(crate) fn percentiles(&self) -> Option<Percentiles> {
        percentiles(&self.histogram())
    }

    /// As if messages had been due at the pace of the median, for those who send when an answer came.
    pub(crate) fn corrected(&self) -> Option<Percentiles> {
        let histogram = self.histogram();
        percentiles(&histogram.clone_correct(histogram.value_at_quantile(0.5)))
    }

    fn histogram(&self) -> std::sync::MutexGuard<'_, Histogram<u64>> {
        self.0.lock().expect("nobody panics with it")
    }
}

/// Nothing when nothing was recorded.
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
