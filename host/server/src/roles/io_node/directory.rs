//! The namespaces of this io-node, and who is in them.
//!
//! Apps are bound to namespaces by name or by pattern. What a pattern matches is made with its first client and goes
//! with its last, so that nobody fills the memory with names.

use std::collections::HashMap;
use std::sync::{Arc, RwLock, RwLockReadGuard, RwLockWriteGuard};

use super::AppDoor;
use super::clients::{Clients, Common};
use super::member::Member;
use plugnode_message::namespaces::Namespaces;
use plugnode_message::{Audience, Namespace, SessionId};

/// All namespaces.
pub(super) struct Directory {
    apps: Namespaces<AppDoor>,
    common: Arc<Common>,
    present: RwLock<HashMap<Namespace, Arc<Clients>>>,
}

impl Directory {
    /// # Errors
    /// When a namespace is no valid pattern, or two are the same.
    pub(super) fn new(apps: Vec<AppDoor>, common: Arc<Common>) -> Result<Arc<Self>, String> {
        let mut directory = Self {
            apps: Namespaces::default(),
            common,
            present: RwLock::default(),
        };
        for app in apps {
            directory.apps.insert(app.namespace.clone().as_str(), app)?;
        }
        Ok(Arc::new(directory))
    }

    /// Whether an app is bound to this namespace.
    pub(super) fn knows(&self, namespace: &str) -> bool {
        self.apps.find(namespace).is_some()
    }

    /// Takes a client in at the door of a namespace. None when no app is bound to that.
    pub(super) fn enter(
        &self,
        namespace: &str,
        member: impl FnOnce(&Arc<Clients>) -> Arc<Member>,
    ) -> Option<Arc<Member>> {
        let app = self.apps.find(namespace)?;
        let mut present = self.present_mut();
        let namespace = Namespace::from(namespace);
        let clients = present
            .entry(namespace.clone())
            .or_insert_with(|| Clients::new(namespace, app.admission, self.common.clone()));
        let member = member(clients);
        clients.wait_at_door(&member);
        Some(member)
    }

    /// A client is gone.
    pub(super) fn leave(&self, clients: &Clients, id: &SessionId) {
        clients.remove(id);
        // Who enters does so under the same lock.
        if clients.are_gone() {
            let mut present = self.present_mut();
            if present
                .get(&clients.namespace)
                .is_some_and(|clients| clients.are_gone())
            {
                present.remove(&clients.namespace);
            }
        }
    }

    /// The clients of a namespace, when there are any.
    pub(super) fn clients(&self, namespace: &Namespace) -> Option<Arc<Clients>> {
        self.present().get(namespace).cloned()
    }

    /// Those of an audience that are here.
    pub(super) fn audience(&self, audience: &Audience) -> Vec<Arc<Member>> {
        let clients = self.clients(&audience.namespace);
        clients.map(|clients| clients.audience(audience)).unwrap_or_default()
    }

    /// A client that is connected.
    pub(super) fn find(&self, namespace: &Namespace, id: &SessionId) -> Option<Arc<Member>> {
        self.clients(namespace)?.find(id)
    }

    /// All clients of all namespaces, also those at the door.
    pub(super) fn all(&self) -> Vec<Arc<Member>> {
        self.present().values().flat_map(|clients| clients.all()).collect()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.present().is_empty()
    }

    fn present(&self) -> RwLockReadGuard<'_, HashMap<Namespace, Arc<Clients>>> {
        self.present.read().expect("nothing panics while it holds this lock")
    }

    fn present_mut(&self) -> RwLockWriteGuard<'_, HashMap<Namespace, Arc<Clients>>> {
        self.present.write().expect("nothing panics while it holds this lock")
    }
}
