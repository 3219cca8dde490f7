//! Shared by all parts of a plugnode process. Knows neither Socket.IO nor transports nor WebAssembly.
//!
//! - [`shutdown`]: tells all tasks to end, and waits until they have.
//! - [`metrics`]: counters, gauges and histograms, and their text for Prometheus.
//! - [`log_limiter`]: rate limit for log lines that clients can cause.
//! - [`MemoryPressure`]: how close the memory use of this process is to its budget.
//! - [`Backoff`]: growing delays between retries, with jitter; [`jittered`] adds it to a fixed delay.

mod backoff;
pub mod log_limiter;
mod memory_pressure;
pub mod metrics;
pub mod shutdown;

pub use self::backoff::{Backoff, jittered};
pub use self::memory_pressure::MemoryPressure;
