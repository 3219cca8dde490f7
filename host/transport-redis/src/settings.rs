//! Settings of the Redis transport: keys of `[transport]`. The URL of the server is given beside them.

use std::path::PathBuf;
use std::time::Duration;

use plugnode_settings::{Millis, flat};
use plugnode_transport::TransportSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Settings of the Redis transport. All nodes of a cluster use the same ones, except for the paths of TLS files.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case", remote = "Self")]
pub struct RedisSettings {
    /// Prefix of every key in Redis. Several clusters can share one Redis under different prefixes.
    pub prefix: String,
    /// Hash slots of Redis that the partitions are spread over, no more than `partitions`. Use 1 without Redis Cluster, else as
    /// many as the cluster has masters, or a small multiple. All nodes need the same number, and it cannot change later.
    pub shards: u16,
    /// Settings that every transport has.
    #[serde(flatten, skip_deserializing)]
    pub common: TransportSettings,
    /// Lease TTL, at least 500: a node that misses heartbeats for this long loses its partitions, or its clients, to others. A
    /// shorter lease finds dead nodes sooner, and mistakes slow ones for dead more often.
    #[serde(rename = "lease-ms", with = "Millis")]
    pub lease: Duration,
    /// Replicas of Redis that must confirm a change before it counts. Each makes every event slower, and loss of data less
    /// likely when a Redis server fails.
    pub wait_replicas: u32,
    /// Whether a change counts only once Redis has written it to disk. Needs `appendonly yes` and Redis 7.2 or Valkey.
    pub wait_aof: bool,
    /// PEM files for TLS.
    #[serde(flatten, skip_deserializing)]
    pub tls: TlsFiles,
}
flat!(RedisSettings {
    common: TransportSettings,
    tls: TlsFiles,
});

impl Default for RedisSettings {
    fn default() -> Self {
        Self {
            prefix: "plugnode".into(),
            shards: 1,
            common: TransportSettings::default(),
            lease: Duration::from_secs(3),
            wait_replicas: 0,
            wait_aof: false,
            tls: TlsFiles::default(),
        }
    }
}

/// PEM files for TLS. By default the usual roots are trusted and no client certificate is sent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsFiles {
    /// PEM file with the certificates to trust for `rediss://`. Unset: those that browsers trust.
    #[serde(rename = "tls-ca")]
    #[schemars(example = &"ca.pem")]
    pub ca: Option<PathBuf>,
    /// PEM file with the client certificate, when Redis asks for one. Needs `tls-key`.
    #[serde(rename = "tls-cert")]
    #[schemars(example = &"plugnode.pem")]
    pub cert: Option<PathBuf>,
    /// PEM file with the private key of `tls-cert`.
    #[serde(rename = "tls-key")]
    #[schemars(example = &"plugnode.key")]
    pub key: Option<PathBuf>,
}

impl RedisSettings {
    /// Heartbeat interval while the cluster changes: a thirtieth of the lease, from 20 ms to 1 s.
    pub(crate) fn heartbeat_interval(&self) -> Duration {
        (self.lease / 30).clamp(Duration::from_millis(20), Duration::from_secs(1))
    }

    /// Heartbeat interval of a cluster that does not change: a tenth of the lease, to 3 s.
    pub(crate) fn idle_heartbeat_interval(&self) -> Duration {
        (self.lease / 10).clamp(self.heartbeat_interval(), Duration::from_secs(3))
    }
}
