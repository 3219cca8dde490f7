//! All sessions of an engine, by their ids.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::CloseReason;
use crate::session::{Phase, Session};

#[derive(Debug, Default)]
pub(crate) struct Registry(Mutex<Sessions>);

#[derive(Debug, Default)]
struct Sessions {
    by_id: HashMap<Arc<str>, Session>,
    /// No more are taken.
    is_closed: bool,
}

/// The place of a session in the registry, until this is dropped.
#[derive(Debug)]
pub(crate) struct Registered {
    registry: Arc<Registry>,
    session: Session,
}

impl Registry {
    /// Enters a session. None when its id is taken, or no more are.
    pub(crate) fn enter(self: &Arc<Self>, session: Session) -> Option<Registered> {
        let mut sessions = self.sessions();
        if sessions.is_closed || sessions.by_id.contains_key(&session.0.id) {
            return None;
        }
        sessions.by_id.insert(session.0.id.clone(), session.clone());
        Some(Registered {
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

    /// Takes no more.
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

impl Registered {
    pub(crate) fn session(&self) -> &Session {
        &self.session
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.registry.sessions().by_id.remove(&self.session.0.id);
        let mut state = self.session.0.state();
        if !matches!(state.phase, Phase::Ended(_)) {
            // Its task never came to that: it was dropped with the runtime, or the application panicked.
            state.ended(CloseReason::TransportError);
        }
    }
}
