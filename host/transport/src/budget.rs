//! Budgets of outboxes, key-value buckets and timers. The budget of a partition's open events is in `backlog`.

/// Budget of the outbox of an io-node. While it is full, commits wait.
#[derive(Debug, Clone, Copy)]
pub struct OutboxBudget {
    /// Number of entries; an entry holds the commands of a commit.
    pub entries: usize,
    /// Bytes. The last entry may exceed it.
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

/// Default of the maximum size of a bucket, keys and values, in bytes.
pub const BUCKET_BYTES: usize = 256_000_000;
/// Bytes that a key takes in a bucket beside itself and its value, about.
pub const KEY_BYTES: usize = 64;

/// The error of an event that would overfill a bucket.
pub fn full_bucket(name: &str, bytes: usize, most: usize) -> String {
    format!("bucket {name:?} is full: it has {bytes} of {most} bytes; delete keys, or raise [transport] bucket-bytes")
}

/// Budget of timers.
#[derive(Debug, Clone, Copy)]
pub struct TimerBudget {
    /// Timers of an app.
    pub of_app: usize,
    /// Timers of a client.
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
