//! The namespaces of this io-node.
//!
//! Apps are bound to namespaces by name or by pattern. A namespace that matches a pattern is created with its first socket and removed with
//! its last, so that clients cannot fill the memory with names.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::RwLock;

use crate::namespace::{NamespaceSockets, SocketContext};
use plugnode_message::namespaces::Namespaces;
use plugnode_message::{Audience, NamePattern, Namespace, SessionId};

/// A namespace, or a pattern of namespaces, that an app is bound to.
#[derive(Debug, Clone)]
pub struct AppNamespace {
    /// The name or pattern.
    pub namespace: Namespace,
    /// How long the app's handler may take to admit a client. None if clients need no admission.
    pub admission: Option<Duration>,
    /// Channels whose clients are kept: each change of a client's channels among these is an event.
    pub presence: Arc<[NamePattern]>,
}

/// All namespaces.
pub struct NamespaceRegistry<S> {
    apps: Namespaces<AppNamespace>,
    context: Arc<SocketContext>,
    present: RwLock<HashMap<Namespace, Arc<NamespaceSockets<S>>>>,
}

impl<S> NamespaceRegistry<S> {
    /// The namespaces of these apps.
    ///
    /// # Errors
    /// If one is not a valid name or pattern, or two are the same.
    pub fn new(apps: Vec<AppNamespace>, context: Arc<SocketContext>) -> Result<Arc<Self>, String> {
        let mut bound = Namespaces::default();
        for app in apps {
            bound.insert(app.namespace.clone().as_str(), app)?;
        }
        Ok(Arc::new(Self {
            apps: bound,
            context,
            present: RwLock::default(),
        }))
    }

    /// Whether an app is bound to this namespace.
    pub fn is_bound(&self, namespace: &str) -> bool {
        self.apps.find(namespace).is_some()
    }

    /// Adds a socket to a namespace by `add`. None if no app is bound to it.
    pub(crate) fn add<T>(&self, namespace: &str, add: impl FnOnce(&Arc<NamespaceSockets<S>>) -> T) -> Option<T> {
        let app = self.apps.find(namespace)?;
        let namespace = Namespace::from(namespace);
        // Held meanwhile, so that the namespace is not removed before the socket is in it.
        let mut present = self.present.write();
        let sockets = present.entry(namespace.clone()).or_insert_with(|| {
            NamespaceSockets::new(namespace, app.admission, app.presence.clone(), self.context.clone())
        });
        Some(add(sockets))
    }

    /// Removes a socket.
    pub(crate) fn remove(&self, sockets: &NamespaceSockets<S>, id: &SessionId) {
        sockets.remove(id);
        if sockets.is_empty() {
            let mut present = self.present.write();
            if present
                .get(&sockets.namespace)
                .is_some_and(|sockets| sockets.is_empty())
            {
                present.remove(&sockets.namespace);
            }
        }
    }

    /// The sockets of a namespace. None if there are none.
    pub fn sockets(&self, namespace: &Namespace) -> Option<Arc<NamespaceSockets<S>>> {
        self.present.read().get(namespace).cloned()
    }

    /// The connected sockets of an audience.
    pub fn audience(&self, audience: &Audience) -> Vec<Arc<S>> {
        let sockets = self.sockets(&audience.namespace);
        sockets.map(|sockets| sockets.audience(audience)).unwrap_or_default()
    }

    /// A connected socket.
    pub fn find(&self, namespace: &Namespace, id: &SessionId) -> Option<Arc<S>> {
        self.sockets(namespace)?.find(id)
    }

    /// All connected and pending sockets of all namespaces.
    pub fn all(&self) -> Vec<Arc<S>> {
        self.present.read().values().flat_map(|sockets| sockets.all()).collect()
    }

    /// Whether there are no sockets.
    pub fn is_empty(&self) -> bool {
        self.present.read().is_empty()
    }
}
