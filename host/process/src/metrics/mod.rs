//! Metrics of this process: counters, gauges and histograms as statics, and their text for Prometheus.
//!
//! Updating one is an atomic addition: no lock, no allocation.

mod counters;
mod gauge;
mod histogram;
mod openmetrics;

pub use self::counters::*;
pub use self::gauge::{CLIENTS, EVENTS_IN_HAND, Gauge};
pub use self::histogram::{ACKNOWLEDGEMENT_TIME, HANDLING_TIME, Histogram, INGEST_TIME};
pub use self::openmetrics::{MEDIA_TYPE, text};
