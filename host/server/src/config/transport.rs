//! `[transport]`: what connects io-nodes and app-nodes.

use plugnode_settings::flat;
use plugnode_transport_redis::RedisSettings;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The URL of the transport in the memory of one process.
const MEMORY: &str = "memory:";

/// `[transport]`: which transport, and its settings. Memory has fewer of them than Redis.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case", remote = "Self")]
pub struct TransportSection {
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
    /// The settings of Redis; memory uses those that every transport has.
    #[serde(flatten, skip_deserializing)]
    pub redis: RedisSettings,
}
flat!(TransportSection { redis: RedisSettings });

impl TransportSection {
    /// Whether it is the memory of one process.
    pub fn is_memory(&self) -> bool {
        self.url == MEMORY
    }
}

impl Default for TransportSection {
    fn default() -> Self {
        Self {
            url: MEMORY.into(),
            redis: RedisSettings::default(),
        }
    }
}
