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
use super::flow::{Bounds, Excess, Flow};
use super::line::{self, Line};
use super::member::Member;
use super::opening::Opening;
use crate::http::Connection;
use crate::message::DisconnectReason;

/// Tokens of a session that may wait for a key at the same time.
const CHECKS: usize = 16;

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

impl Sessions {
    pub(super) fn new(bounds: Bounds) -> Arc<Self> {
        Arc::new(Self {
            bounds,
            known: Mutex::default(),
        })
    }

    /// Begins the session of a client that polls, for whom the engine has opened a socket.
    pub(super) fn begin_polling(self: &Arc<Self>, socket: &Arc<Socket<Seat>>, opening: Arc<Opening>) -> Arc<Session> {
        let revision = match socket.protocol {
            ProtocolVersion::V3 => Revision::V4,
            ProtocolVersion::V4 => Revision::V5,
        };
        let line = Line::Polling {
            socket: Arc::downgrade(socket),
            connection: opening.connection(),
        };
        self.begin(socket.id, revision, opening, line)
    }

    /// Begins a session that opens as a websocket on this connection.
    pub(super) fn begin_websocket(
        self: &Arc<Self>,
        revision: Revision,
        opening: Arc<Opening>,
        connection: Arc<Connection>,
    ) -> Arc<Session> {
        self.begin(Sid::new(), revision, opening, Line::websocket(connection))
    }

    fn begin(self: &Arc<Self>, id: Sid, revision: Revision, opening: Arc<Opening>, line: Line) -> Arc<Session> {
        let session = Arc::new(Session {
            id,
            revision,
            opening,
            unfinished: Unfinished::default(),
            members: Mutex::default(),
            flow: Mutex::new(Flow::new(line, self.bounds)),
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
            flow.went_out(weight)
        } else {
            Ok(())
        }
    }

    /// Takes the frames that are to be written to its websocket, and has the writer woken for the next.
    pub(super) fn unsent_until(&self, writer: &Waker) -> Vec<Bytes> {
        self.flow().line.unsent_until(writer)
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
        // Whoever is told of its end by that may ask for what flows.
        let socket = {
            let flow = self.flow();
            match &flow.line {
                Line::WebSocket { connection, .. } => return connection.close(),
                Line::Polling { socket, .. } => socket.upgrade(),
            }
        };
        if let Some(socket) = socket {
            line::close(&socket);
        }
    }

    /// Counts an event that came in, and pauses reading when there are too many.
    pub(super) fn came_in(&self, bytes: usize) -> Result<(), Excess> {
        self.flow().came_in(bytes)
    }

    /// Counts an event that does not wait any more, and resumes reading when there are few left.
    pub(super) fn went_on(&self, bytes: usize) {
        if self.flow().went_on(bytes) {
            self.resumed.notify_waiters();
        }
    }

    /// Whether too much waits to be accepted, or too much came at once.
    pub(super) fn is_paused(&self) -> bool {
        self.flow().is_paused()
    }

    /// Counts an event on its way in, and pauses reading when they come too fast.
    pub(super) fn keep_pace(self: &Arc<Self>) -> Result<(), Excess> {
        if self.flow().keep_pace()? {
            tokio::spawn(let_go_in_time(Arc::downgrade(self)));
        }
        Ok(())
    }

    /// Ends the pause of a session that sent too fast, if it is over. Until then, says when it will be.
    fn let_go(&self) -> Option<Instant> {
        let until = self.flow().let_go();
        if until.is_none() {
            self.resumed.notify_waiters();
        }
        until
    }

    /// Notes that the session now polls on this connection. Not when it is a websocket's, for it stays with that.
    pub(super) fn polls_on(&self, poll: Arc<Connection>) -> bool {
        let mut flow = self.flow();
        let Line::Polling { socket, .. } = &flow.line else {
            return false;
        };
        let line = Line::Polling {
            socket: socket.clone(),
            connection: Some(poll),
        };
        flow.go_by(line);
        true
    }

    /// Notes that the session now has this websocket. What it is sent from here on goes there; what it was sent before has
    /// the engine's socket, which is given out. None when it has a websocket already, or is over.
    pub(super) fn move_to(&self, websocket: Arc<Connection>) -> Option<Arc<Socket<Seat>>> {
        let mut flow = self.flow();
        let Line::Polling { socket, .. } = &flow.line else {
            return None;
        };
        let socket = socket.upgrade()?;
        flow.go_by(Line::websocket(websocket));
        Some(socket)
    }

    /// Whether it is a websocket's, and not one that polls.
    pub(super) fn is_websocket(&self) -> bool {
        matches!(self.flow().line, Line::WebSocket { .. })
    }

    /// Told when a pause is over, and when the session is.
    pub(super) fn resumed(&self) -> Arc<Notify> {
        self.resumed.clone()
    }

    /// Whether everything given to be sent is written.
    pub(super) fn is_flushed(&self) -> bool {
        self.flow().is_flushed()
    }

    fn members(&self) -> MutexGuard<'_, Members> {
        self.members.lock().expect("nothing panics while it holds this lock")
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().expect("nothing panics while it holds this lock")
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
