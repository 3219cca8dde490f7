//! Settings of engines and pools. Those that a user can set are read from the configuration as they are declared here.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::compiler::Compiler;
use plugnode_message::{KeyValue, MAX_ATTACHMENTS, NamePattern, Namespace, NodeId};
use plugnode_settings::{Bytes, Millis};

/// Settings of an [`Engine`](crate::Engine).
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Instances of all apps together. Up to three times as many exist while pools are tried and replaced.
    pub max_instances: u32,
    /// Largest memory limit of any app, in bytes.
    pub max_memory: usize,
    /// Directory of the compile cache, which is its subdirectory `compiled`; only this user may be able to write to it. None
    /// uses a temporary directory, so that each start compiles anew.
    pub cache: Option<PathBuf>,
    /// The process in which components are compiled.
    pub compiler: Compiler,
}

/// How the events of an app are dispatched to the instances of its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Dispatch {
    /// To the next idle instance.
    #[default]
    RoundRobin,
    /// All events of a client to one instance, chosen by hash of its id.
    Sticky,
}

/// Limits of a handler: `[app.limits]`. An event that exceeds one fails, and its effects are dropped.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Limits {
    /// Memory of one instance, 64KiB to 4GiB.
    #[serde(with = "Bytes")]
    pub memory: usize,
    /// Time to handle one event, host calls included.
    #[serde(rename = "time-ms", with = "Millis")]
    pub time: Duration,
    /// Commands and key-value writes of one event; also the number of keys that an event which writes may read.
    pub commands: usize,
    /// Bytes of all commands and key-value writes of one event; also the size of one answer of the key-value store.
    #[serde(with = "Bytes")]
    pub bytes: usize,
    /// Bytes of one payload.
    #[serde(with = "Bytes")]
    pub payload: usize,
    /// Binary values of one payload. Socket.IO's own clients close their connection over more than 10: raise it only for clients
    /// that speak MessagePack (`io-node.parser = "msgpack"`) or have a parser with another `maxAttachments`.
    pub attachments: usize,
    /// Bytes of one value in a key-value bucket; setting a larger one fails.
    #[serde(with = "Bytes")]
    pub value: usize,
    /// HTTP requests that one instance may have open at once, from sending until the response was read or dropped. One more fails with
    /// `connection-limit-reached`.
    pub http_requests: usize,
    /// Bytes of the in-memory state that an instance hands to its successor when a new release comes into use.
    #[serde(with = "Bytes")]
    pub snapshot: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            memory: 64_000_000,
            time: Duration::from_secs(1),
            commands: 10_000,
            bytes: 16_000_000,
            payload: 4_000_000,
            attachments: MAX_ATTACHMENTS,
            value: 1_000_000,
            http_requests: 64,
            snapshot: 16_000_000,
        }
    }
}

/// What an app may access beyond its clients: `[app.grants]`. Nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Grants {
    /// Hosts that it may send HTTP requests to, such as `["api.example.com", "localhost:9000"]`; without a port, every port of
    /// the host. `"*"` is any host.
    pub http: Vec<String>,
    /// Key-value buckets that it may open, such as `["default"]`. Names that begin with `plugnode:` are reserved.
    pub keyvalue: Vec<String>,
}

/// Settings of an app's handler: keys of `[[app]]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct HandlerSettings {
    /// Instances on each app-node, 1 to 64.
    pub instances: usize,
    /// Up to this many instances on each app-node while all of them wait in host calls, such as for HTTP responses, and more events are there
    /// to handle. Extra instances end when they have had no event for 5 seconds. Unset: `instances`. None are made with `sticky` dispatch, or if
    /// the component hands its state over to the next release.
    #[schemars(example = &64)]
    pub max_instances: Option<usize>,
    /// `round-robin` gives each event to the next instance; `sticky` gives all events of a client to the same instance.
    pub dispatch: Dispatch,
    /// Whether the handler of `connection` decides which clients may connect.
    pub admission: bool,
    /// Whether a client is told that its event became a dead letter. An event that asked for an acknowledgement gets
    /// `{"error":{"code":"failed","event":"ID"}}`, with the id that `plugnode dead` shows. If false, the client gets no answer.
    pub failure_acks: bool,
    /// What the handler reads by `wasi:config`: any names, with text as values. `plugnode config show` hides the values.
    #[schemars(example = serde_json::json!({ "greeting": "hello" }))]
    pub config: BTreeMap<String, String>,
    /// Limits for handling one event. An event that exceeds one fails, and its effects are dropped.
    pub limits: Limits,
    /// What the handler may reach outside of its clients: nothing but what is listed here.
    pub grants: Grants,
    /// Channels whose clients are kept: see docs/presence.md.
    pub presence: PresenceSettings,
}

/// Presence: the section `[app.presence]`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct PresenceSettings {
    /// Channels whose clients are kept, by name, or by their beginning followed by `*`, such as `["lobby", "room/*"]`.
    #[schemars(with = "Vec<String>")]
    pub channels: Vec<NamePattern>,
    /// Whether the handler gets a `custom` event of the kind `plugnode.presence/1` when a client joins or leaves such channels.
    pub events: bool,
}

impl Default for HandlerSettings {
    fn default() -> Self {
        Self {
            instances: 4,
            max_instances: None,
            dispatch: Dispatch::RoundRobin,
            admission: false,
            failure_acks: true,
            config: BTreeMap::new(),
            limits: Limits::default(),
            grants: Grants::default(),
            presence: PresenceSettings::default(),
        }
    }
}

impl HandlerSettings {
    /// Maximum number of instances, extra ones included.
    pub fn max_instances(&self) -> usize {
        self.max_instances.unwrap_or(self.instances)
    }
}

/// What a [`Pool`](crate::Pool) is started with.
#[derive(Clone)]
pub struct AppSettings {
    /// The namespace that the app is bound to, or the pattern of several; it names the app.
    pub namespace: Namespace,
    /// The node that the pool runs on.
    pub node: NodeId,
    /// Settings of its handler. The component must have been loaded with the same grants.
    pub handler: HandlerSettings,
    /// The store that answers the handler's key-value reads.
    pub key_value: Arc<dyn KeyValue>,
}

impl fmt::Debug for AppSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppSettings")
            .field("namespace", &self.namespace)
            .field("node", &self.node)
            .field("handler", &self.handler)
            .finish_non_exhaustive()
    }
}
