//! What every part of a plugnode process shares. No room of the host is named here.
//!
//! - [`shutdown`]: one token that all tasks listen to, and a tracker that waits for them.
//! - [`counts`] and [`timings`]: counters, gauges and histograms of this process; [`metrics`] writes them for Prometheus.
//! - [`repeats`]: limits log lines that clients can cause.
//! - [`pressure`]: how close this process is to its memory limit.
//! - [`settings`]: how durations and sizes are written in the configuration file.
//! - [`pause`]: exponential back-off with jitter.

pub mod counts;
pub mod metrics;
pub mod pause;
pub mod pressure;
pub mod repeats;
pub mod settings;
pub mod shutdown;
pub mod timings;
