//! A cluster of plugnode processes over one transport: io-nodes, app-nodes and frontends, each a process of its own.

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex};

use crate::{Node, node};

/// The configuration that all processes of a cluster share. It starts processes and does not own them: each [`Node`] is killed when
/// dropped.
#[derive(Clone)]
pub struct Cluster {
    url: String,
    transport: String,
    settings: String,
    apps: String,
    started: Arc<Mutex<HashMap<String, usize>>>,
}

impl Cluster {
    /// A cluster over the transport at this URL, without apps and processes.
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            transport: String::new(),
            settings: String::new(),
            apps: String::new(),
            started: Arc::default(),
        }
    }

    /// Adds an app: its namespace, its component, and its other settings.
    pub fn app(mut self, namespace: &str, component: &Path, settings: &str) -> Self {
        self.apps += &node::app(namespace, component, settings);
        self
    }

    /// Adds lines to `[transport]`, such as `shards = 3`.
    pub fn transport(mut self, lines: &str) -> Self {
        self.transport += &format!("{lines}\n");
        self
    }

    /// Adds sections to every process's configuration, such as `[shutdown]`.
    pub fn settings(mut self, sections: &str) -> Self {
        self.settings += &format!("{sections}\n");
        self
    }

    /// The same cluster by another URL, for a process behind a [`crate::Proxy`].
    pub fn by(&self, url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ..self.clone()
        }
    }

    /// Starts the next io-node: `io-1`, `io-2` …
    pub async fn start_io(&self) -> Node {
        self.start_as("io-node", &self.next("io")).await
    }

    /// Starts the next app-node: `app-1`, `app-2` …
    pub async fn start_app(&self) -> Node {
        self.start_as("app-node", &self.next("app")).await
    }

    /// Starts the next frontend.
    pub async fn start_frontend(&self) -> Node {
        self.start_as("frontend", &self.next("frontend")).await
    }

    /// Starts a process with one role (`io-node`, `app-node`, `frontend`) under a given name, such as that of a process that ended.
    pub async fn start_as(&self, role: &str, name: &str) -> Node {
        Node::run_as(name, &self.config(role)).await
    }

    /// The configuration of a process with one role.
    pub fn config(&self, role: &str) -> String {
        let Self {
            url,
            transport,
            settings,
            apps,
            ..
        } = self;
        format!("roles = [{role:?}]\n{settings}\n[transport]\nurl = {url:?}\n{transport}\n{apps}")
    }

    fn next(&self, role: &str) -> String {
        let mut started = self.started.lock().expect("no holder of this lock panics");
        let count = started.entry(role.to_owned()).or_default();
        *count += 1;
        format!("{role}-{count}")
    }
}
