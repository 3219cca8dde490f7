//! Rate limit of a port's warnings, which peers can cause at will.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Least time between two warnings.
const INTERVAL: Duration = Duration::from_secs(5);

/// Lets one warning pass in each interval.
#[derive(Debug, Default)]
pub(super) struct WarningLimiter {
    last: Mutex<Option<Instant>>,
}

impl WarningLimiter {
    /// Whether to log a warning now.
    pub(super) fn allows(&self) -> bool {
        let mut last = self.last.lock();
        let is_allowed = last.is_none_or(|last| last.elapsed() >= INTERVAL);
        if is_allowed {
            *last = Some(Instant::now());
        }
        is_allowed
    }
}
