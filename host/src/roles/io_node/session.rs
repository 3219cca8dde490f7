//! One Engine.IO session: the connection that all its clients share, and how far it is ahead or behind.
//!
//! Two bounds are kept here. What came in and waits to be accepted makes the session pause: the client is slowed by its
//! own connection and nobody else notices. A websocket is not read meanwhile; of a session that polls, the requests that
//! bring messages are held back where they come in. What went out and is not written yet may grow to a limit, and beyond it
//! the connection is closed: a client that will not read is disconnected, and never given a gap.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, Weak};
use std::task::Waker;
use std::time::Instant;

use bytes::Bytes;
use engineioxide::{ProtocolVersion, Socket};
use socketioxide_core::Sid;
use tokio::sync::Notify;
use tokio::task::AbortHandle;
use tokio::time::sleep_until;

use super::codec::{Revision, Unfinished};
use super::encoded::Encoded;
use super::limits::{EventRate, Verdict};
use super::line::{Line, Outgoing, close};
use super::member::Member;
use super::opening::Opening;
use crate::http::Connection;
use crate::message::DisconnectReason;

/// Reading pauses when so many events wait to be accepted,
const PAUSE_AT: usize = 64;
/// and goes on when so few do.
const RESUME_AT: usize = 16;
/// One request of a session that polls may bring many: when so many events wait, the session is closed.
const CLOSE_AT: usize = 8_192;
/// Tokens of a session that may wait for a key at the same time.
const CHECKS: usize = 16;

/// The bounds of a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of events that may wait to be accepted before reading pauses.
    pub(super) waiting: usize,
    /// Bytes that may wait to be written.
    pub(super) unsent: u64,
    /// Events a second that may come in.
    pub(super) events_per_second: Option<u32>,
}

/// All sessions of this io-node, by Engine.IO session id.
pub(super) struct Sessions {
    bounds: Bounds,
    known: Mutex<HashMap<Sid, Weak<Session>>>,
}

/// Where the engine keeps our session.
#[derive(Default)]
pub struct Seat(OnceLock<Arc<Session>>);

/// One session.
pub(super) struct Session {
    pub(super) id: Sid,
    pub(super) revision: Revision,
    pub(super) opening: Arc<Opening>,
    pub(super) unfinished: Unfinished,
    bounds: Bounds,
    members: Mutex<Members>,
    flow: Mutex<Flow>,
    /// Told when a pause is over.
    resumed: Arc<Notify>,
    sessions: Weak<Sessions>,
}

#[derive(Default)]
struct Members {
    /// Seldom more than one.
    present: Vec<Arc<Member>>,
    /// Ends the session if nobody enters a namespace in time.
    deadline: Option<AbortHandle>,
    has_entered: bool,
    /// The session is over: nobody enters any more.
    is_over: bool,
    /// Namespaces whose client waits for its token to be looked at.
    checking: Vec<Box<str>>,
}

struct Flow {
    line: Line,
    connection: Option<Arc<Connection>>,
    /// Whether the connection is the session's own, and not one that it polls on.
    websocket: bool,
    waiting: usize,
    waiting_bytes: usize,
    paused: bool,
    /// Bytes given to be sent, on the scale of what the connection has written.
    sent: u64,
    pacing: Option<Box<Pacing>>,
}

/// How fast a session sends events, when there is a limit to that.
struct Pacing {
    rate: EventRate,
    /// Until when it is paused because it sent too many.
    held_until: Option<Instant>,
}

/// A session that has to be closed, and why.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Excess {
    /// It sends events faster than they are accepted, and does not wait.
    Flood,
    /// It does not read what it is sent.
    SlowReader,
}

impl Sessions {
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            known: Mutex::default(),
        })
    }

    /// Begins the session of a socket that the engine has just opened.
    pub(super) fn begin_with(self: &Arc<Self>, socket: &Arc<Socket<Seat>>, opening: Arc<Opening>) -> Arc<Session> {
        let revision = match socket.protocol {
            ProtocolVersion::V3 => Revision::V4,
            ProtocolVersion::V4 => Revision::V5,
        };
        self.begin(socket.id, revision, opening, Line::Engine(Arc::downgrade(socket)))
    }

    /// Begins a session that opens as a websocket.
    pub(super) fn begin_websocket(self: &Arc<Self>, revision: Revision, opening: Arc<Opening>) -> Arc<Session> {
        self.begin(Sid::new(), revision, opening, Line::WebSocket(Outgoing::default()))
    }

    fn begin(self: &Arc<Self>, id: Sid, revision: Revision, opening: Arc<Opening>, line: Line) -> Arc<Session> {
        let connection = opening.connection();
        let flow = Flow {
            line,
            websocket: opening.is_websocket(),
            waiting: 0,
            waiting_bytes: 0,
            paused: false,
            sent: connection.as_ref().map_or(0, |connection| connection.written()),
            connection,
            pacing: self.bounds.events_per_second.map(Pacing::new),
        };
        let session = Arc::new(Session {
            id,
            revision,
            opening,
            unfinished: Unfinished::default(),
            bounds: self.bounds,
            members: Mutex::default(),
            flow: Mutex::new(flow),
            resumed: Arc::default(),
            sessions: Arc::downgrade(self),
        });
        self.known().insert(session.id, Arc::downgrade(&session));
        session
    }

    /// The session of that id, if there is one.
    pub(super) fn find(&self, id: Sid) -> Option<Arc<Session>> {
        self.known().get(&id).and_then(Weak::upgrade)
    }

    /// All sessions.
    pub(super) fn all(&self) -> Vec<Arc<Session>> {
        self.known().values().filter_map(Weak::upgrade).collect()
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Sid, Weak<Session>>> {
        self.known.lock().expect("nothing panics while it holds this lock")
    }
}

impl Seat {
    pub(super) fn take(&self, session: Arc<Session>) {
        assert!(self.0.set(session).is_ok(), "a session begins once");
    }

    pub(super) fn session(&self) -> Option<&Arc<Session>> {
        self.0.get()
    }
}

impl Session {
    /// Notes a client of this session.
    pub(super) fn enter(&self, member: &Arc<Member>) {
        let mut members = self.members();
        members.present.push(member.clone());
        members.has_entered = true;
        if let Some(deadline) = members.deadline.take() {
            deadline.abort();
        }
    }

    /// Forgets a client of this session, and none that is in its namespace by now.
    pub(super) fn leave(&self, gone: &Member) {
        self.members().present.retain(|member| !std::ptr::eq(&**member, gone));
    }

    /// The session is over: gives its clients out. Those that enter at the same time see to their end themselves.
    pub(super) fn end(&self) -> Vec<Arc<Member>> {
        let mut members = self.members();
        members.is_over = true;
        if let Some(deadline) = members.deadline.take() {
            deadline.abort();
        }
        self.resumed.notify_waiters();
        std::mem::take(&mut members.present)
    }

    /// Whether it is over.
    pub(super) fn is_over(&self) -> bool {
        self.members().is_over
    }

    /// The client of this session in a namespace.
    pub(super) fn member(&self, namespace: &str) -> Option<Arc<Member>> {
        let members = self.members();
        let mut present = members.present.iter();
        present.find(|member| member.namespace().as_str() == namespace).cloned()
    }

    /// All clients of this session.
    pub(super) fn all(&self) -> Vec<Arc<Member>> {
        self.members().present.clone()
    }

    /// Whether a client of this session has entered a namespace.
    pub(super) fn has_entered(&self) -> bool {
        self.members().has_entered
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

    /// Gives a packet to be sent, and finds a client that does not read. What is given to a session that is over goes
    /// nowhere.
    pub(super) fn send(&self, packet: Encoded) -> Result<(), Excess> {
        // The frames of a packet stay together.
        let mut flow = self.flow();
        let weight = packet.weight();
        if flow.line.send(packet, self.revision) {
            flow.went_out(weight, self.bounds.unsent)
        } else {
            Ok(())
        }
    }

    /// Takes the frames that are to be written to its websocket.
    pub(super) fn unsent(&self) -> Vec<Bytes> {
        match &mut self.flow().line {
            Line::WebSocket(outgoing) => std::mem::take(&mut outgoing.frames),
            Line::Engine(_) => Vec::new(),
        }
    }

    /// The same, and has the writer woken for the next.
    pub(super) fn unsent_until(&self, writer: &Waker) -> Vec<Bytes> {
        match &mut self.flow().line {
            Line::WebSocket(outgoing) => outgoing.take_until(writer),
            Line::Engine(_) => Vec::new(),
        }
    }

    /// Ends the session at once, and tells all of its clients' apps this reason.
    pub(super) fn expel(&self, reason: &DisconnectReason) {
        for member in self.all() {
            member.judge(reason.clone());
        }
        self.hang_up();
    }

    /// Ends the session at once.
    pub(super) fn hang_up(&self) {
        let (connection, socket) = {
            let flow = self.flow();
            (flow.websocket().cloned(), flow.line.socket())
        };
        match (connection, socket) {
            (Some(connection), _) => connection.close(),
            (None, Some(socket)) => close(&socket),
            (None, None) => {}
        }
    }

    /// Counts an event that came in, and pauses reading when there are too many.
    pub(super) fn came_in(&self, bytes: usize) -> Result<(), Excess> {
        let mut flow = self.flow();
        flow.waiting += 1;
        flow.waiting_bytes += bytes;
        if !flow.paused && (flow.waiting >= PAUSE_AT || flow.waiting_bytes >= self.bounds.waiting) {
            flow.paused = true;
            flow.websocket().inspect(|connection| connection.pause());
        }
        if flow.waiting >= CLOSE_AT {
            Err(Excess::Flood)
        } else {
            Ok(())
        }
    }

    /// Counts an event that does not wait any more, and resumes reading when there are few left.
    pub(super) fn went_on(&self, bytes: usize) {
        let mut flow = self.flow();
        flow.waiting -= 1;
        flow.waiting_bytes -= bytes;
        if flow.paused && flow.waiting <= RESUME_AT && flow.waiting_bytes <= self.bounds.waiting / 2 {
            flow.paused = false;
            flow.websocket().inspect(|connection| connection.resume());
            self.resumed.notify_waiters();
        }
    }

    /// Whether too much waits to be accepted, or too much came at once.
    pub(super) fn is_paused(&self) -> bool {
        self.flow().pauses() > 0
    }

    /// Counts an event on its way in, and pauses reading when they come too fast.
    pub(super) fn keep_pace(self: &Arc<Self>) -> Result<(), Excess> {
        if self.bounds.events_per_second.is_none() {
            return Ok(());
        }
        let mut flow = self.flow();
        let Some(pacing) = &mut flow.pacing else {
            return Ok(());
        };
        let wait = match pacing.rate.event(Instant::now()) {
            Verdict::Go => return Ok(()),
            Verdict::Pause(wait) => wait,
            Verdict::Disconnect => return Err(Excess::Flood),
        };
        if pacing.held_until.replace(Instant::now() + wait).is_none() {
            flow.websocket().inspect(|connection| connection.pause());
            tokio::spawn(let_go_in_time(Arc::downgrade(self)));
        }
        Ok(())
    }

    /// Ends the pause of a session that sent too fast, if it is over. Until then, says when it will be.
    fn let_go(&self) -> Option<Instant> {
        let mut flow = self.flow();
        let until = flow.pacing.as_ref()?.held_until?;
        if Instant::now() < until {
            return Some(until);
        }
        if let Some(pacing) = &mut flow.pacing {
            pacing.held_until = None;
        }
        flow.websocket().inspect(|connection| connection.resume());
        self.resumed.notify_waiters();
        None
    }

    /// Notes that the session now polls on this connection. Not when it is a websocket's, for it stays with that.
    pub(super) fn polls_on(&self, connection: Arc<Connection>) -> bool {
        let mut flow = self.flow();
        let polls = !flow.websocket;
        if polls {
            flow.goes_over(connection);
        }
        polls
    }

    /// Notes that the session now has this websocket. What it is sent from here on goes there; what it was sent before has
    /// the engine's socket, which is given out. None when it has a websocket already, or is over.
    pub(super) fn move_to(&self, connection: Arc<Connection>) -> Option<Arc<Socket<Seat>>> {
        let mut flow = self.flow();
        if flow.websocket {
            return None;
        }
        let socket = flow.line.socket()?;
        flow.line = Line::WebSocket(Outgoing::default());
        flow.websocket = true;
        flow.goes_over(connection);
        for _ in 0..flow.pauses() {
            flow.websocket().inspect(|connection| connection.pause());
        }
        Some(socket)
    }

    /// Whether the engine has it.
    pub(super) fn is_of_engine(&self) -> bool {
        matches!(self.flow().line, Line::Engine(_))
    }

    /// Whether it is a websocket's, and not one that polls.
    pub(super) fn is_websocket(&self) -> bool {
        self.flow().websocket
    }

    /// Told when a pause is over, and when the session is.
    pub(super) fn resumed(&self) -> Arc<Notify> {
        self.resumed.clone()
    }

    /// Whether everything given to be sent is written.
    pub(super) fn is_flushed(&self) -> bool {
        let flow = self.flow();
        flow.connection
            .as_ref()
            .is_none_or(|connection| connection.written() >= flow.sent)
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().expect("nothing panics while it holds this lock")
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().expect("nothing panics while it holds this lock")
    }
}

impl Flow {
    fn goes_over(&mut self, connection: Arc<Connection>) {
        self.sent = connection.written();
        self.connection = Some(connection);
    }

    fn went_out(&mut self, bytes: usize, most: u64) -> Result<(), Excess> {
        let Some(written) = self.connection.as_ref().map(|connection| connection.written()) else {
            return Ok(());
        };
        // Frames and headers are written on top of what is counted here, so a connection that keeps up runs ahead.
        self.sent = self.sent.max(written) + bytes as u64;
        if self.sent - written > most {
            Err(Excess::SlowReader)
        } else {
            Ok(())
        }
    }

    fn websocket(&self) -> Option<&Arc<Connection>> {
        self.connection.as_ref().filter(|_| self.websocket)
    }

    /// For how many reasons it is paused.
    fn pauses(&self) -> u32 {
        let held = self.pacing.as_ref().is_some_and(|pacing| pacing.held_until.is_some());
        u32::from(self.paused) + u32::from(held)
    }

    /// Lets go of the connection, for whatever reason it is paused.
    fn resume_all(&self) {
        for _ in 0..self.pauses() {
            self.websocket().inspect(|connection| connection.resume());
        }
    }
}

impl Pacing {
    fn new(events_per_second: u32) -> Box<Self> {
        Box::new(Self {
            rate: EventRate::new(events_per_second),
            held_until: None,
        })
    }
}

/// Ends a pause when its time is over, which may be put off meanwhile.
async fn let_go_in_time(session: Weak<Session>) {
    while let Some(until) = session.upgrade().and_then(|session| session.let_go()) {
        sleep_until(until.into()).await;
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        self.flow().resume_all();
        self.resumed.notify_waiters();
        if let Some(sessions) = self.sessions.upgrade() {
            sessions.known().remove(&self.id);
        }
    }
}

#[cfg(test)]
mod counted;
