//! Settings of the Redis transport: the server, the layout of the keys, and all limits.

use std::path::PathBuf;
use std::time::Duration;

use plugnode_transport::{Backlog, DeadLetterBudget, OutboxBudget, TimerBudget};

/// Settings of the Redis transport. All nodes of a cluster use the same ones, except for the paths of TLS files.
#[derive(Clone)]
pub struct RedisSettings {
    /// URL of the server: `redis://`, `rediss://`, `redis+unix://`, `redis+sentinel://` or `redis+cluster://`.
    pub url: String,
    /// PEM files for TLS.
    pub tls: TlsFiles,
    /// Prefix of every key, so that several clusters can share one Redis.
    pub prefix: String,
    /// Number of partitions.
    pub partitions: u16,
    /// Number of shards that the partitions are spread over.
    pub shards: u16,
    /// Limit of the uncommitted events of one partition; beyond it, events are refused.
    pub backlog: Backlog,
    /// Limit of the unread commands of one io-node in one shard; beyond it, commits wait.
    pub outbox: OutboxBudget,
    /// Limit of the dead letters of one app in one shard.
    pub dead_letters: DeadLetterBudget,
    /// Maximum size of all keys and values of one bucket, in bytes.
    pub bucket_bytes: usize,
    /// Limit of the timers of an app and of a client.
    pub timers: TimerBudget,
    /// Lease TTL: a node that misses heartbeats for this long loses its name and its partitions.
    pub lease: Duration,
    /// Number of replicas that must acknowledge a change before it counts (`WAIT`).
    pub wait_replicas: u32,
    /// Whether a change counts only after an fsync, on the master and on those replicas (`WAITAOF`).
    pub wait_aof: bool,
    /// Maximum size of a component, in bytes.
    pub max_component: usize,
}

/// PEM files for TLS. By default the usual roots are trusted and no client certificate is sent.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// CA certificates to trust.
    pub ca: Option<PathBuf>,
    /// Client certificate.
    pub cert: Option<PathBuf>,
    /// Private key of the client certificate.
    pub key: Option<PathBuf>,
}

impl RedisSettings {
    /// Heartbeat interval: a thirtieth of the lease, from 20 ms to 1 s.
    pub(crate) fn heartbeat_interval(&self) -> Duration {
        (self.lease / 30).clamp(Duration::from_millis(20), Duration::from_secs(1))
    }
}
