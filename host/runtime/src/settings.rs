//! What engines and pools are told: plain values, made from the configuration by others.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use super::compiler::Compiler;
use plugnode_message::{KeyValue, MOST_ATTACHMENTS, Namespace, NodeId};

/// What an [`Engine`](super::Engine) needs to know.
#[derive(Debug, Clone)]
pub struct EngineSettings {
    /// Instances of all apps together. Twice as many again may live while pools are tried and replaced by their heirs.
    pub max_instances: u32,
    /// The largest memory limit of any app, in bytes.
    pub max_memory: usize,
    /// Where compiled code is kept, in a folder `compiled` that only this user may write. None compiles anew at each start.
    pub cache: Option<PathBuf>,
    /// By whom components are compiled.
    pub compiler: Compiler,
}

/// How events are dealt out to the instances of a pool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dispatch {
    /// To the next idle instance in turn.
    #[default]
    RoundRobin,
    /// A client's events all to one instance, chosen by hash of its id.
    Sticky,
}

/// What a handler may use. An event that would need more fails, and its effects are dropped.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Bytes of memory of one instance; it keeps them between events.
    pub memory: usize,
    /// Time for one event.
    pub time: Duration,
    /// Commands and key-value writes of one event.
    pub commands: usize,
    /// Bytes of all commands and key-value writes of one event.
    pub bytes: usize,
    /// Bytes of one payload.
    pub payload: usize,
    /// Binary values of one payload.
    pub attachments: usize,
    /// Bytes of one value in a key-value bucket.
    pub value: usize,
    /// Bytes of the state that an instance hands to the one that follows it.
    pub snapshot: usize,
}

impl Default for Limits {
    /// 64 MB, 1 s, 10,000 commands, 16 MB of them, 1 MB for one payload and for one value, 10 binary values, and 16 MB for a state that is handed over.
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

/// What an app may use beyond its clients. Nothing by default.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    /// The key-value buckets it may open.
    pub keyvalue: Vec<String>,
    /// The hosts it may send HTTP requests to: `host`, which is every port of it, `host:port`, or `*` for any.
    pub http: Vec<String>,
}

/// What a [`Pool`](super::Pool) needs to know about its app.
#[derive(Clone)]
pub struct AppSettings {
    /// The namespace that the app is bound to, or the pattern of several, which is then its name.
    pub namespace: Namespace,
    /// The node that the pool is on.
    pub node: NodeId,
    /// How many instances, 1 to 64.
    pub instances: usize,
    /// How events are dealt out to them.
    pub dispatch: Dispatch,
    /// Whether its clients wait until their connection has been handled, and may be refused.
    pub admission: bool,
    /// Whether the acknowledgement of an event that becomes a dead letter is answered with the error `failed`.
    pub failure_acks: bool,
    /// What one event may use.
    pub limits: Limits,
    /// What the app may use. The component must have been loaded with the same.
    pub grants: Grants,
    /// What the handler reads by `wasi:config`.
    pub config: BTreeMap<String, String>,
    /// Where the handler's reads of `wasi:keyvalue` go.
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

/// Bytes as a person writes them in the configuration.
pub(super) fn in_words(bytes: usize) -> String {
    const UNITS: [(&str, usize, usize); 3] = [
        ("GB", 1 << 30, 1_000_000_000),
        ("MB", 1 << 20, 1_000_000),
        ("KB", 1 << 10, 1_000),
    ];
    for (unit, binary, decimal) in UNITS {
        for size in [binary, decimal] {
            if bytes >= size && bytes.is_multiple_of(size) {
                return format!("{}{unit}", bytes / size);
            }
        }
    }
    format!("{bytes} bytes")
}
