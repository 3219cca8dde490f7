//! A socket: one client in one namespace.
//!
//! It is opened and closed exactly once, so that its first event is its connection and its last its disconnect. If the app's handler admits
//! clients, a socket is pending until the handler decides: the client is sent only that decision, and packets that it sends meanwhile
//! are dropped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use parking_lot::Mutex;
use socketioxide_core::Sid;
use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use crate::awaited_acks::AwaitedAcks;
use crate::codec::Revision;
use crate::connection;
use crate::encoded::EncodedPacket;
use crate::incarnation::Incarnation;
use crate::namespace::NamespaceSockets;
use crate::pending_event::{EventSource, PendingEvent};
use crate::registry::NamespaceRegistry;
use crate::requests::{ReplyTo, Requests};
use plugnode_message::{
    AckId, Client, Departure, DisconnectReason, Event, EventKind, Handshake, MAX_ATTRIBUTES, Namespace, Payload,
    Refusal, SessionId, Text, now_ms,
};
use plugnode_process::metrics;

/// The acknowledgement of an event that was refused.
const OVERLOADED: &str = r#"[{"error":{"code":"overloaded","message":"the server has too much to do and did not take this in; try again later"}}]"#;

/// A socket.
pub struct Socket {
    /// Its session id, unique in its namespace.
    pub id: SessionId,
    /// The connection that it shares with its client's sockets in other namespaces.
    pub connection: Arc<Connection>,
    /// The sockets of its namespace.
    pub namespace: Arc<NamespaceSockets<Self>>,
    /// Events sent to the client that await its acknowledgement.
    pub requests: Requests,
    sid: Sid,
    registry: Arc<NamespaceRegistry<Self>>,
    /// The incarnation in which it connected.
    incarnation: Arc<Incarnation>,
    /// Why this io-node disconnects it.
    reason: OnceLock<DisconnectReason>,
    state: Mutex<State>,
    /// Whether its stage is [`Stage::TurnedAway`]; read for each event.
    is_turned_away: AtomicBool,
}

/// A connection with its sockets.
pub type Connection = connection::Connection<Socket>;

struct State {
    stage: Stage,
    attributes: Text,
    /// The number of the last patch of the attributes that one of the client's own events made.
    last_patch: u64,
    acks: AwaitedAcks,
}

#[derive(PartialEq)]
enum Stage {
    /// The handler has yet to admit it.
    Pending,
    /// It left, for this reason, before the handler decided.
    LeftPending(DisconnectReason),
    Open,
    Closed,
    /// It was refused, or closed without any event of it having been accepted.
    TurnedAway,
}

impl Socket {
    /// Connects a client to a namespace, with these first attributes. None if no app is bound to the namespace.
    ///
    /// If the incarnation is over, no event is sent, and the connection is closed so that the client reconnects.
    pub fn connect(
        registry: &Arc<NamespaceRegistry<Self>>,
        namespace: &str,
        connection: &Arc<Connection>,
        handshake: Handshake,
        attributes: Text,
    ) -> Option<Arc<Self>> {
        let socket = registry.add(namespace, |sockets| {
            let socket = Self::pending(sockets, registry, connection, attributes);
            connection.join(socket.namespace(), &socket);
            sockets.add_pending(socket.id.clone(), socket.clone());
            socket
        })?;
        debug!(
            client = %socket.id, session = connection.id(), address = connection.address(), namespace,
            "connecting"
        );
        socket.open(EventKind::Connection(Box::new(handshake)));
        if connection.is_closed() {
            socket.close(DisconnectReason::TransportClose);
        }
        Some(socket)
    }

    /// A socket that has yet to be [opened](Self::open).
    fn pending(
        sockets: &Arc<NamespaceSockets<Self>>,
        registry: &Arc<NamespaceRegistry<Self>>,
        connection: &Arc<Connection>,
        attributes: Text,
    ) -> Arc<Self> {
        let incarnation = sockets.context.incarnation.get();
        let sid = match connection.revision {
            Revision::V5 => incarnation.draw_sid(),
            Revision::V4 => Sid::new(),
        };
        let state = State {
            stage: Stage::Pending,
            attributes,
            last_patch: 0,
            acks: AwaitedAcks::default(),
        };
        Arc::new(Self {
            id: match (connection.revision, sockets.namespace.as_str()) {
                (Revision::V5, _) => SessionId::from(sid.as_str()),
                // Clients of Socket.IO 2 derive the id from that of the session.
                (Revision::V4, "/") => SessionId::from(connection.id()),
                (Revision::V4, namespace) => SessionId::from(format!("{namespace}#{}", connection.id())),
            },
            connection: connection.clone(),
            namespace: sockets.clone(),
            requests: Requests::default(),
            sid,
            registry: registry.clone(),
            incarnation,
            reason: OnceLock::new(),
            state: Mutex::new(state),
            is_turned_away: AtomicBool::new(false),
        })
    }

    /// The name of its namespace.
    pub fn namespace(&self) -> &Namespace {
        &self.namespace.namespace
    }

    /// Sends its first event, by which the handler admits it if its app wants that. Otherwise it is open from now on.
    fn open(self: &Arc<Self>, connection: EventKind) {
        {
            let mut state = self.state.lock();
            if state.stage != Stage::Pending {
                // Its connection ended before any event was sent.
                state.stage = Stage::Closed;
                drop(state);
                self.remove();
                return;
            }
            let connection = self.event(&state, connection);
            match self.namespace.admission {
                Some(patience) => {
                    let socket = self.clone();
                    tokio::spawn(async move {
                        sleep(patience).await;
                        socket.time_out_admission();
                    });
                }
                None => self.admit(&mut state),
            }
            self.queue(connection);
        }
        // Checked after it can be found in its namespace, where the end of an incarnation looks for sockets.
        if self.incarnation.is_over() {
            self.connection.close();
        }
    }

    /// Tells the client that it is connected, before anything else can be sent to it.
    fn admit(self: &Arc<Self>, state: &mut State) {
        state.stage = Stage::Open;
        let codec = &self.namespace.context.codec;
        let packet = codec.connected(self.namespace(), self.sid, self.connection.revision);
        // In one step: a sender that finds the socket sends behind this packet, and a sender that has seen the client connect finds it.
        self.namespace
            .add_connected(self.id.clone(), self.clone(), || self.send(packet));
    }

    /// The handler has admitted or refused it.
    pub fn decide(self: &Arc<Self>, refusal: Option<&Refusal>) {
        let mut state = self.state.lock();
        match (&state.stage, refusal) {
            (Stage::Pending, None) => return self.admit(&mut state),
            (Stage::Pending, Some(refusal)) => {
                self.set_turned_away(&mut state);
                metrics::CLIENTS_REFUSED.increment();
                self.send_refusal(refusal);
            }
            (Stage::LeftPending(reason), None) => {
                let event = self.disconnect_event(&state, reason.clone());
                state.stage = Stage::Closed;
                self.queue(event);
            }
            (Stage::LeftPending(_), Some(_)) => drop(self.set_turned_away(&mut state)),
            (Stage::Open | Stage::Closed | Stage::TurnedAway, _) => return,
        }
        drop(state);
        self.remove();
    }

    /// Refuses it because the handler did not decide in time. If the handler admits it later, its disconnect follows.
    fn time_out_admission(self: &Arc<Self>) {
        let mut state = self.state.lock();
        if state.stage != Stage::Pending {
            return;
        }
        debug!(client = %self.id, namespace = %self.namespace(), "refused: its admission took too long");
        state.stage = Stage::LeftPending(DisconnectReason::Other("its admission took too long".into()));
        metrics::CLIENTS_REFUSED.increment();
        self.send_refusal(&Refusal {
            message: Text::from_static("timeout"),
            data: None,
        });
        drop(state);
        self.connection.leave(self.namespace(), self);
    }

    fn send_refusal(&self, refusal: &Refusal) {
        let codec = &self.namespace.context.codec;
        self.send(codec.refused(self.namespace().as_str(), refusal, self.connection.revision));
    }

    /// Takes an event that the client sent.
    pub fn receive_event(self: &Arc<Self>, event: Text, args: Payload, ack: Option<i64>) {
        let ack = ack.map(|number| AckId {
            namespace: self.namespace().clone(),
            client: self.id.clone(),
            number,
        });
        self.enqueue(EventKind::Message { event, args, ack });
    }

    /// Takes an acknowledgement that the client sent.
    pub fn receive_ack(self: &Arc<Self>, id: i64, answer: Payload) {
        match self.requests.close(id) {
            Some(ReplyTo::Handler(token)) => {
                let answer = Some(answer);
                self.enqueue(EventKind::Reply { token, answer });
            }
            Some(ReplyTo::Collector(answers)) => {
                // The collector may have stopped waiting.
                let _ = answers.send((self.id.clone(), answer));
            }
            None => {}
        }
    }

    /// Sends an event that the client has to acknowledge, and returns its acknowledgement id.
    pub fn request(&self, event: &str, args: &Payload, reply_to: ReplyTo) -> i64 {
        let id = self.requests.open(reply_to);
        let codec = &self.namespace.context.codec;
        self.send(codec.event(self.namespace(), event, args, Some(id)));
        id
    }

    /// Queues an event behind the socket's earlier ones. False, and nothing is queued, if the socket is not open.
    pub fn enqueue(self: &Arc<Self>, kind: EventKind) -> bool {
        let mut state = self.state.lock();
        if state.stage != Stage::Open {
            return false;
        }
        if let EventKind::Message { ack: Some(ack), .. } = &kind
            && state.acks.add(ack.number)
        {
            self.pause_for_acks();
        }
        let event = self.event(&state, kind);
        self.queue(event);
        true
    }

    /// Closes the socket; its disconnect is its last event.
    pub fn close(self: &Arc<Self>, reason: DisconnectReason) {
        let reason = self.reason.get().cloned().unwrap_or(reason);
        let mut state = self.state.lock();
        match state.stage {
            Stage::Pending if !self.incarnation.is_over() => {
                state.stage = Stage::LeftPending(reason);
                drop(state);
                self.connection.leave(self.namespace(), self);
                return;
            }
            Stage::Open => {
                let event = self.disconnect_event(&state, reason);
                state.stage = Stage::Closed;
                self.queue(event);
            }
            Stage::Pending => state.stage = Stage::Closed,
            Stage::LeftPending(_) | Stage::Closed | Stage::TurnedAway => return,
        }
        drop(state);
        self.remove();
    }

    /// Waits no longer for the admission of a client that left: its disconnect is queued, in case the handler admits it.
    pub fn stop_waiting_for_admission(self: &Arc<Self>) {
        let has_left = matches!(self.state.lock().stage, Stage::LeftPending(_));
        if has_left {
            self.decide(None);
        }
    }

    /// Sends an acknowledgement, if the client awaits it.
    pub fn acknowledge(&self, id: i64, args: &Payload) {
        let waited = {
            let mut state = self.state.lock();
            let (waited, resumes) = state.acks.remove(id);
            if resumes {
                self.connection.resume();
            }
            waited
        };
        if let Some(waited) = waited {
            metrics::ACKNOWLEDGEMENT_TIME.observe(waited);
            self.send(self.namespace.context.codec.answer(self.namespace(), args, id));
        }
    }

    /// Pauses reading while the client awaits too many acknowledgements, as long as some are sent.
    fn pause_for_acks(self: &Arc<Self>) {
        self.connection.pause();
        let paused = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(until) = paused.upgrade().and_then(|socket| socket.paused_until()) {
                sleep_until(until).await;
            }
        });
    }

    /// When reading resumes if no acknowledgement is sent. None if it has resumed by now.
    fn paused_until(&self) -> Option<Instant> {
        let mut state = self.state.lock();
        let until = state.acks.paused_until()?;
        if Instant::now() < until {
            return Some(until);
        }
        if state.acks.give_up() {
            self.connection.resume();
        }
        None
    }

    /// Sends a packet.
    pub fn send(&self, packet: EncodedPacket) {
        self.connection.send(packet);
    }

    /// Sends a packet if the client is ready to read it now.
    pub fn send_volatile(&self, packet: EncodedPacket) {
        self.connection.send_volatile(packet);
    }

    /// Disconnects the client from all its namespaces, and closes the connection. The client gets what was sent before, as far as it
    /// reads that. It is told of each disconnect, because Socket.IO's client connects again by itself after a mere end of the
    /// connection.
    pub fn close_connection(&self) {
        for socket in self.connection.sockets() {
            socket.disconnect();
        }
        self.connection.close();
    }

    /// Sets the reason of its disconnect, unless one is set.
    fn set_reason(&self, reason: DisconnectReason) {
        let _ = self.reason.set(reason);
    }

    /// Disconnects the client from the namespace. The connection stays.
    pub fn disconnect(self: &Arc<Self>) {
        self.send(self.namespace.context.codec.disconnected(self.namespace()));
        self.close(DisconnectReason::Server);
    }

    /// Its attributes, a JSON object.
    pub fn attributes(&self) -> Text {
        self.state.lock().attributes.clone()
    }

    /// Applies a JSON merge patch to the attributes, which go with the socket's events from now on. `number` is that of the patch if one of
    /// the socket's own events made it, otherwise 0. A patch that is refused counts as made.
    ///
    /// # Errors
    /// If the patch is not JSON, or the attributes would be too large.
    pub fn patch_attributes(&self, patch: &str, number: u64) -> Result<(), String> {
        let mut state = self.state.lock();
        state.last_patch = state.last_patch.max(number);
        let patch = serde_json::from_str(patch).map_err(|error| format!("the patch is not JSON: {error}"))?;
        let mut attributes = serde_json::from_str(&state.attributes).unwrap_or_default();
        json_patch::merge(&mut attributes, &patch);
        let attributes = attributes.to_string();
        if attributes.len() > MAX_ATTRIBUTES {
            return Err(format!(
                "attributes of {} bytes are over the limit of {MAX_ATTRIBUTES}",
                attributes.len()
            ));
        }
        state.attributes = attributes.into();
        Ok(())
    }

    fn event(&self, state: &State, kind: EventKind) -> Event {
        let client = Client {
            id: self.id.clone(),
            io_node: self.namespace.context.io_node.clone(),
            attributes: state.attributes.clone(),
            patched: state.last_patch,
        };
        Event {
            namespace: self.namespace().clone(),
            client: Some(client),
            received_at_ms: now_ms(),
            kind,
        }
    }

    /// Its last event, with the rooms that it is in until then.
    fn disconnect_event(&self, state: &State, reason: DisconnectReason) -> Event {
        let rooms = self.namespace.rooms_of(&self.id);
        self.event(state, EventKind::Disconnect(Departure::from_channels(reason, &rooms)))
    }

    fn queue(self: &Arc<Self>, event: Event) {
        self.connection.event_queued(event.size());
        self.incarnation.queue(PendingEvent::new(event, self.clone()));
    }

    /// Sets the last stage, of a socket that has no disconnect event, and returns the stage before.
    fn set_turned_away(&self, state: &mut State) -> Stage {
        self.is_turned_away.store(true, Ordering::Release);
        std::mem::replace(&mut state.stage, Stage::TurnedAway)
    }

    fn remove(&self) {
        if self.state.lock().acks.end_pause() {
            self.connection.resume();
        }
        self.requests.close_all();
        self.connection.leave(self.namespace(), self);
        self.registry.remove(&self.namespace, &self.id);
    }
}

impl EventSource for Socket {
    fn event_left(&self, bytes: usize) {
        self.connection.event_left(bytes);
    }

    fn was_turned_away(&self) -> bool {
        self.is_turned_away.load(Ordering::Acquire)
    }

    /// Closes the connection, so that the client reconnects, to this io-node or another.
    fn turn_away(&self) {
        let before = self.set_turned_away(&mut self.state.lock());
        if !matches!(before, Stage::Closed | Stage::TurnedAway) {
            self.remove();
            self.connection.close();
        }
    }

    /// Acknowledges the event with an error.
    fn refuse(&self, event: &Event) {
        let EventKind::Message { ack: Some(ack), .. } = &event.kind else {
            return;
        };
        debug!(client = %self.id, "event refused: it waited too long to be accepted");
        let error = Payload {
            json: Text::from_static(OVERLOADED),
            attachments: Vec::new(),
        };
        self.acknowledge(ack.number, &error);
    }
}

impl Connection {
    /// Closes the connection; the disconnects of all its sockets have this reason.
    pub fn close_with(&self, reason: &DisconnectReason) {
        for socket in self.sockets() {
            socket.set_reason(reason.clone());
        }
        self.close();
    }
}
