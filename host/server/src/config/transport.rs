//! `[transport]`: what connects io-nodes and app-nodes.

use std::path::PathBuf;
use std::time::Duration;

use plugnode_process::settings::{Millis, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[transport]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Transport {
    /// `memory:` connects the roles of one process. Redis 7.0 or newer, or Valkey, connects processes on many machines:
    ///
    /// - `redis://[[USER]:PASSWORD@]HOST[:6379][/DATABASE]`: one server; `rediss://` with TLS
    /// - `redis+unix:///PATH/TO/SOCKET[?db=DATABASE]`: one server on this machine
    /// - `redis+sentinel://[[USER]:PASSWORD@]HOST[:26379],HOST…/MASTER[/DATABASE]`: the master that Sentinels name; log in
    ///   to these with `?sentinel-user=…&sentinel-password=…`; `rediss+sentinel://` with TLS
    /// - `redis+cluster://[[USER]:PASSWORD@]HOST[:6379],HOST…`: a Redis Cluster; `rediss+cluster://` with TLS
    ///
    /// In user and password, percent-encode everything but letters and digits (`%2F`). To keep the password out of the file, set
    /// the variable, or the old ones `REDIS_HOST`, `REDIS_PORT`, `REDIS_PASSWORD` and `REDIS_DB`.
    pub url: String,
    /// Prefix of every key in Redis. Several clusters can share one Redis under different prefixes.
    pub prefix: String,
    /// Prefix of the channels of emitters, which they call `key`: `socket.io` by default. Io-nodes then receive what other programs publish
    /// through `@socket.io/redis-emitter` in the Redis of `url`. Unset: they do not.
    #[schemars(example = &"socket.io")]
    pub emitter: Option<String>,
    /// Partitions that clients are spread over, 1 to 4096: the largest number of app-nodes that can share the work. All nodes of
    /// a cluster need the same number, and it cannot change while Redis holds the cluster's data.
    pub partitions: u16,
    /// Hash slots of Redis that the partitions are spread over, no more than `partitions`. Use 1 without Redis Cluster, else as
    /// many as the cluster has masters, or a small multiple. All nodes need the same number, and it cannot change later.
    pub shards: u16,
    /// Events of one partition that are accepted but not yet committed. Beyond it, reading from clients is slowed.
    pub backlog: usize,
    /// Bytes of the events in `backlog`. A larger event is accepted when its partition holds nothing else.
    pub backlog_bytes: Size,
    /// Events of one client within `backlog`. The share shrinks for all clients while the partition is more than half
    /// full, and the last eighth is kept for clients with no event in it, so a busy client cannot shut others out.
    pub client_backlog: usize,
    /// Bytes of one client's events within `backlog-bytes`.
    pub client_backlog_bytes: Size,
    /// Entries that wait for one io-node. Beyond it, commits of handlers wait. An io-node that stays above it for as long as
    /// `lease-ms` is removed from the cluster, and its clients reconnect.
    pub outbox: usize,
    /// Bytes of the entries in `outbox`.
    pub outbox_bytes: Size,
    /// Dead letters kept for each app in each shard; the oldest are dropped first. One client has a tenth of it at most, and
    /// beyond that its own oldest are dropped.
    pub dead_letters: usize,
    /// Bytes of the letters in `dead-letters`.
    pub dead_letters_bytes: Size,
    /// Bytes of keys and values in one key-value bucket, each key counted with 64 more. An event that would add to a full bucket
    /// fails. The shards of Redis divide it evenly.
    pub bucket_bytes: Size,
    /// Timers that one app may have set; an event that sets more fails. The shards of Redis divide it evenly.
    pub timers: usize,
    /// Timers within `timers` that belong to one client.
    pub client_timers: usize,
    /// Largest component that can be deployed. All nodes need the same value, because each must be able to fetch it.
    pub max_component: Size,
    /// Lease TTL, at least 500: a node that misses heartbeats for this long loses its partitions, or its clients, to others. A
    /// shorter lease finds dead nodes sooner, and mistakes slow ones for dead more often.
    #[serde(rename = "lease-ms", with = "Millis")]
    pub lease: Duration,
    /// Replicas of Redis that must confirm a change before it counts. Each makes every event slower, and loss of data less
    /// likely when a Redis server fails.
    pub wait_replicas: u32,
    /// Whether a change counts only once Redis has written it to disk. Needs `appendonly yes` and Redis 7.2 or Valkey.
    pub wait_aof: bool,
    /// PEM file with the certificates to trust for `rediss://`. Unset: those that browsers trust.
    #[schemars(example = &"ca.pem")]
    pub tls_ca: Option<PathBuf>,
    /// PEM file with the client certificate, when Redis asks for one. Needs `tls-key`.
    #[schemars(example = &"plugnode.pem")]
    pub tls_cert: Option<PathBuf>,
    /// PEM file with the private key of `tls-cert`.
    #[schemars(example = &"plugnode.key")]
    pub tls_key: Option<PathBuf>,
}

impl Default for Transport {
    fn default() -> Self {
        Self {
            url: "memory:".into(),
            prefix: "plugnode".into(),
            emitter: None,
            partitions: 64,
            shards: 1,
            backlog: 10_000,
            backlog_bytes: Size(64_000_000),
            client_backlog: 256,
            client_backlog_bytes: Size(4_000_000),
            outbox: 100_000,
            outbox_bytes: Size(64_000_000),
            dead_letters: 10_000,
            dead_letters_bytes: Size(64_000_000),
            bucket_bytes: Size(plugnode_transport::BUCKET_BYTES as u64),
            timers: 100_000,
            client_timers: 100,
            max_component: Size(64_000_000),
            lease: Duration::from_secs(3),
            wait_replicas: 0,
            wait_aof: false,
            tls_ca: None,
            tls_cert: None,
            tls_key: None,
        }
    }
}
