//! A connection: one session of Engine.IO, which the sockets of one client in several namespaces share.
//!
//! `S` is the type of sockets; a connection uses nothing of it.

use std::any::Any;
use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::{Arc, Weak};

use parking_lot::{Mutex, RwLock};
use tokio::task::AbortHandle;
use tokio::time::sleep_until;

use crate::backpressure::{Backpressure, ConnectionLimits};
use crate::codec::{PartialPacket, Revision};
use crate::encoded::EncodedPacket;
use crate::send_rate::Flood;
use plugnode_message::{Handshake, Namespace, Text};

/// Namespaces that one connection may be joining at a time, while its tokens wait for a key.
const MAX_JOINING: usize = 16;
/// Namespaces that a connection is known to have left.
const MAX_LEFT: usize = 16;

/// All connections of this io-node.
pub struct Connections<S> {
    limits: RwLock<ConnectionLimits>,
    known: Mutex<Known<S>>,
}

struct Known<S> {
    by_number: HashMap<u64, Weak<Connection<S>>>,
    last_number: u64,
}

/// A connection.
pub struct Connection<S> {
    /// The revision of the protocol that its client uses.
    pub revision: Revision,
    /// The packet whose attachments have not all arrived.
    pub partial: PartialPacket,
    engine: engine_io::Session,
    state: Mutex<State<S>>,
    opening: Mutex<SharedOpening>,
    backpressure: Mutex<Backpressure>,
    number: u64,
    connections: Weak<Connections<S>>,
    /// Its share of a limit, released with the connection.
    _permit: Option<Box<dyn Any + Send + Sync>>,
}

struct State<S> {
    /// Seldom more than one. The client chooses the names.
    sockets: HashMap<Name, Arc<S>>,
    /// Closes the connection if it joins no namespace in time.
    join_deadline: Option<AbortHandle>,
    has_joined: bool,
    is_closed: bool,
    /// Namespaces that it is joining: the client's token is being verified.
    joining: Vec<Box<str>>,
    /// The namespaces that it left last. Packets for them may be on their way, sent before the client heard that it is disconnected.
    left: Vec<Namespace>,
    /// Closes the connection when a token expires: the one that was shown last.
    expiry: Option<AbortHandle>,
}

/// A namespace that can be looked up as a string.
#[derive(PartialEq, Eq, Hash)]
struct Name(Namespace);

/// Query and headers of the opening request. The handshakes of a connection share them as long as one is on its way.
#[derive(Default)]
struct SharedOpening {
    query: Option<Weak<str>>,
    headers: Option<Weak<[(String, String)]>>,
}

impl<S: Send + Sync + 'static> Connections<S> {
    /// No connections yet; each that opens gets these limits.
    pub fn new(limits: ConnectionLimits) -> Arc<Self> {
        Arc::new(Self {
            limits: RwLock::new(limits),
            known: Mutex::new(Known {
                by_number: HashMap::new(),
                last_number: 0,
            }),
        })
    }

    /// Changes the limit of events for connections that open from now on.
    pub fn set_events_per_second(&self, limit: Option<u32>) {
        self.limits.write().events_per_second = limit;
    }

    /// Opens a connection on a session of Engine.IO. It holds `permit` as long as it lives.
    pub fn open(
        self: &Arc<Self>,
        engine: engine_io::Session,
        permit: Option<Box<dyn Any + Send + Sync>>,
    ) -> Arc<Connection<S>> {
        let revision = match engine.version() {
            engine_io::Version::V3 => Revision::V4,
            engine_io::Version::V4 => Revision::V5,
        };
        let limits = self.limits.read().clone();
        let mut known = self.known.lock();
        known.last_number += 1;
        let connection = Arc::new(Connection {
            revision,
            partial: PartialPacket::default(),
            state: Mutex::default(),
            opening: Mutex::default(),
            backpressure: Mutex::new(Backpressure::new(engine.clone(), limits)),
            engine,
            number: known.last_number,
            connections: Arc::downgrade(self),
            _permit: permit,
        });
        known.by_number.insert(connection.number, Arc::downgrade(&connection));
        connection
    }

    /// All connections.
    pub fn all(&self) -> Vec<Arc<Connection<S>>> {
        self.known.lock().by_number.values().filter_map(Weak::upgrade).collect()
    }
}

impl<S: Send + Sync + 'static> Connection<S> {
    /// The session id of Engine.IO.
    pub fn id(&self) -> &str {
        self.engine.id()
    }

    /// The client's address; without a port if a proxy told none.
    pub fn address(&self) -> Option<String> {
        let peer = self.engine.opening().peer()?;
        Some(match peer.port() {
            0 => peer.ip().to_string(),
            _ => peer.to_string(),
        })
    }

    /// The handshake of a socket that connects with this `auth`.
    pub fn handshake(&self, auth: Option<Text>) -> Handshake {
        let opening = self.engine.opening();
        let (query, headers) = self.opening.lock().share(opening);
        Handshake {
            auth,
            query,
            headers,
            remote_addr: self.address(),
            transport: match opening.is_websocket() {
                true => Text::from_static("websocket"),
                false => Text::from_static("polling"),
            },
            recovered: false,
        }
    }

    /// Adds the socket of a namespace.
    pub fn join(&self, namespace: &Namespace, socket: &Arc<S>) {
        let mut state = self.state.lock();
        state.sockets.insert(Name(namespace.clone()), socket.clone());
        state.has_joined = true;
        if let Some(deadline) = state.join_deadline.take() {
            deadline.abort();
        }
    }

    /// Removes the socket of a namespace, unless another has taken its place.
    pub(crate) fn leave(&self, namespace: &Namespace, socket: &S) {
        let mut state = self.state.lock();
        let present = state.sockets.get(namespace.as_str());
        if present.is_some_and(|present| std::ptr::eq(&**present, socket)) {
            state.sockets.remove(namespace.as_str());
            if !state.left.contains(namespace) {
                let surplus = state.left.len().saturating_sub(MAX_LEFT - 1);
                state.left.drain(..surplus);
                state.left.push(namespace.clone());
            }
        }
    }

    /// The socket of a namespace.
    pub fn socket(&self, namespace: &str) -> Option<Arc<S>> {
        self.state.lock().sockets.get(namespace).cloned()
    }

    /// All sockets.
    pub fn sockets(&self) -> Vec<Arc<S>> {
        self.state.lock().sockets.values().cloned().collect()
    }

    /// How many namespaces it has joined or is joining.
    pub fn namespace_count(&self) -> usize {
        let state = self.state.lock();
        state.sockets.len() + state.joining.len()
    }

    /// Whether it is joining this namespace.
    pub fn is_joining(&self, namespace: &str) -> bool {
        self.state.lock().is_joining(namespace)
    }

    /// Whether it is joining this namespace, or has left it lately.
    pub fn is_joining_or_left(&self, namespace: &str) -> bool {
        let state = self.state.lock();
        state.is_joining(namespace) || state.left.iter().any(|left| left.as_str() == namespace)
    }

    /// Notes that it is joining a namespace. False, and nothing is noted, if it is joining too many.
    pub fn begin_join(&self, namespace: &str) -> bool {
        let joining = &mut self.state.lock().joining;
        let fits = joining.len() < MAX_JOINING;
        if fits {
            joining.push(namespace.into());
        }
        fits
    }

    /// Notes that it is no longer joining a namespace.
    pub fn end_join(&self, namespace: &str) {
        self.state.lock().joining.retain(|other| **other != *namespace);
    }

    /// Takes the task that closes the connection if it joins no namespace in time.
    pub fn set_join_deadline(&self, deadline: AbortHandle) {
        let mut state = self.state.lock();
        if state.has_joined || state.is_closed {
            deadline.abort();
        } else {
            state.join_deadline = Some(deadline);
        }
    }

    /// Takes the task that closes the connection when a token expires. It replaces that of an earlier token: a client joins again with a new
    /// token before the old one expires.
    pub fn set_expiry(&self, expiry: AbortHandle) {
        let mut state = self.state.lock();
        if state.is_closed {
            expiry.abort();
        } else if let Some(earlier) = state.expiry.replace(expiry) {
            earlier.abort();
        }
    }

    /// Notes that the session of Engine.IO has ended, and removes the sockets. A socket that joins at the same time has to look at
    /// [`is_closed`](Self::is_closed) after it joined.
    pub fn closed(&self) -> Vec<Arc<S>> {
        let mut state = self.state.lock();
        state.is_closed = true;
        for task in [state.join_deadline.take(), state.expiry.take()].into_iter().flatten() {
            task.abort();
        }
        std::mem::take(&mut state.sockets).into_values().collect()
    }

    /// Whether the session of Engine.IO has ended.
    pub fn is_closed(&self) -> bool {
        self.state.lock().is_closed
    }

    /// Closes the connection. The client gets what was sent before, as far as it reads that.
    pub fn close(&self) {
        self.engine.close();
    }

    /// Sends a packet. It is dropped if the session has ended; the engine disconnects a client that does not read.
    pub fn send(&self, packet: EncodedPacket) {
        // An error ends the session, which is reported by itself.
        let _ = self.engine.send(packet.into_packets());
    }

    /// Sends a packet if the client is ready to read it now.
    pub fn send_volatile(&self, packet: EncodedPacket) {
        let _ = self.engine.send_volatile(packet.into_packets());
    }

    /// Pauses reading. Pauses are counted.
    pub fn pause(&self) {
        self.engine.pause();
    }

    /// Takes back one pause.
    pub fn resume(&self) {
        self.engine.resume();
    }

    /// Whether any events wait to be accepted.
    pub fn has_waiting_events(&self) -> bool {
        self.backpressure.lock().has_waiting_events()
    }

    /// Counts an event that waits to be accepted, and pauses reading if there are too many.
    pub(crate) fn event_queued(&self, bytes: usize) {
        self.backpressure.lock().event_queued(bytes);
    }

    /// Counts an event that no longer waits, and resumes reading if few are left.
    pub(crate) fn event_left(&self, bytes: usize) {
        self.backpressure.lock().event_left(bytes);
    }

    /// Checks a burst of `messages` messages before any of them is read.
    ///
    /// # Errors
    /// If they would exceed a rate for too long.
    pub fn check_burst(&self, messages: usize) -> Result<(), Flood> {
        self.backpressure.lock().check_burst(messages)
    }

    /// Counts a packet of any kind, and pauses reading if they come too fast.
    ///
    /// # Errors
    /// If the rate was exceeded for too long.
    pub fn count_packet(self: &Arc<Self>) -> Result<(), Flood> {
        let pauses = self.backpressure.lock().count_packet()?;
        self.resume_in_time(pauses);
        Ok(())
    }

    /// Counts an event, and pauses reading if they come too fast.
    ///
    /// # Errors
    /// If the rate was exceeded for too long.
    pub fn count_event(self: &Arc<Self>) -> Result<(), Flood> {
        let pauses = self.backpressure.lock().count_event()?;
        self.resume_in_time(pauses);
        Ok(())
    }

    /// Ends a pause that begins now, which may be prolonged meanwhile.
    fn resume_in_time(self: &Arc<Self>, pauses: bool) {
        if !pauses {
            return;
        }
        let paused = Arc::downgrade(self);
        tokio::spawn(async move {
            let end = |connection: Arc<Self>| connection.backpressure.lock().end_pause();
            while let Some(until) = paused.upgrade().and_then(end) {
                sleep_until(until.into()).await;
            }
        });
    }
}

impl<S> Drop for Connection<S> {
    fn drop(&mut self) {
        if let Some(connections) = self.connections.upgrade() {
            connections.known.lock().by_number.remove(&self.number);
        }
    }
}

impl<S> Default for State<S> {
    fn default() -> Self {
        Self {
            sockets: HashMap::new(),
            join_deadline: None,
            has_joined: false,
            is_closed: false,
            joining: Vec::new(),
            left: Vec::new(),
            expiry: None,
        }
    }
}

impl<S> State<S> {
    fn is_joining(&self, namespace: &str) -> bool {
        self.joining.iter().any(|other| **other == *namespace)
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.0.as_str()
    }
}

impl SharedOpening {
    fn share(&mut self, opening: &engine_io::OpeningRequest) -> (Arc<str>, Arc<[(String, String)]>) {
        let query = self.query.as_ref().and_then(Weak::upgrade);
        let query = query.unwrap_or_else(|| opening.query().into());
        let headers = self.headers.as_ref().and_then(Weak::upgrade).unwrap_or_else(|| {
            let headers = opening.headers();
            headers
                .map(|(name, value)| (name.to_owned(), value.to_owned()))
                .collect()
        });
        self.query = Some(Arc::downgrade(&query));
        self.headers = Some(Arc::downgrade(&headers));
        (query, headers)
    }
}
