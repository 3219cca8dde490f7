//! One session: the connection that all its clients share, and how far it is ahead.
//!
//! What came in and waits to be accepted pauses the session: the client is slowed by its own connection and nobody else notices.
//! What goes out is bounded by the engine, which ends a session whose client does not read: it is never given a gap.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, RwLock, Weak};
use std::time::Duration;

use tokio::task::AbortHandle;
use tokio::time::{Instant, sleep, sleep_until};

use super::flow::{Bounds, Flow};
use super::limits::{Flood, Place};
use super::member::Member;
use plugnode_message::{DisconnectReason, Handshake, Namespace, Text};
use plugnode_socket_io::{EncodedPacket, PartialPacket, Revision};
use plugnode_transport::{Inbox, Standing};

/// How often it is looked whether what a session sent is answered, and how often in a row it has to be so.
const LOOK: Duration = Duration::from_millis(10);
const ANSWERED: u32 = 3;
/// How long a client that goes on sending is still read when its session is to end.
const BUSY: Duration = Duration::from_millis(200);

/// Tokens of a session that may wait for a key at the same time.
const CHECKS: usize = 16;

/// Namespaces that a session is known to have left.
const LEFT: usize = 16;

/// A namespace that is looked up by its text.
#[derive(PartialEq, Eq, Hash)]
struct Name(Namespace);

/// What the handshakes of a session's clients share: it is there once, for as long as one of them is on its way.
#[derive(Default)]
struct Opened {
    query: Option<Weak<str>>,
    headers: Option<Weak<[(String, String)]>>,
}

/// All sessions of this io-node.
pub(super) struct Sessions {
    bounds: RwLock<Bounds>,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    by_number: HashMap<u64, Weak<Session>>,
    last: u64,
}

/// One session.
pub(super) struct Session {
    pub(super) revision: Revision,
    pub(super) partial: PartialPacket,
    connection: engine_io::Session,
    members: Mutex<Members>,
    opened: Mutex<Opened>,
    flow: Mutex<Flow>,
    /// Among the sessions.
    number: u64,
    sessions: Weak<Sessions>,
    /// What its address has of what it may have.
    _place: Option<Place>,
}

#[derive(Default)]
struct Members {
    /// Seldom more than one. The names are the client's choice.
    present: HashMap<Name, Arc<Member>>,
    /// Ends the session if nobody enters a namespace in time.
    deadline: Option<AbortHandle>,
    has_entered: bool,
    /// The session is over: nobody enters any more.
    is_over: bool,
    /// Namespaces whose client waits for its token to be looked at.
    checking: Vec<Box<str>>,
    /// The namespaces that it was in last: what comes for them was sent before the client heard that it is disconnected.
    left: Vec<Namespace>,
    /// Ends the session when a token runs out. Of several it is the one that came last: the newest counts.
    expiry: Option<AbortHandle>,
}

impl Sessions {
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            bounds: RwLock::new(bounds),
            known: Mutex::default(),
        })
    }

    /// So much may be sent in sessions that begin from now on.
    pub(super) fn set_events_per_second(&self, most: Option<u32>) {
        let mut bounds = self.bounds.write().expect("nothing panics while it holds this lock");
        bounds.events_per_second = most;
    }

    fn bounds(&self) -> Bounds {
        self.bounds
            .read()
            .expect("nothing panics while it holds this lock")
            .clone()
    }

    /// Begins a session on a connection of the engine.
    pub(super) fn begin(self: &Arc<Self>, connection: engine_io::Session, place: Option<Place>) -> Arc<Session> {
        let revision = match connection.version() {
            engine_io::Version::V3 => Revision::V4,
            engine_io::Version::V4 => Revision::V5,
        };
        let mut known = self.known();
        known.last += 1;
        let session = Arc::new(Session {
            revision,
            partial: PartialPacket::default(),
            members: Mutex::default(),
            opened: Mutex::default(),
            flow: Mutex::new(Flow::new(connection.clone(), self.bounds())),
            connection,
            number: known.last,
            sessions: Arc::downgrade(self),
            _place: place,
        });
        known.by_number.insert(session.number, Arc::downgrade(&session));
        session
    }

    /// All sessions.
    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        self.known().by_number.values().filter_map(Weak::upgrade).collect()
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nothing panics while it holds this lock")
    }
}

impl Session {
    /// Its id in Engine.IO.
    pub(super) fn id(&self) -> &str {
        self.connection.id()
    }

    /// Where its client is, for people and handlers. A proxy may not have told the port.
    pub(super) fn address(&self) -> Option<String> {
        let peer = self.connection.opening().peer()?;
        Some(match peer.port() {
            0 => peer.ip().to_string(),
            _ => peer.to_string(),
        })
    }

    /// What the apps are told of a client that connects with this `auth`.
    pub(super) fn handshake(&self, auth: Option<Text>) -> Handshake {
        let opening = self.connection.opening();
        let (query, headers) = self.opened().of(opening);
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

    /// Notes a client of this session.
    pub(super) fn enter(&self, member: &Arc<Member>) {
        let mut members = self.members();
        members.present.insert(Name(member.namespace().clone()), member.clone());
        members.has_entered = true;
        if let Some(deadline) = members.deadline.take() {
            deadline.abort();
        }
    }

    /// Forgets a client of this session, and none that is in its namespace by now.
    pub(super) fn leave(&self, gone: &Member) {
        let mut members = self.members();
        let name = gone.namespace();
        let present = members.present.get(name.as_str());
        if present.is_some_and(|member| std::ptr::eq(&**member, gone)) {
            members.present.remove(name.as_str());
            if !members.left.contains(name) {
                let first = members.left.len().saturating_sub(LEFT - 1);
                members.left.drain(..first);
                members.left.push(name.clone());
            }
        }
    }

    /// Whether it is about to enter a namespace, or has left it not long ago.
    pub(super) fn is_near(&self, namespace: &str) -> bool {
        let members = self.members();
        let is_checked = members.checking.iter().any(|other| **other == *namespace);
        is_checked || members.left.iter().any(|left| left.as_str() == namespace)
    }

    /// The session is over: gives its clients out. Those that enter at the same time see to their end themselves.
    pub(super) fn end(&self) -> Vec<Arc<Member>> {
        let mut members = self.members();
        members.is_over = true;
        for deadline in [members.deadline.take(), members.expiry.take()].into_iter().flatten() {
            deadline.abort();
        }
        std::mem::take(&mut members.present).into_values().collect()
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        self.members().is_over
    }

    /// The client of this session in a namespace.
    pub(super) fn member(&self, namespace: &str) -> Option<Arc<Member>> {
        self.members().present.get(namespace).cloned()
    }

    /// Takes what ends this session when a token runs out, in the place of what would have by one before: a client comes in
    /// again with a new token before the old one ends.
    pub(super) fn expire_by(&self, deadline: AbortHandle) {
        let mut members = self.members();
        if members.is_over {
            deadline.abort();
        } else if let Some(earlier) = members.expiry.replace(deadline) {
            earlier.abort();
        }
    }

    /// All clients of this session.
    pub(super) fn all(&self) -> Vec<Arc<Member>> {
        self.members().present.values().cloned().collect()
    }

    /// How many namespaces it is in or about to enter.
    pub(super) fn namespaces(&self) -> usize {
        let members = self.members();
        members.present.len() + members.checking.len()
    }

    /// Whether the token of a client for this namespace is being looked at.
    pub(super) fn is_checked_for(&self, namespace: &str) -> bool {
        self.members().checking.iter().any(|other| **other == *namespace)
    }

    /// Notes that it is; not when too many are.
    pub(super) fn begin_check(&self, namespace: &str) -> bool {
        let checking = &mut self.members().checking;
        let fits = checking.len() < CHECKS;
        if fits {
            checking.push(namespace.into());
        }
        fits
    }

    /// That was done.
    pub(super) fn end_check(&self, namespace: &str) {
        self.members().checking.retain(|other| **other != *namespace);
    }

    /// Takes what ends this session if nobody enters.
    pub(super) fn expect_entry(&self, deadline: AbortHandle) {
        let mut members = self.members();
        if members.has_entered || members.is_over {
            deadline.abort();
        } else {
            members.deadline = Some(deadline);
        }
    }

    /// Gives a packet to be sent. What is given to a session that is over goes nowhere, and a client that does not read is
    /// disconnected by the engine.
    pub(super) fn send(&self, packet: EncodedPacket) {
        // What is wrong with the session ends it, and its end is told.
        let _ = self.connection.send(packet.into_packets());
    }

    /// The same, if the client is ready to take it now.
    pub(super) fn send_volatile(&self, packet: EncodedPacket) {
        let _ = self.connection.send_volatile(packet.into_packets());
    }

    /// Whether everything that its clients sent is handled.
    fn is_answered(&self, inbox: &dyn Inbox) -> bool {
        let is_open = |member: &Arc<Member>| inbox.open_events(member.namespace(), &member.id) > 0;
        self.flow().is_idle() && !self.all().iter().any(is_open)
    }

    /// Waits until that is so and what came of it is sent, or until this time.
    async fn answered(&self, inbox: &dyn Inbox, standing: &Standing, until: Instant) {
        // What is committed is on its way to here for a moment.
        let mut seen = 0;
        while seen < ANSWERED && Instant::now() < until && !self.is_over() && !standing.is_overdue() {
            sleep(LOOK).await;
            seen = if self.is_answered(inbox) { seen + 1 } else { 0 };
        }
    }

    /// Ends the session for this reason when what its clients sent is answered, but not later than at this time, and at once when
    /// the transport is away. A client that goes on sending is not read after a moment.
    pub(super) async fn expel_answered(
        &self,
        reason: &DisconnectReason,
        inbox: &dyn Inbox,
        standing: &Standing,
        until: Instant,
    ) {
        self.answered(inbox, standing, until.min(Instant::now() + BUSY)).await;
        self.pause();
        self.answered(inbox, standing, until).await;
        self.expel(reason);
        self.resume();
    }

    /// Ends the session, and tells all of its clients' apps this reason.
    pub(super) fn expel(&self, reason: &DisconnectReason) {
        for member in self.all() {
            member.judge(reason.clone());
        }
        self.hang_up();
    }

    /// Ends the session. The client gets what was sent before, as far as it takes that.
    pub(super) fn hang_up(&self) {
        self.connection.close();
    }

    /// Has what the client sends wait. Pauses are counted.
    pub(super) fn pause(&self) {
        self.connection.pause();
    }

    /// Takes one pause back.
    pub(super) fn resume(&self) {
        self.connection.resume();
    }

    /// Counts an event that came in, and pauses reading when there are too many.
    pub(super) fn came_in(&self, bytes: usize) {
        self.flow().came_in(bytes);
    }

    /// Counts an event that does not wait any more, and resumes reading when there are few left.
    pub(super) fn went_on(&self, bytes: usize) {
        self.flow().went_on(bytes);
    }

    /// Finds a flood in a burst of so many messages before any is taken in.
    pub(super) fn expect(&self, messages: usize) -> Result<(), Flood> {
        self.flow().expect(messages)
    }

    /// Counts a packet of any kind, and pauses reading when they come too fast.
    pub(super) fn packet(self: &Arc<Self>) -> Result<(), Flood> {
        let pauses = self.flow().packet()?;
        self.let_go_after(pauses);
        Ok(())
    }

    /// Counts an event on its way in, and pauses reading when they come too fast.
    pub(super) fn event(self: &Arc<Self>) -> Result<(), Flood> {
        let pauses = self.flow().event()?;
        self.let_go_after(pauses);
        Ok(())
    }

    fn let_go_after(self: &Arc<Self>, pauses: bool) {
        if pauses {
            tokio::spawn(let_go_in_time(Arc::downgrade(self)));
        }
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().expect("nothing panics while it holds this lock")
    }

    fn opened(&self) -> MutexGuard<'_, Opened> {
        self.opened.lock().expect("nothing panics while it holds this lock")
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().expect("nothing panics while it holds this lock")
    }
}

impl Borrow<str> for Name {
    fn borrow(&self) -> &str {
        self.0.as_str()
    }
}

impl Opened {
    /// Query and headers, as they are already on their way or else made anew.
    fn of(&mut self, opening: &engine_io::Opening) -> (Arc<str>, Arc<[(String, String)]>) {
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

/// Ends a pause when its time is over, which may be put off meanwhile.
async fn let_go_in_time(session: Weak<Session>) {
    while let Some(until) = session.upgrade().and_then(|session| session.flow().let_go()) {
        sleep_until(until.into()).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(sessions) = self.sessions.upgrade() {
            sessions.known().by_number.remove(&self.number);
        }
    }
}
