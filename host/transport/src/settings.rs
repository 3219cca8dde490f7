//! Settings that every transport has: keys of `[transport]`.

use plugnode_settings::{Bytes, flat};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Backlog, DeadLetterBudget, OutboxBudget, TimerBudget};

/// Settings that every transport has. All nodes of a cluster use the same ones.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case", remote = "Self")]
pub struct TransportSettings {
    /// Partitions that clients are spread over, 1 to 4096: the largest number of app-nodes that can share the work. All nodes of
    /// a cluster need the same number, and it cannot change while Redis holds the cluster's data.
    pub partitions: u16,
    /// Budget of the open events of each partition. Beyond it, events are refused.
    #[serde(flatten, skip_deserializing)]
    pub backlog: Backlog,
    /// Budget of each outbox. While it is full, commits wait.
    #[serde(flatten, skip_deserializing)]
    pub outbox: OutboxBudget,
    /// Budget of the dead letters of each app.
    #[serde(flatten, skip_deserializing)]
    pub dead_letters: DeadLetterBudget,
    /// Bytes of keys and values in one key-value bucket, each key counted with 64 more. An event that would add to a full bucket
    /// fails. The shards of Redis divide it evenly.
    #[serde(with = "Bytes")]
    pub bucket_bytes: usize,
    /// Budget of timers.
    #[serde(flatten, skip_deserializing)]
    pub timers: TimerBudget,
    /// Largest component that can be deployed. All nodes need the same value, because each must be able to fetch it.
    #[serde(with = "Bytes")]
    pub max_component: usize,
}
flat!(TransportSettings {
    backlog: Backlog,
    outbox: OutboxBudget,
    dead_letters: DeadLetterBudget,
    timers: TimerBudget,
});

impl Default for TransportSettings {
    fn default() -> Self {
        Self {
            partitions: 64,
            backlog: Backlog::default(),
            outbox: OutboxBudget::default(),
            dead_letters: DeadLetterBudget::default(),
            bucket_bytes: 256_000_000,
            timers: TimerBudget::default(),
            max_component: 64_000_000,
        }
    }
}
