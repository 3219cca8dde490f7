//! `[admin]`, `[memory]`, `[shutdown]` and `[log]`: settings of the process, for any role.

use std::path::PathBuf;
use std::time::Duration;

use plugnode_settings::{Millis, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[admin]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Admin {
    /// Address and port for operators, apart from clients: `/healthz`, `/readyz`, which names each check, and `/metrics` for
    /// Prometheus. It speaks plain HTTP without authentication, and answers until the process ends. Give each process of one
    /// host its own by the variable. Unset: off.
    #[schemars(example = &"127.0.0.1:9180")]
    pub listen: Option<String>,
    /// Unix socket by which `plugnode deploy`, `rollback`, `status`, `releases` and `dead` reach this process when the transport
    /// is `memory:`; over Redis they need no socket. Only this user and root can use it. Its folder is created, and must not be
    /// writable by others. `""` is off. Unset: `8080.sock` (the port of `http.listen`) in `plugnode` in `$XDG_RUNTIME_DIR`, or
    /// in `/tmp/plugnode-UID`.
    #[schemars(example = &"plugnode.sock")]
    pub socket: Option<PathBuf>,
}

/// `[memory]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Memory {
    /// Memory of this process, without that of cached files. From 85 % of it, clients are read more slowly. At 100 %, new clients
    /// and requests for pages are answered 503 and `/readyz` fails; connected clients stay. 0 is no limit. Unset: 80 % of the
    /// memory of the machine or of the process's cgroup.
    #[schemars(example = &"2GB")]
    pub budget: Option<Size>,
}

/// `[shutdown]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Shutdown {
    /// Time after SIGTERM in which new clients are still accepted. Meanwhile `/readyz` is 503, `/config.js` no longer lists the
    /// io-node, and responses ask to close their connections. Set it longer than your load balancer takes to notice; 0
    /// suits a process without one. Ctrl-C and a process that is only an app-node skip it.
    #[serde(rename = "lame-duck-ms", with = "Millis")]
    pub lame_duck: Duration,
    /// Time after that to finish work in hand. Events already read are answered before their connection is closed. Io-nodes end
    /// first, then app-nodes of the same process. With the transport `memory:`, events still unhandled one second before the
    /// deadline (or a quarter of it, if less) are lost; the log says how many.
    #[serde(rename = "deadline-ms", with = "Millis")]
    pub deadline: Duration,
}

impl Default for Shutdown {
    fn default() -> Self {
        Self {
            lame_duck: Duration::from_secs(2),
            deadline: Duration::from_secs(10),
        }
    }
}

/// `[log]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Log {
    /// Format of the lines on standard error: `text` for people, `json` for machines.
    pub format: LogFormat,
    /// Least severe level that is written. `RUST_LOG` overrides it, and can set levels per module.
    pub level: LogLevel,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            format: LogFormat::Text,
            level: LogLevel::Info,
        }
    }
}

/// Format of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Severity of a log line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum LogLevel {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}
