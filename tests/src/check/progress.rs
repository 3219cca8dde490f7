//! Live counters of a run.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Counters of a run. All grow only, except `connected` and `outstanding`.
#[derive(Debug)]
pub struct Progress {
    begun: Instant,
    sent: AtomicU64,
    acked: AtomicU64,
    refused: AtomicU64,
    received: AtomicU64,
    connected: AtomicI64,
    lost: AtomicU64,
    outstanding: AtomicI64,
    received_at: AtomicU64,
}

impl Progress {
    pub(super) fn new() -> Self {
        Self {
            begun: Instant::now(),
            sent: AtomicU64::default(),
            acked: AtomicU64::default(),
            refused: AtomicU64::default(),
            received: AtomicU64::default(),
            connected: AtomicI64::default(),
            lost: AtomicU64::default(),
            outstanding: AtomicI64::default(),
            received_at: AtomicU64::default(),
        }
    }

    /// Microseconds since the start: the clock of the history.
    pub fn now(&self) -> u64 {
        self.begun.elapsed().as_micros() as u64
    }

    /// Messages sent.
    pub fn sent(&self) -> u64 {
        self.sent.load(Relaxed)
    }

    /// Messages acknowledged.
    pub fn acked(&self) -> u64 {
        self.acked.load(Relaxed)
    }

    /// Messages refused.
    pub fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Deliveries to clients.
    pub fn received(&self) -> u64 {
        self.received.load(Relaxed)
    }

    /// Clients that are connected.
    pub fn connected(&self) -> u64 {
        self.connected.load(Relaxed).max(0) as u64
    }

    /// Connections that were lost, not ended by their clients.
    pub fn lost(&self) -> u64 {
        self.lost.load(Relaxed)
    }

    /// Messages of connected clients that are neither handled nor refused yet, as far as their clients know.
    pub fn outstanding(&self) -> u64 {
        self.outstanding.load(Relaxed).max(0) as u64
    }

    /// Time since the last delivery to any client.
    pub fn silence(&self) -> Duration {
        Duration::from_micros(self.now().saturating_sub(self.received_at.load(Relaxed)))
    }

    pub(super) fn has_connected(&self) {
        self.connected.fetch_add(1, Relaxed);
    }

    pub(super) fn has_ended(&self, outstanding: i64, lost: bool) {
        self.connected.fetch_sub(1, Relaxed);
        self.outstanding.fetch_sub(outstanding, Relaxed);
        self.lost.fetch_add(u64::from(lost), Relaxed);
    }

    pub(super) fn has_sent(&self) {
        self.sent.fetch_add(1, Relaxed);
        self.outstanding.fetch_add(1, Relaxed);
    }

    pub(super) fn has_settled(&self, messages: i64) {
        self.outstanding.fetch_sub(messages, Relaxed);
    }

    pub(super) fn has_received(&self) {
        self.received.fetch_add(1, Relaxed);
        self.received_at.store(self.now(), Relaxed);
    }

    pub(super) fn has_been_acked(&self) {
        self.acked.fetch_add(1, Relaxed);
    }

    pub(super) fn has_been_refused(&self) {
        self.refused.fetch_add(1, Relaxed);
    }
}
