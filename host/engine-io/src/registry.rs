//! All sessions of an engine, by id.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::close_reason::CloseReason;
use crate::session::{Phase, Session};

#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<Sessions>);

#[derive(Debug, Default)]
struct Sessions {
    by_id: HashMap<Arc<str>, Session>,
    /// Whether no more sessions are accepted.
    is_closed: bool,
}

/// The entry of a session, which is removed when this is dropped.
#[derive(Debug)]
pub(crate) struct Registration {
    registry: Arc<Registry>,
    session: Session,
}

impl Registry {
    /// Enters a session. None when its id is in use, or the registry is closed.
    pub(crate) fn register(self: &Arc<Self>, session: Session) -> Option<Registration> {
        let mut sessions = self.sessions();
        if sessions.is_closed || sessions.by_id.contains_key(&session.0.id) {
            return None;
        }
        sessions.by_id.insert(session.0.id.clone(), session.clone());
        Some(Registration {
            registry: self.clone(),
            session,
        })
    }

    pub(crate) fn find(&self, id: &str) -> Option<Session> {
        self.sessions().by_id.get(id).cloned()
    }

    pub(crate) fn all(&self) -> Vec<Session> {
        self.sessions().by_id.values().cloned().collect()
    }

    pub(crate) fn len(&self) -> usize {
        self.sessions().by_id.len()
    }

    /// Accepts no more sessions.
    pub(crate) fn close(&self) {
        self.sessions().is_closed = true;
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.sessions().is_closed
    }

    fn sessions(&self) -> MutexGuard<'_, Sessions> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Registration {
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.registry.sessions().by_id.remove(&self.session.0.id);
        let mut state = self.session.0.state();
        if !matches!(state.phase, Phase::Ended(_)) {
            // The task did not end it: it was dropped with the runtime, or the application panicked.
            state.ended(CloseReason::TransportError);
        }
    }
}
