//! The clients of one namespace: who is there, what is kept for each, and where its events go.
//!
//! A client is opened and closed here exactly once, so that its first event is its connection, its last its disconnect,
//! and what the network delivers a moment too early or too late finds its place or none.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, RwLock, RwLockReadGuard, RwLockWriteGuard, Weak};
use std::time::Duration;

use socketioxide::TransportType;
use socketioxide::socket::Socket;
use socketioxide_core::Sid;
use socketioxide_core::adapter::BroadcastOptions;
use socketioxide_core::packet::Packet;
use tokio::time::{Instant, sleep};
use tracing::debug;

use super::args;
use super::door::Door;
use super::incarnation::{Gate, Incarnation};
use super::requests::{Answered, Requests};
use super::session::{Excess, Session};
use super::waiting::Taken;
use crate::counts;
use crate::message::{
    AckId, Client, DisconnectReason, Event, EventKind, Namespace, NodeId, Payload, SessionId, Text, now_ms,
};
use crate::shutdown::Shutdown;

/// How many acknowledgements a client may wait for at once; of older ones nothing is known any more.
const ACKS: usize = 1_024;
/// How many bytes of attributes are kept for a client.
const ATTRIBUTES: usize = 16 * 1_024;
/// What a packet weighs beside its payload: its type and frame.
pub(super) const FRAME: usize = 8;
/// How long a client that is to be disconnected may take to read what was sent to it.
const FLUSH: Duration = Duration::from_secs(1);

/// What the acknowledgement of an event says that was refused.
const OVERLOADED: &str = r#"[{"error":{"code":"overloaded","message":"the server has too much to do and did not take this in; try again later"}}]"#;

/// Ends a session that polls: closing a connection of it would not, for the next poll opens another.
pub(super) type EndPolling = Arc<dyn Fn(Sid) + Send + Sync>;

/// The clients of one namespace on this io-node.
pub(super) struct Clients {
    pub(super) namespace: Namespace,
    pub(super) io_node: NodeId,
    door: OnceLock<Arc<Door>>,
    gate: Arc<Gate>,
    end_polling: EndPolling,
    members: RwLock<Members>,
}

type Members = HashMap<Sid, Arc<Member>>;

/// One client.
pub(super) struct Member {
    pub(super) sid: Sid,
    pub(super) id: SessionId,
    pub(super) session: Arc<Session>,
    /// The socket holds the handlers, which hold the member.
    pub(super) socket: Weak<Socket<Door>>,
    pub(super) requests: Requests,
    clients: Arc<Clients>,
    /// The one that it connected in.
    incarnation: Arc<Incarnation>,
    state: Mutex<State>,
}

struct State {
    stage: Stage,
    attributes: Text,
    /// Acknowledgements that the client waits for.
    acks: BTreeSet<i64>,
    /// Why this io-node ends the client, when it does.
    verdict: Option<DisconnectReason>,
}

enum Stage {
    /// The connection event is not out yet; these wait behind it.
    Opening(Vec<Event>),
    Open,
    Gone,
    /// Gone without ever having been heard of: its connection was not accepted.
    TurnedAway,
}

impl Clients {
    pub(super) fn new(namespace: Namespace, io_node: NodeId, gate: Arc<Gate>, end_polling: EndPolling) -> Arc<Self> {
        let (door, members) = Default::default();
        Arc::new(Self {
            namespace,
            io_node,
            door,
            gate,
            end_polling,
            members,
        })
    }

    /// Gives the namespace its door, which socketioxide makes when it is told of the namespace.
    pub(super) fn attach(&self, door: Arc<Door>) {
        assert!(self.door.set(door).is_ok(), "a namespace is made once");
    }

    pub(super) fn door(&self) -> &Door {
        self.door
            .get()
            .expect("a namespace has its door before its first client")
    }

    pub(super) fn get(&self, sid: Sid) -> Option<Arc<Member>> {
        self.members().get(&sid).cloned()
    }

    pub(super) fn all(&self) -> Vec<Arc<Member>> {
        self.members().values().cloned().collect()
    }

    pub(super) fn are_gone(&self) -> bool {
        self.members().is_empty()
    }

    pub(super) fn find(&self, id: &SessionId) -> Option<Arc<Member>> {
        self.get(id.as_str().parse().ok()?)
    }

    fn members(&self) -> RwLockReadGuard<'_, Members> {
        self.members.read().expect("nothing panics while it holds this lock")
    }

    fn members_mut(&self) -> RwLockWriteGuard<'_, Members> {
        self.members.write().expect("nothing panics while it holds this lock")
    }
}

impl Member {
    /// A client that is connecting.
    pub(super) fn new(
        clients: &Arc<Clients>,
        sid: Sid,
        socket: Weak<Socket<Door>>,
        session: Arc<Session>,
    ) -> Arc<Self> {
        let state = State {
            stage: Stage::Opening(Vec::new()),
            attributes: Text::from_static("{}"),
            acks: BTreeSet::new(),
            verdict: None,
        };
        Arc::new(Self {
            sid,
            id: SessionId::from(sid.as_str()),
            session,
            socket,
            requests: Requests::default(),
            clients: clients.clone(),
            incarnation: clients.gate.present(),
            state: Mutex::new(state),
        })
    }

    /// The client is connected: this is its first event, and what came meanwhile follows. When its incarnation is over,
    /// nobody hears of it, and its connection is ended, so that it comes again.
    pub(super) fn open(self: &Arc<Self>, connection: EventKind) {
        let mut state = self.state();
        let connection = self.event(&state, connection);
        let Stage::Opening(early) = std::mem::replace(&mut state.stage, Stage::Open) else {
            return;
        };
        if early
            .last()
            .is_some_and(|event| matches!(event.kind, EventKind::Disconnect(_)))
        {
            state.stage = Stage::Gone;
        } else {
            // Before its first event is out, for the answer to that may be quick.
            self.clients.members_mut().insert(self.sid, self.clone());
        }
        self.send(connection);
        early.into_iter().for_each(|event| self.send(event));
        drop(state);
        // After it can be found among the clients: whoever ended the incarnation looks there afterwards.
        if self.incarnation.is_over() {
            self.hang_up();
        }
    }

    /// Takes in an event that the client sent, after the answers that it sent before.
    pub(super) fn take_in(self: &Arc<Self>, kind: EventKind) {
        self.requests.settle(|answered| self.answered(answered));
        self.enqueue(kind);
    }

    /// Takes in an answer, or that there was none.
    pub(super) fn answered(self: &Arc<Self>, (token, answer): Answered) {
        match answer.map(args::read_answer).transpose() {
            Ok(answer) => self.enqueue(EventKind::Reply { token, answer }),
            Err(malformed) => {
                debug!(client = %self.id, "closing the connection: malformed acknowledgement: {malformed}");
                self.expel_malformed();
            }
        }
    }

    /// Puts an event behind the client's earlier ones; none after its last.
    fn enqueue(self: &Arc<Self>, kind: EventKind) {
        let mut state = self.state();
        if let EventKind::Message { ack: Some(ack), .. } = &kind {
            state.acks.insert(ack.number);
            if state.acks.len() > ACKS {
                // Clients count upwards.
                state.acks.pop_first();
                counts::ACKS_FORGOTTEN.one();
            }
        }
        let event = self.event(&state, kind);
        match &mut state.stage {
            Stage::Opening(early) => early.push(event),
            Stage::Open => self.send(event),
            Stage::Gone | Stage::TurnedAway => {}
        }
    }

    /// The client is gone: this is its last event.
    pub(super) fn close(self: &Arc<Self>, reason: DisconnectReason) {
        self.requests.settle(|answered| self.answered(answered));
        let mut state = self.state();
        let reason = state.verdict.take().unwrap_or(reason);
        let event = self.event(&state, EventKind::Disconnect(reason));
        match &mut state.stage {
            Stage::Opening(early) => early.push(event),
            Stage::Open => {
                state.stage = Stage::Gone;
                self.send(event);
                self.clients.members_mut().remove(&self.sid);
            }
            Stage::Gone | Stage::TurnedAway => {}
        }
    }

    /// Ends a client whose connection was not accepted, and of whom nobody will hear: it can come back, here or
    /// elsewhere. Events of it that are still on their way are to be dropped.
    pub(super) fn turn_away(&self) {
        let was_open = {
            let mut state = self.state();
            matches!(std::mem::replace(&mut state.stage, Stage::TurnedAway), Stage::Open)
        };
        if was_open {
            self.clients.members_mut().remove(&self.sid);
            self.hang_up();
        }
    }

    /// Whether the client was turned away.
    pub(super) fn was_turned_away(&self) -> bool {
        matches!(self.state().stage, Stage::TurnedAway)
    }

    /// Answers the acknowledgement that an event asks for: that it was not taken in.
    pub(super) fn refuse(&self, event: &Event) {
        let EventKind::Message { ack: Some(ack), .. } = &event.kind else {
            return;
        };
        debug!(client = %self.id, "an event is refused: it waited too long to be accepted");
        if self.settle(ack.number) {
            let error = Payload {
                json: Text::from_static(OVERLOADED),
                attachments: Vec::new(),
            };
            self.answer(ack.number, &error);
        }
    }

    /// Sends the answer to an acknowledgement.
    pub(super) fn answer(&self, number: i64, args: &Payload) {
        self.charge(args.size() + FRAME);
        let namespace = self.clients.namespace.as_str().to_owned();
        let packet = Packet::ack(namespace, args::write_answer(args), number);
        self.clients.door().send(packet, BroadcastOptions::new(self.sid));
    }

    /// Ends the client's connection at once, for this reason, and says whether that is news.
    pub(super) fn expel(&self, reason: DisconnectReason) -> bool {
        let first = {
            let mut state = self.state();
            let first = state.verdict.is_none();
            state.verdict.get_or_insert(reason);
            first
        };
        self.hang_up();
        first
    }

    /// Ends the client's connection because of something malformed that it sent.
    pub(super) fn expel_malformed(&self) {
        if self.expel(DisconnectReason::ParseError) {
            counts::PACKETS_MALFORMED.one();
        }
    }

    /// Ends the client's connection when what was sent to it is written, or after a while.
    pub(super) fn see_off(self: &Arc<Self>, reason: DisconnectReason, shutdown: &Shutdown) {
        self.state().verdict.get_or_insert(reason);
        let member = self.clone();
        shutdown.spawn(async move {
            let deadline = Instant::now() + FLUSH;
            while !member.session.is_flushed() && Instant::now() < deadline {
                sleep(Duration::from_millis(5)).await;
            }
            member.hang_up();
        });
    }

    /// Ends the client's connection at once.
    pub(super) fn hang_up(&self) {
        match self.socket.upgrade().map(|socket| socket.transport_type()) {
            Some(TransportType::Polling) => (self.clients.end_polling)(self.sid),
            _ => self.session.close(),
        }
    }

    /// Does something to the socket's rooms, unless the client is gone and they have been cleared.
    pub(super) fn while_here(&self, act: impl FnOnce(&Door)) {
        let state = self.state();
        if let Stage::Open = state.stage {
            act(self.clients.door());
        }
    }

    /// Whether the client still waits for this acknowledgement, which from now on it does not.
    pub(super) fn settle(&self, ack: i64) -> bool {
        self.state().acks.remove(&ack)
    }

    /// Changes the attributes that go with the client's events, by a JSON merge patch.
    pub(super) fn patch(&self, patch: &str) -> Result<(), String> {
        let patch = serde_json::from_str(patch).map_err(|error| format!("the patch is not JSON: {error}"))?;
        let mut state = self.state();
        let mut attributes = serde_json::from_str(&state.attributes).unwrap_or_default();
        json_patch::merge(&mut attributes, &patch);
        let attributes = attributes.to_string();
        if attributes.len() > ATTRIBUTES {
            return Err(format!(
                "attributes of {} bytes are over the limit of {ATTRIBUTES}",
                attributes.len()
            ));
        }
        state.attributes = attributes.into();
        Ok(())
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.clients.namespace
    }

    pub(super) fn ack_id(&self, number: i64) -> AckId {
        AckId {
            namespace: self.clients.namespace.clone(),
            client: self.id.clone(),
            number,
        }
    }

    /// Counts bytes that go out to this client, and expels it when it does not read them.
    pub(super) fn charge(&self, bytes: usize) {
        if self.session.went_out(bytes) == Err(Excess::SlowReader) {
            let reason = "slow reader: what was sent to it was not read";
            if self.expel(DisconnectReason::Other(reason.into())) {
                counts::CLIENTS_SLOW.one();
            }
        }
    }

    fn event(&self, state: &State, kind: EventKind) -> Event {
        let client = Client {
            id: self.id.clone(),
            io_node: self.clients.io_node.clone(),
            attributes: state.attributes.clone(),
        };
        Event {
            namespace: self.clients.namespace.clone(),
            client: Some(client),
            received_at_ms: now_ms(),
            kind,
        }
    }

    fn send(self: &Arc<Self>, event: Event) {
        let last = matches!(event.kind, EventKind::Disconnect(_));
        let excess = self.session.came_in(event.size());
        self.incarnation.take_in(Taken {
            event,
            member: self.clone(),
            since: Instant::now(),
        });
        if excess == Err(Excess::Flood) && !last {
            counts::SESSIONS_FLOODING.one();
            self.hang_up();
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}
