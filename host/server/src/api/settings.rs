//! `[api]`: the server API, for back offices and other systems.

use std::path::PathBuf;
use std::time::Duration;

use plugnode_settings::{Millis, Secret, Size};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::keys::Permission;

/// `[api]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ApiSettings {
    /// Address and port of the server API. It speaks plain HTTP: keep it on the loopback or an internal network, or behind a
    /// proxy that ends TLS. Unset: off.
    #[schemars(example = &"127.0.0.1:9090")]
    pub listen: Option<String>,
    /// Size of a request's body.
    pub max_body: Size,
    /// Number of items in one request.
    pub max_batch: usize,
    /// Requests that may run at once. Half of them are divided among the keys; the other half is for all keys, first come, first served. One
    /// more is answered 503.
    pub max_calls: usize,
    /// Time for the transport to accept a call; then the answer is 503.
    #[serde(rename = "accept-timeout-ms", with = "Millis")]
    pub accept_timeout: Duration,
    /// Time for an accepted call to be committed; then the answer is 202.
    #[serde(rename = "commit-timeout-ms", with = "Millis")]
    pub commit_timeout: Duration,
    /// A key of the server API. Repeat the section for each caller; in the environment, `0` is the first. SIGHUP reads the keys again.
    #[serde(rename = "key")]
    pub keys: Vec<ApiKey>,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            listen: None,
            max_body: Size(1_000_000),
            max_batch: 100,
            max_calls: 256,
            accept_timeout: Duration::from_secs(5),
            commit_timeout: Duration::from_secs(10),
            keys: Vec::new(),
        }
    }
}

/// `[[api.key]]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct ApiKey {
    /// Name of the caller, unique in the cluster: idempotency keys are kept by it.
    #[schemars(example = &"office")]
    pub name: String,
    /// The secret, of 32 bytes or more, such as `openssl rand -base64 32` makes. Better set by the variable, or kept in `key-file`.
    #[schemars(example = &"0123456789abcdef0123456789abcdef")]
    pub key: Option<Secret>,
    /// File that holds the secret and nothing else. With both, either secret is accepted: set both while you replace one.
    #[schemars(example = &"office.secret")]
    pub key_file: Option<PathBuf>,
    /// Namespaces that it may use: names, patterns such as `/shop/{id}`, or `*` for all.
    #[schemars(example = ["/"])]
    pub namespaces: Vec<String>,
    /// What it may do.
    #[schemars(example = ["publish"])]
    pub permissions: Vec<Permission>,
    /// Requests per second. One more is answered 429.
    pub calls_per_second: u32,
    /// The requests allowed in this many seconds may come at once.
    pub burst_seconds: u32,
}

impl Default for ApiKey {
    fn default() -> Self {
        Self {
            name: String::new(),
            key: None,
            key_file: None,
            namespaces: Vec::new(),
            permissions: Vec::new(),
            calls_per_second: 100,
            burst_seconds: 10,
        }
    }
}
