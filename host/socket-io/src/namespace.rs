//! The sockets of one namespace on this io-node, and their rooms.
//!
//! `S` is the type of sockets; a namespace uses only their ids.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::RwLock;

use crate::codec::Codec;
use crate::incarnation::CurrentIncarnation;
use plugnode_message::id_map::{ById, Ids};
use plugnode_message::{Audience, Channel, NamePattern, Namespace, NodeId, Scope, SessionId};
use plugnode_process::metrics;

/// The context that all sockets of an io-node share.
pub struct SocketContext {
    /// The name of the io-node.
    pub io_node: NodeId,
    /// Encodes and decodes their packets.
    pub codec: Codec,
    /// The incarnation that new sockets belong to.
    pub incarnation: Arc<CurrentIncarnation>,
    /// Rooms that a socket may be in.
    pub max_rooms: AtomicUsize,
}

/// The sockets of one namespace.
pub struct NamespaceSockets<S> {
    /// The namespace.
    pub namespace: Namespace,
    /// The context that all sockets of the io-node share.
    pub context: Arc<SocketContext>,
    /// How long a handler may take to admit a socket. None if sockets need no admission.
    pub(crate) admission: Option<Duration>,
    /// Rooms whose members are kept.
    presence: Arc<[NamePattern]>,
    sockets: RwLock<Sockets<S>>,
}

struct Sockets<S> {
    /// They wait to be admitted, or left before the handler decided.
    pending: ById<SessionId, Arc<S>>,
    connected: ById<SessionId, Arc<S>>,
    rooms: HashMap<Channel, Ids<SessionId>>,
    /// The rooms of each socket.
    rooms_of: ById<SessionId, HashSet<Channel>>,
}

/// A socket would exceed its limit of rooms.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the socket would be in more rooms than it may")]
pub struct TooManyRooms;

impl<S> NamespaceSockets<S> {
    /// A namespace without sockets.
    pub fn new(
        namespace: Namespace,
        admission: Option<Duration>,
        presence: Arc<[NamePattern]>,
        context: Arc<SocketContext>,
    ) -> Arc<Self> {
        let sockets = Sockets {
            pending: ById::default(),
            connected: ById::default(),
            rooms: HashMap::new(),
            rooms_of: ById::default(),
        };
        Arc::new(Self {
            namespace,
            context,
            admission,
            presence,
            sockets: RwLock::new(sockets),
        })
    }

    /// Adds a socket that is not admitted yet.
    pub(crate) fn add_pending(&self, id: SessionId, socket: Arc<S>) {
        self.sockets.write().pending.insert(id, socket);
    }

    /// Adds a socket that is connected. `announce`, which tells its client so, runs in the same step.
    pub(crate) fn add_connected(&self, id: SessionId, socket: Arc<S>, announce: impl FnOnce()) {
        let mut sockets = self.sockets.write();
        announce();
        sockets.pending.remove(&id);
        if sockets.connected.insert(id, socket).is_none() {
            metrics::CLIENTS.increment();
        }
    }

    /// Removes a socket from the namespace and from its rooms.
    pub(crate) fn remove(&self, id: &SessionId) {
        let mut sockets = self.sockets.write();
        sockets.pending.remove(id);
        if sockets.connected.remove(id).is_some() {
            metrics::CLIENTS.decrement();
        }
        for room in sockets.rooms_of.remove(id).into_iter().flatten() {
            sockets.leave(&room, id);
        }
    }

    /// A connected socket.
    pub fn find(&self, id: &SessionId) -> Option<Arc<S>> {
        self.sockets.read().connected.get(id).cloned()
    }

    /// A connected or pending socket.
    pub fn find_pending(&self, id: &SessionId) -> Option<Arc<S>> {
        let sockets = self.sockets.read();
        sockets.pending.get(id).or_else(|| sockets.connected.get(id)).cloned()
    }

    /// All connected sockets.
    pub fn connected(&self) -> Vec<Arc<S>> {
        self.sockets.read().connected.values().cloned().collect()
    }

    /// All connected and pending sockets.
    pub fn all(&self) -> Vec<Arc<S>> {
        let sockets = self.sockets.read();
        let all = sockets.connected.values().chain(sockets.pending.values());
        all.cloned().collect()
    }

    /// Whether there are no sockets.
    pub fn is_empty(&self) -> bool {
        let sockets = self.sockets.read();
        sockets.connected.is_empty() && sockets.pending.is_empty()
    }

    /// The connected sockets of an audience, each once.
    pub fn audience(&self, audience: &Audience) -> Vec<Arc<S>> {
        let sockets = self.sockets.read();
        if let Some(id) = audience.only_client() {
            return sockets.connected.get(id).cloned().into_iter().collect();
        }
        let mut excluded: Ids<&SessionId> = audience.except.clients.iter().collect();
        for room in &audience.except.channels {
            excluded.extend(sockets.rooms.get(room).into_iter().flatten());
        }
        let is_included = |id: &SessionId| excluded.is_empty() || !excluded.contains(id);
        let selection = match &audience.to {
            Scope::All => {
                let all = sockets.connected.iter().filter(|(id, _)| is_included(id));
                return all.map(|(_, socket)| socket.clone()).collect();
            }
            Scope::Only(selection) => selection,
        };
        let in_rooms = selection.channels.iter().filter_map(|room| sockets.rooms.get(room));
        let ids = selection.clients.iter().chain(in_rooms.flatten());
        let mut seen = Ids::default();
        let is_unique = selection.channels.len() + selection.clients.len() == 1;
        ids.filter(|id| is_included(id) && (is_unique || seen.insert(*id)))
            .filter_map(|id| sockets.connected.get(id).cloned())
            .collect()
    }

    /// Adds a socket to rooms. One that is not connected is ignored. Returns the rooms with presence that are new to it.
    ///
    /// # Errors
    /// If it would be in too many rooms; then it is added to none.
    pub fn join_rooms(&self, id: &SessionId, rooms: &[Channel]) -> Result<Vec<Channel>, TooManyRooms> {
        let sockets = &mut *self.sockets.write();
        if !sockets.connected.contains_key(id) {
            return Ok(Vec::new());
        }
        let joined = sockets.rooms_of.entry(id.clone()).or_default();
        let new = rooms.iter().filter(|room| !joined.contains(*room)).count();
        if joined.len() + new > self.context.max_rooms.load(Ordering::Relaxed) {
            return Err(TooManyRooms);
        }
        let mut present = Vec::new();
        for room in rooms {
            if joined.insert(room.clone()) {
                sockets.rooms.entry(room.clone()).or_default().insert(id.clone());
                if self.has_presence(room) {
                    present.push(room.clone());
                }
            }
        }
        Ok(present)
    }

    /// Removes a socket from rooms. Returns those with presence that it was in.
    pub fn leave_rooms(&self, id: &SessionId, rooms: &[Channel]) -> Vec<Channel> {
        let sockets = &mut *self.sockets.write();
        let Some(joined) = sockets.rooms_of.get_mut(id) else {
            return Vec::new();
        };
        let left: Vec<_> = rooms.iter().filter(|room| joined.remove(room)).collect();
        if joined.is_empty() {
            sockets.rooms_of.remove(id);
        }
        left.iter().for_each(|room| sockets.leave(room, id));
        left.into_iter()
            .filter(|room| self.has_presence(room))
            .cloned()
            .collect()
    }

    fn has_presence(&self, room: &Channel) -> bool {
        self.presence.iter().any(|pattern| pattern.matches(room.as_str()))
    }

    /// The rooms of a socket.
    pub fn rooms_of(&self, id: &SessionId) -> Vec<Channel> {
        let sockets = self.sockets.read();
        sockets.rooms_of.get(id).into_iter().flatten().cloned().collect()
    }

    /// How many rooms there are, and at most `limit` of them with the number of their sockets.
    pub fn rooms(&self, limit: usize) -> (usize, Vec<(Channel, u32)>) {
        let rooms = &self.sockets.read().rooms;
        let counted = rooms
            .iter()
            .take(limit)
            .map(|(room, ids)| (room.clone(), ids.len() as u32));
        (rooms.len(), counted.collect())
    }
}

impl<S> Sockets<S> {
    fn leave(&mut self, room: &Channel, id: &SessionId) {
        if let Some(ids) = self.rooms.get_mut(room) {
            ids.remove(id);
            if ids.is_empty() {
                self.rooms.remove(room);
            }
        }
    }
}
