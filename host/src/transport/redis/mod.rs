//! The Redis transport: io-nodes and app-nodes of many processes, on one machine or many, joined by Redis or Valkey.

// Until the transport is there that uses them.
#![allow(dead_code)]

mod link;
mod outage;
mod pace;
mod request;
mod script;
mod sentinel;
mod server;
mod startup;
#[cfg(test)]
mod testing;
mod trouble;
mod url;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

/// How the Redis transport is reached, and its limits. Every node of a cluster has the same, but for files and names.
#[derive(Clone)]
pub struct RedisSettings {
    /// Where: `redis://`, `rediss://`, `redis+sentinel://` or `redis+cluster://`.
    pub url: String,
    /// Files for TLS.
    pub tls: TlsFiles,
    /// What every key begins with, so that several clusters can share a Redis.
    pub prefix: String,
    /// Number of partitions.
    pub partitions: u16,
    /// Number of shards that the partitions are spread over.
    pub shards: u16,
    /// How many events that are not committed yet a partition holds before it refuses more.
    pub backlog: usize,
    /// How many of these may be of one client.
    pub client_backlog: usize,
    /// How many entries may wait for an io-node before commits wait for it.
    pub outbox: usize,
    /// How many dead letters a shard keeps.
    pub dead_letters: usize,
    /// How long a node that is not heard of keeps what it holds.
    pub lease: Duration,
    /// How many replicas must have a change before it counts.
    pub wait_replicas: u32,
    /// Whether a change counts only when it is synced to disk, on this Redis and on those replicas.
    pub wait_aof: bool,
}

/// PEM files for TLS; without them, the usual roots are trusted and no certificate is shown.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// Certificates to trust.
    pub ca: Option<PathBuf>,
    /// The certificate to show.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

/// Whether this is a URL of Redis, and else why not.
pub(super) fn check_url(url: &str) -> Result<(), String> {
    url::Location::parse(url).map(|_| ())
}
