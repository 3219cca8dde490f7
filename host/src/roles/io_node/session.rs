//! One Engine.IO session: the connection that all its clients share, and how far it is ahead or behind.
//!
//! Two bounds are kept here. What came in and waits to be accepted makes the session pause: the client is slowed by its
//! own connection and nobody else notices. A websocket is not read meanwhile; of a session that polls, the requests that
//! bring messages are held back where they come in. What went out and is not written yet may grow to a limit, and beyond it
//! the connection is closed: a client that will not read is disconnected, and never given a gap.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use socketioxide_core::Sid;
use tokio::sync::Notify;

use crate::http::Connection;

/// Reading pauses when so many events wait to be accepted,
const PAUSE_AT: usize = 64;
/// and goes on when so few do.
const RESUME_AT: usize = 16;
/// One request of a session that polls may bring many: when so many events wait, the session is closed.
const CLOSE_AT: usize = 8_192;

/// The bounds of a session.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    /// Bytes of events that may wait to be accepted before reading pauses.
    pub(super) waiting: usize,
    /// Bytes that may wait to be written.
    pub(super) unsent: u64,
}

/// All sessions of this io-node, by Engine.IO session id.
pub(super) struct Sessions {
    bounds: Bounds,
    known: Mutex<Known>,
}

#[derive(Default)]
struct Known {
    sessions: HashMap<Sid, Weak<Session>>,
    /// Connections to which a session was moved before any of its clients was there, and whether to a websocket.
    upgraded: HashMap<Sid, (Weak<Connection>, bool)>,
}

/// One session. It lives as long as one of its clients.
pub(super) struct Session {
    pub(super) id: Sid,
    bounds: Bounds,
    flow: Mutex<Flow>,
    /// Told when a pause is over.
    resumed: Arc<Notify>,
    sessions: Weak<Sessions>,
}

struct Flow {
    connection: Option<Arc<Connection>>,
    /// Whether the connection is the session's own, and not one that it polls on.
    websocket: bool,
    waiting: usize,
    waiting_bytes: usize,
    paused: bool,
    /// Bytes given to be sent, on the scale of what the connection has written.
    sent: u64,
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

    /// The session of that id, if one of its clients is there.
    pub(super) fn find(&self, id: Sid) -> Option<Arc<Session>> {
        self.known().sessions.get(&id).and_then(Weak::upgrade)
    }

    /// The session of that id, made when this is the first of its clients: on this connection, a websocket or not, unless
    /// it has moved already.
    pub(super) fn of(self: &Arc<Self>, id: Sid, connection: Option<Arc<Connection>>, websocket: bool) -> Arc<Session> {
        let mut known = self.known();
        if let Some(session) = known.sessions.get(&id).and_then(Weak::upgrade) {
            return session;
        }
        let moved = known
            .upgraded
            .remove(&id)
            .and_then(|(connection, websocket)| Some((connection.upgrade()?, websocket)));
        let (connection, websocket) = match moved {
            Some((connection, websocket)) => (Some(connection), websocket),
            None => (connection, websocket),
        };
        let sent = connection.as_ref().map_or(0, |connection| connection.written());
        let flow = Flow {
            connection,
            websocket,
            waiting: 0,
            waiting_bytes: 0,
            paused: false,
            sent,
        };
        let session = Arc::new(Session {
            id,
            bounds: self.bounds,
            flow: Mutex::new(flow),
            resumed: Arc::default(),
            sessions: Arc::downgrade(self),
        });
        known.sessions.insert(id, Arc::downgrade(&session));
        session
    }

    /// Notes that a session now goes over this connection: it was upgraded to this websocket, or polls on it.
    pub(super) fn moved(&self, id: Sid, connection: Arc<Connection>, websocket: bool) {
        let mut known = self.known();
        if let Some(session) = known.sessions.get(&id).and_then(Weak::upgrade) {
            drop(known);
            session.move_to(connection, websocket);
            return;
        }
        if known.upgraded.len() >= 1_024 {
            known
                .upgraded
                .retain(|_, (connection, _)| connection.strong_count() > 0);
        }
        known.upgraded.insert(id, (Arc::downgrade(&connection), websocket));
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().expect("nothing panics while it holds this lock")
    }
}

impl Session {
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

    /// Whether too much waits to be accepted.
    pub(super) fn is_paused(&self) -> bool {
        self.flow().paused
    }

    /// Told when a pause is over, and when the session is.
    pub(super) fn resumed(&self) -> Arc<Notify> {
        self.resumed.clone()
    }

    /// Counts bytes given to be sent, and finds a client that does not read.
    pub(super) fn went_out(&self, bytes: usize) -> Result<(), Excess> {
        let mut flow = self.flow();
        let Some(written) = flow.connection.as_ref().map(|connection| connection.written()) else {
            return Ok(());
        };
        // Frames and headers are written on top of what is counted here, so a connection that keeps up runs ahead.
        flow.sent = flow.sent.max(written) + bytes as u64;
        if flow.sent - written > self.bounds.unsent {
            Err(Excess::SlowReader)
        } else {
            Ok(())
        }
    }

    /// Whether everything given to be sent is written.
    pub(super) fn is_flushed(&self) -> bool {
        let flow = self.flow();
        flow.connection
            .as_ref()
            .is_none_or(|connection| connection.written() >= flow.sent)
    }

    /// Ends the TCP connection at once.
    pub(super) fn close(&self) {
        self.flow().connection.iter().for_each(|connection| connection.close());
    }

    fn move_to(&self, connection: Arc<Connection>, websocket: bool) {
        let mut flow = self.flow();
        if flow
            .connection
            .as_ref()
            .is_some_and(|current| Arc::ptr_eq(current, &connection))
        {
            flow.sent = connection.written();
            return;
        }
        if flow.paused {
            flow.websocket().inspect(|connection| connection.resume());
        }
        flow.sent = connection.written();
        flow.connection = Some(connection);
        flow.websocket = websocket;
        if flow.paused {
            flow.websocket().inspect(|connection| connection.pause());
        }
    }

    fn flow(&self) -> MutexGuard<'_, Flow> {
        self.flow.lock().expect("nothing panics while it holds this lock")
    }
}

impl Flow {
    fn websocket(&self) -> Option<&Arc<Connection>> {
        self.connection.as_ref().filter(|_| self.websocket)
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        {
            let flow = self.flow();
            if flow.paused {
                flow.websocket().inspect(|connection| connection.resume());
            }
        }
        self.resumed.notify_waiters();
        let Some(sessions) = self.sessions.upgrade() else {
            return;
        };
        let mut known = sessions.known();
        // A new session of that id would have found this one alive, or has taken its place already.
        if known
            .sessions
            .get(&self.id)
            .is_some_and(|session| session.strong_count() == 0)
        {
            known.sessions.remove(&self.id);
        }
    }
}
