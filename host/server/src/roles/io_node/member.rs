//! One client: a session's place in one namespace.
//!
//! A client is opened and closed here exactly once, so that its first event is its connection and its last its disconnect.
//! Where a handler admits clients, one waits at the door until the verdict is there: it hears nothing but that, and when
//! it is refused nobody hears of it again. What it asks meanwhile is not heard.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::Duration;

use tokio::time::{Instant, sleep, sleep_until};
use tracing::debug;

use super::attributes::MOST as ATTRIBUTES;
use super::clients::Clients;
use super::directory::Directory;
use super::incarnation::Incarnation;
use super::requests::{Asked, Requests};
use super::session::Session;
use super::waiting::{Arrival, Source};
use plugnode_message::{
    AckId, Client, Departure, DisconnectReason, Event, EventKind, Namespace, Payload, Refusal, SessionId, Text, now_ms,
};
use plugnode_process::counts;
use plugnode_process::timings;
use plugnode_socket_io::{EncodedPacket, Revision, Sid};

/// How many acknowledgements a client may wait for at once. With so many it is not read until half of them came, or none for
/// a time; then the oldest are forgotten as newer ones come, for a handler need not acknowledge.
const ACKS: usize = 1_024;
/// How long that time is.
const ACKS_PATIENCE: Duration = Duration::from_secs(10);

/// What the acknowledgement of an event says that was refused.
const OVERLOADED: &str = r#"[{"error":{"code":"overloaded","message":"the server has too much to do and did not take this in; try again later"}}]"#;

/// One client.
pub(super) struct Member {
    pub(super) id: SessionId,
    pub(super) session: Arc<Session>,
    pub(super) clients: Arc<Clients>,
    pub(super) requests: Requests,
    sid: Sid,
    directory: Arc<Directory>,
    /// The one that it connected in.
    incarnation: Arc<Incarnation>,
    /// Why this io-node ends the client, when it does.
    verdict: OnceLock<DisconnectReason>,
    state: Mutex<State>,
    /// Whether its stage is [`Stage::TurnedAway`], for whoever asks of each event.
    is_turned_away: AtomicBool,
}

struct State {
    stage: Stage,
    attributes: Text,
    /// The number of the last patch of them that an event of the client has made.
    patched: u64,
    /// Acknowledgements that the client waits for, and since when.
    acks: BTreeMap<i64, Instant>,
    /// Since when the client is not read because there are too many.
    held_since: Option<Instant>,
    /// Whether none came for too long, so that it is read all the same.
    is_unanswered: bool,
}

#[derive(PartialEq)]
enum Stage {
    /// The handler is asked whether it may come in.
    AtDoor,
    /// It left, for this reason, before the handler had decided.
    Undecided(DisconnectReason),
    Open,
    Gone,
    /// Gone without anybody having heard of it, or refused.
    TurnedAway,
}

impl Member {
    /// A client that is connecting.
    pub(super) fn new(
        clients: &Arc<Clients>,
        directory: &Arc<Directory>,
        session: &Arc<Session>,
        attributes: Text,
    ) -> Arc<Self> {
        let sid = Sid::new();
        let state = State {
            stage: Stage::AtDoor,
            attributes,
            patched: 0,
            acks: BTreeMap::new(),
            held_since: None,
            is_unanswered: false,
        };
        Arc::new(Self {
            id: match (session.revision, clients.namespace.as_str()) {
                (Revision::V5, _) => SessionId::from(sid.as_str()),
                // These make up their id themselves, by that of the session.
                (Revision::V4, "/") => SessionId::from(session.id()),
                (Revision::V4, namespace) => SessionId::from(format!("{namespace}#{}", session.id())),
            },
            session: session.clone(),
            clients: clients.clone(),
            requests: Requests::default(),
            sid,
            directory: directory.clone(),
            incarnation: clients.common.gate.present(),
            verdict: OnceLock::new(),
            state: Mutex::new(state),
            is_turned_away: AtomicBool::new(false),
        })
    }

    pub(super) fn namespace(&self) -> &Namespace {
        &self.clients.namespace
    }

    /// The client comes in, and this is its first event; or a handler is asked by it whether the client may. When its
    /// incarnation is over, nobody hears of it, and its connection is ended, so that it comes again.
    pub(super) fn enter(self: &Arc<Self>, connection: EventKind) {
        {
            let mut state = self.state();
            if state.stage != Stage::AtDoor {
                // Its session was over before anybody heard of it.
                state.stage = Stage::Gone;
                drop(state);
                self.forget();
                return;
            }
            let connection = self.event(&state, connection);
            match self.clients.admission {
                Some(patience) => {
                    let member = self.clone();
                    tokio::spawn(async move {
                        sleep(patience).await;
                        member.lose_patience();
                    });
                }
                None => self.let_in(&mut state),
            }
            self.send(connection);
        }
        // After it can be found among the clients: whoever ended the incarnation looks there afterwards.
        if self.incarnation.is_over() {
            self.session.hang_up();
        }
    }

    /// Tells the client that it is connected, before it can hear anything else.
    fn let_in(self: &Arc<Self>, state: &mut State) {
        state.stage = Stage::Open;
        let common = &self.clients.common;
        self.push(
            common
                .codec
                .connected(self.namespace(), self.sid, self.session.revision),
        );
        self.clients.let_in(self);
    }

    /// The handler has decided.
    pub(super) fn decided(self: &Arc<Self>, refusal: Option<&Refusal>) {
        let mut state = self.state();
        match (&state.stage, refusal) {
            (Stage::AtDoor, None) => return self.let_in(&mut state),
            (Stage::AtDoor, Some(refusal)) => {
                self.turn(&mut state);
                counts::CLIENTS_REFUSED.one();
                self.tell_refusal(refusal);
            }
            (Stage::Undecided(reason), None) => {
                let event = self.departure(&state, reason.clone());
                state.stage = Stage::Gone;
                self.send(event);
            }
            (Stage::Undecided(_), Some(_)) => drop(self.turn(&mut state)),
            (Stage::Open | Stage::Gone | Stage::TurnedAway, _) => return,
        }
        drop(state);
        self.forget();
    }

    /// No verdict in time is a refusal. What the handler decides after all is still waited for: of a client that it lets in
    /// it is told that it is gone.
    fn lose_patience(self: &Arc<Self>) {
        let mut state = self.state();
        if state.stage != Stage::AtDoor {
            return;
        }
        debug!(client = %self.id, namespace = %self.namespace(), "refused: its admission took too long");
        state.stage = Stage::Undecided(DisconnectReason::Other("its admission took too long".into()));
        counts::CLIENTS_REFUSED.one();
        self.tell_refusal(&Refusal {
            message: Text::from_static("timeout"),
            data: None,
        });
        drop(state);
        self.session.leave(self);
    }

    fn tell_refusal(&self, refusal: &Refusal) {
        let namespace = self.namespace().as_str();
        self.push(
            self.clients
                .common
                .codec
                .refused(namespace, refusal, self.session.revision),
        );
    }

    /// Takes in an event that the client sent.
    pub(super) fn take_in(self: &Arc<Self>, event: Text, args: Payload, ack: Option<i64>) {
        let ack = ack.map(|number| AckId {
            namespace: self.namespace().clone(),
            client: self.id.clone(),
            number,
        });
        self.enqueue(EventKind::Message { event, args, ack });
    }

    /// Takes in the answer to a request.
    pub(super) fn answered(self: &Arc<Self>, number: i64, answer: Payload) {
        match self.requests.take(number) {
            Some(Asked::Reply(token)) => {
                let answer = Some(answer);
                self.enqueue(EventKind::Reply { token, answer });
            }
            Some(Asked::Collect(answers)) => {
                // Who collected may have stopped waiting.
                let _ = answers.send((self.id.clone(), answer));
            }
            None => {}
        }
    }

    /// Emits an event and asks for an acknowledgement.
    pub(super) fn request(self: &Arc<Self>, event: &str, args: &Payload, asked: Asked) -> i64 {
        let number = self.requests.add(asked);
        self.push(
            self.clients
                .common
                .codec
                .event(self.namespace(), event, args, Some(number)),
        );
        number
    }

    /// Puts an event behind the client's earlier ones; none before its first or after its last. Says whether it did.
    pub(super) fn enqueue(self: &Arc<Self>, kind: EventKind) -> bool {
        let mut state = self.state();
        if state.stage != Stage::Open {
            return false;
        }
        if let EventKind::Message { ack: Some(ack), .. } = &kind {
            state.acks.insert(ack.number, Instant::now());
            if state.acks.len() >= ACKS && state.held_since.is_none() && !state.is_unanswered {
                self.hold(&mut state);
            }
            if state.acks.len() > ACKS {
                // Clients count upwards.
                state.acks.pop_first();
                counts::ACKS_FORGOTTEN.one();
            }
        }
        let event = self.event(&state, kind);
        self.send(event);
        true
    }

    /// The client is gone: this is its last event.
    pub(super) fn close(self: &Arc<Self>, reason: DisconnectReason) {
        let reason = self.verdict.get().cloned().unwrap_or(reason);
        let mut state = self.state();
        match state.stage {
            Stage::AtDoor if !self.incarnation.is_over() => {
                state.stage = Stage::Undecided(reason);
                drop(state);
                self.session.leave(self);
                return;
            }
            Stage::Open => {
                let event = self.departure(&state, reason);
                state.stage = Stage::Gone;
                self.send(event);
            }
            Stage::AtDoor => state.stage = Stage::Gone,
            Stage::Undecided(_) | Stage::Gone | Stage::TurnedAway => return,
        }
        drop(state);
        self.forget();
    }

    /// Waits no longer for a verdict on a client that left: the handler is told so, in case that it lets the client in.
    pub(super) fn stop_waiting(self: &Arc<Self>) {
        let is_undecided = matches!(self.state().stage, Stage::Undecided(_));
        if is_undecided {
            self.decided(None);
        }
    }

    /// Ends a client whose connection was not accepted, and of whom nobody will hear: it can come back, here or
    /// elsewhere. Events of it that are still on their way are to be dropped.
    pub(super) fn turn_away(&self) {
        let before = self.turn(&mut self.state());
        if !matches!(before, Stage::Gone | Stage::TurnedAway) {
            self.forget();
            self.session.hang_up();
        }
    }

    /// Whether the client was turned away, or refused.
    pub(super) fn was_turned_away(&self) -> bool {
        self.is_turned_away.load(Ordering::Acquire)
    }

    /// Answers the acknowledgement that an event asks for: that it was not taken in.
    pub(super) fn refuse(&self, event: &Event) {
        let EventKind::Message { ack: Some(ack), .. } = &event.kind else {
            return;
        };
        debug!(client = %self.id, "an event is refused: it waited too long to be accepted");
        let error = Payload {
            json: Text::from_static(OVERLOADED),
            attachments: Vec::new(),
        };
        self.acknowledge(ack.number, &error);
    }

    /// Sends the answer to an acknowledgement that the client still waits for.
    pub(super) fn acknowledge(&self, number: i64, args: &Payload) {
        let since = {
            let mut state = self.state();
            state.is_unanswered = false;
            let since = state.acks.remove(&number);
            if state.held_since.is_some() {
                state.held_since = Some(Instant::now());
            }
            if state.acks.len() <= ACKS / 2 {
                self.release(&mut state);
            }
            since
        };
        if let Some(since) = since {
            timings::ACKNOWLEDGEMENT.note(since.elapsed());
            self.push(self.clients.common.codec.answer(self.namespace(), args, number));
        }
    }

    /// Has the client not be read while it waits for too many acknowledgements, as long as some come.
    fn hold(self: &Arc<Self>, state: &mut State) {
        state.held_since = Some(Instant::now());
        self.session.pause();
        let held = Arc::downgrade(self);
        tokio::spawn(async move {
            while let Some(until) = held.upgrade().and_then(|member| member.held_until()) {
                sleep_until(until).await;
            }
        });
    }

    /// Until when the client is not read if no acknowledgement comes. None when it is read by now.
    fn held_until(&self) -> Option<Instant> {
        let mut state = self.state();
        let until = state.held_since? + ACKS_PATIENCE;
        if Instant::now() < until {
            return Some(until);
        }
        state.is_unanswered = true;
        self.release(&mut state);
        None
    }

    fn release(&self, state: &mut State) {
        if state.held_since.take().is_some() {
            self.session.resume();
        }
    }

    /// Sends a packet.
    pub(super) fn push(&self, packet: EncodedPacket) {
        self.session.send(packet);
    }

    /// Sends a packet if the client is ready to take it now.
    pub(super) fn push_volatile(&self, packet: EncodedPacket) {
        self.session.send_volatile(packet);
    }

    /// Ends the client's connection for this reason. It gets what was sent to it before, as far as it takes that.
    pub(super) fn expel(&self, reason: DisconnectReason) {
        self.judge(reason);
        self.session.hang_up();
    }

    /// Notes why this io-node ends the client. What was noted first counts.
    pub(super) fn judge(&self, reason: DisconnectReason) {
        let _ = self.verdict.set(reason);
    }

    /// Disconnects the client from its namespace.
    pub(super) fn disconnect(self: &Arc<Self>) {
        self.push(self.clients.common.codec.disconnected(self.namespace()));
        self.close(DisconnectReason::Server);
    }

    /// What is kept for the client.
    pub(super) fn attributes(&self) -> Text {
        self.state().attributes.clone()
    }

    /// Changes the attributes that go with the client's events, by a JSON merge patch. It has a number if an event of the
    /// client has made it, and else 0; one that is refused is done with all the same.
    pub(super) fn patch(&self, patch: &str, number: u64) -> Result<(), String> {
        let mut state = self.state();
        state.patched = state.patched.max(number);
        let patch = serde_json::from_str(patch).map_err(|error| format!("the patch is not JSON: {error}"))?;
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

    fn event(&self, state: &State, kind: EventKind) -> Event {
        let client = Client {
            id: self.id.clone(),
            io_node: self.clients.common.io_node.clone(),
            attributes: state.attributes.clone(),
            patched: state.patched,
        };
        Event {
            namespace: self.namespace().clone(),
            client: Some(client),
            received_at_ms: now_ms(),
            kind,
        }
    }

    /// The client's last event, which tells what it is subscribed to until then.
    fn departure(&self, state: &State, reason: DisconnectReason) -> Event {
        let channels = self.clients.subscriptions(&self.id);
        self.event(
            state,
            EventKind::Disconnect(Departure::from_channels(reason, &channels)),
        )
    }

    fn send(self: &Arc<Self>, event: Event) {
        self.session.came_in(event.size());
        self.incarnation.take_in(Arrival {
            event,
            source: Source::Client(self.clone()),
        });
    }

    /// Goes to the last stage without anybody hearing of it, and says in which one the client was.
    fn turn(&self, state: &mut State) -> Stage {
        self.is_turned_away.store(true, Ordering::Release);
        std::mem::replace(&mut state.stage, Stage::TurnedAway)
    }

    fn forget(&self) {
        self.release(&mut self.state());
        self.requests.clear();
        self.session.leave(self);
        self.directory.leave(&self.clients, &self.id);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}
