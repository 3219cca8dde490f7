//! `[frontend]`: pages and the list of io-nodes.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::IoServerUrl;

/// `[frontend]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Frontend {
    /// Folder of the pages. Without a folder of the default name, no pages are served; a folder that is named must exist.
    pub static_dir: PathBuf,
    /// Path at which pages load the list of io-nodes as a script:
    /// `var SOCKET_SERVERS = [{"host":…,"port":…,"scheme":"https","path":"/socket.io"},…];`. The same list as JSON is beside
    /// it, at `/config.json`. The old variable `CLIENT_CONFIG_URL` sets it too.
    pub client_config_url: String,
    /// Address and port that answer the policy request of Flash clients. Unset: off.
    #[schemars(example = &"0.0.0.0:843")]
    pub flash_policy_listen: Option<String>,
    /// Io-nodes to list besides the running ones, which announce themselves: `"HOST:PORT"`, a URL, or a table of `host`,
    /// `port` and, if needed, `scheme` and `path`. The old variable `IO_SERVERS` sets it too.
    #[schemars(example = serde_json::json!([{ "host": "33.33.33.10", "port": 8081 }, "33.33.33.11:8081"]))]
    pub io_servers: Vec<IoServerUrl>,
}

impl Default for Frontend {
    fn default() -> Self {
        Self {
            static_dir: "public".into(),
            client_config_url: "/config.js".into(),
            flash_policy_listen: None,
            io_servers: Vec::new(),
        }
    }
}
