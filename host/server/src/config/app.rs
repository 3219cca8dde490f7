//! `[[app]]`: a namespace bound to a component. Its limits and grants are settings of the runtime.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use plugnode_message::{KeyValue, NodeId};
use plugnode_runtime::{AppSettings, Dispatch, Grants, Limits};
use plugnode_settings::Millis;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// `[[app]]`: a namespace bound to a component.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct App {
    /// Socket.IO namespace. `{name}` stands for one segment, `{*name}` at the end for all that follow: `/shop/{id}` is for
    /// `/shop/1` and `/shop/2`. An app with the exact name comes before one with a pattern.
    pub namespace: String,
    /// The `.wasm` file, which becomes the app's first release. Required. Later releases come from `plugnode deploy`, also for
    /// nodes that start afterwards; over Redis the file is then no longer needed.
    #[schemars(example = &"chat.wasm")]
    pub component: PathBuf,
    /// Whether this process deploys the file each time it changes, as an alternative to `plugnode deploy`. Write the new file
    /// under another name and rename it, so that it is never read half written.
    pub watch: bool,
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
    /// Time for that decision; a client without one by then is refused.
    #[serde(rename = "admission-timeout-ms", with = "Millis")]
    pub admission_timeout: Duration,
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
}

impl App {
    /// The settings of its pool on the app-node `node`.
    pub fn settings(&self, node: &NodeId, key_value: Arc<dyn KeyValue>) -> AppSettings {
        AppSettings {
            admission: self.admission,
            failure_acks: self.failure_acks,
            namespace: self.namespace.as_str().into(),
            node: node.clone(),
            instances: self.instances,
            max_instances: self.max_instances.unwrap_or(self.instances),
            dispatch: self.dispatch,
            limits: self.limits.clone(),
            grants: self.grants.clone(),
            config: self.config.clone(),
            key_value,
        }
    }
}

impl Default for App {
    fn default() -> Self {
        Self {
            namespace: "/".into(),
            component: PathBuf::new(),
            watch: false,
            instances: 4,
            max_instances: None,
            dispatch: Dispatch::RoundRobin,
            admission: false,
            admission_timeout: Duration::from_secs(5),
            failure_acks: true,
            config: BTreeMap::new(),
            limits: Limits::default(),
            grants: Grants::default(),
        }
    }
}
