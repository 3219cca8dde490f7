//! Limits of the transport in memory.

use crate::{BUCKET_BYTES, Backlog, DeadLetterBudget, OutboxBudget, TimerBudget};

/// Limits of the transport in memory.
#[derive(Debug, Clone)]
pub struct MemorySettings {
    /// Number of partitions.
    pub partitions: u16,
    /// Budget of open events of each partition. Beyond it, events are refused.
    pub backlog: Backlog,
    /// Budget of dead letters.
    pub dead_letters: DeadLetterBudget,
    /// Maximum size of a bucket, keys and values, in bytes.
    pub bucket_bytes: usize,
    /// Budget of timers.
    pub timers: TimerBudget,
    /// Budget of each outbox. While it is full, commits wait.
    pub outbox: OutboxBudget,
    /// Maximum size of a component, in bytes.
    pub max_component: usize,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self {
            partitions: 64,
            backlog: Backlog::default(),
            dead_letters: DeadLetterBudget::default(),
            bucket_bytes: BUCKET_BYTES,
            timers: TimerBudget::default(),
            outbox: OutboxBudget::default(),
            max_component: 64_000_000,
        }
    }
}
