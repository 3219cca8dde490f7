//! Budgets of outboxes, key-value buckets and timers. The budget of a partition's open events is in `backlog`.

use plugnode_settings::Bytes;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Budget of the outbox of an io-node. While it is full, commits wait. An entry holds the commands of a commit; the last one may
/// exceed the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct OutboxBudget {
    /// Entries that wait for one io-node. Beyond it, commits with commands for it wait. An io-node that stays above it for as long as
    /// `lease-ms` is removed from the cluster, and its clients reconnect. Over Redis, each shard holds as many broadcasts again, which all io-nodes share.
    #[serde(rename = "outbox")]
    pub entries: usize,
    /// Bytes of the entries in `outbox`.
    #[serde(rename = "outbox-bytes", with = "Bytes")]
    pub bytes: usize,
}

impl Default for OutboxBudget {
    fn default() -> Self {
        Self {
            entries: 100_000,
            bytes: 64_000_000,
        }
    }
}

/// Bytes that a key takes in a bucket beside itself and its value, about.
pub const KEY_BYTES: usize = 64;

/// The error of an event that would overfill a bucket.
pub fn full_bucket(name: &str, bytes: usize, most: usize) -> String {
    format!("bucket {name:?} is full: it has {bytes} of {most} bytes; delete keys, or raise [transport] bucket-bytes")
}

/// Budget of timers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TimerBudget {
    /// Timers that one app may have set; an event that sets more fails. The shards of Redis divide it evenly.
    #[serde(rename = "timers")]
    pub of_app: usize,
    /// Timers within `timers` that belong to one client.
    #[serde(rename = "client-timers")]
    pub of_client: usize,
}

impl Default for TimerBudget {
    fn default() -> Self {
        Self {
            of_app: 100_000,
            of_client: 100,
        }
    }
}

impl TimerBudget {
    /// The error of an event that would exceed the budget.
    pub fn exceeded(self, present: &str) -> String {
        let Self { of_app, of_client } = self;
        format!(
            "too many timers: {present} are set, and an app may have {of_app}, a client {of_client}; cancel some, or raise \
             [transport] timers or client-timers"
        )
    }
}
