//! Gauges of this process: current numbers that rise and fall.

use std::sync::atomic::{AtomicI64, Ordering};

/// A number that rises and falls.
#[derive(Debug)]
pub struct Gauge(AtomicI64);

/// Clients connected to this io-node.
pub static CLIENTS: Gauge = Gauge(AtomicI64::new(0));
/// Events that this app-node has read and not yet committed.
pub static EVENTS_IN_HAND: Gauge = Gauge(AtomicI64::new(0));

impl Gauge {
    /// Adds one.
    pub fn increment(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// Subtracts one.
    pub fn decrement(&self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }

    /// The current value.
    pub fn get(&self) -> i64 {
        self.0.load(Ordering::Relaxed)
    }
}
