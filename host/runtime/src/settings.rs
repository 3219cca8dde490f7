//! Settings of engines and pools: plain values, which the server makes from the configuration.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::compiler::Compiler;
use plugnode_message::{KeyValue, MOST_ATTACHMENTS, Namespace, NodeId};

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
    /// Where components are compiled.
    pub compiler: Compiler,
}

/// How the events of an app are dispatched to the instances of its pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dispatch {
    /// To the next idle instance.
    #[default]
    RoundRobin,
    /// All events of a client to one instance, chosen by hash of its id.
    Sticky,
}

/// Limits of a handler. An event that exceeds one fails, and its effects are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Memory of one instance, in bytes.
    pub memory: usize,
    /// Time limit of one event.
    pub time: Duration,
    /// Most commands and key-value writes of one event.
    pub commands: usize,
    /// Most bytes of all commands and key-value writes of one event.
    pub bytes: usize,
    /// Largest payload, in bytes.
    pub payload: usize,
    /// Most attachments of one payload.
    pub attachments: usize,
    /// Largest value in a key-value bucket, in bytes.
    pub value: usize,
    /// Largest state that an instance hands over to its successor, in bytes.
    pub snapshot: usize,
}

impl Default for Limits {
    /// Memory 64 MB, time 1 s, 10,000 commands of 16 MB together, payload and value 1 MB, 10 attachments, snapshot 16 MB.
    fn default() -> Self {
        Self {
            memory: 64 << 20,
            time: Duration::from_secs(1),
            commands: 10_000,
            bytes: 16 << 20,
            payload: 1 << 20,
            attachments: MOST_ATTACHMENTS,
            value: 1 << 20,
            snapshot: 16 << 20,
        }
    }
}

/// What an app may access beyond its clients. Nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// The key-value buckets it may open.
    pub keyvalue: Vec<String>,
    /// The hosts it may send HTTP requests to: `host` for all of its ports, `host:port`, or `*` for any host.
    pub http: Vec<String>,
}

/// Settings of a [`Pool`](crate::Pool).
#[derive(Clone)]
pub struct AppSettings {
    /// The namespace that the app is bound to, or the pattern of several; it names the app.
    pub namespace: Namespace,
    /// The node that the pool runs on.
    pub node: NodeId,
    /// Number of instances, 1 to 64.
    pub instances: usize,
    /// How events are dispatched to them.
    pub dispatch: Dispatch,
    /// Whether clients wait until their connection event was handled, and can be refused.
    pub admission: bool,
    /// Whether the acknowledgement of an event that becomes a dead letter is answered with the error `failed`.
    pub failure_acks: bool,
    /// Limits of its handler.
    pub limits: Limits,
    /// Its grants. The component must have been loaded with the same.
    pub grants: Grants,
    /// What the handler reads through `wasi:config`.
    pub config: BTreeMap<String, String>,
    /// The store that answers the handler's key-value reads.
    pub key_value: Arc<dyn KeyValue>,
}

impl fmt::Debug for AppSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AppSettings")
            .field("namespace", &self.namespace)
            .field("node", &self.node)
            .field("instances", &self.instances)
            .field("dispatch", &self.dispatch)
            .field("admission", &self.admission)
            .field("failure_acks", &self.failure_acks)
            .field("limits", &self.limits)
            .field("grants", &self.grants)
            .finish_non_exhaustive()
    }
}
