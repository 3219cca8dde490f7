//! What is under way with each session that polls: the poll that waits, and the message that is taken in.
//!
//! The engine waits with a poll for as long as it has nothing to send. While a session is about to move to a websocket, its
//! polls end sooner: their client moves only when none is under way. And of messages that come at the same time nobody
//! knows the order, so there is one at a time.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use engineioxide::sid::Sid;
use tokio::sync::oneshot;

/// What is under way, by session. Of a session with which nothing is, nothing is kept.
#[derive(Default)]
pub(super) struct Exchanges {
    known: Mutex<HashMap<Sid, Exchange>>,
}

#[derive(Default)]
struct Exchange {
    /// Seldom more than one: a second ends the session.
    polls: u32,
    /// What ends the poll that came last.
    release: Option<oneshot::Sender<()>>,
    /// Who waits until none is left.
    ended: Option<oneshot::Sender<()>>,
    taking_in: bool,
}

/// A poll that waits, until this is dropped.
pub(super) struct WaitingPoll {
    exchanges: Arc<Exchanges>,
    sid: Sid,
    released: oneshot::Receiver<()>,
}

/// A message that is taken in, until this is dropped.
pub(super) struct TakingIn {
    exchanges: Arc<Exchanges>,
    sid: Sid,
}

impl Exchanges {
    /// A poll has come.
    pub(super) fn begin_poll(self: &Arc<Self>, sid: Sid) -> WaitingPoll {
        let (release, released) = oneshot::channel();
        let mut known = self.known();
        let exchange = known.entry(sid).or_default();
        exchange.polls += 1;
        exchange.release = Some(release);
        WaitingPoll {
            exchanges: self.clone(),
            sid,
            released,
        }
    }

    /// A message has come. None when another of that session is still being taken in.
    pub(super) fn begin_taking_in(self: &Arc<Self>, sid: Sid) -> Option<TakingIn> {
        let mut known = self.known();
        let exchange = known.entry(sid).or_default();
        if std::mem::replace(&mut exchange.taking_in, true) {
            return None;
        }
        Some(TakingIn {
            exchanges: self.clone(),
            sid,
        })
    }

    /// Has the poll that waits be answered by nothing.
    pub(super) fn release(&self, sid: Sid) {
        let release = self.known().get_mut(&sid).and_then(|exchange| exchange.release.take());
        if let Some(release) = release {
            // It may have got its answer just now.
            let _ = release.send(());
        }
    }

    /// The same, and waits until no poll is left.
    pub(super) async fn end_polls(&self, sid: Sid) {
        let ended = match self.known().get_mut(&sid) {
            Some(exchange) if exchange.polls > 0 => {
                let (ended, end) = oneshot::channel();
                exchange.ended = Some(ended);
                end
            }
            _ => return,
        };
        self.release(sid);
        let _ = ended.await;
    }

    fn change(&self, sid: Sid, change: impl FnOnce(&mut Exchange)) {
        let mut known = self.known();
        let Some(exchange) = known.get_mut(&sid) else {
            return;
        };
        change(exchange);
        if exchange.polls == 0
            && let Some(ended) = exchange.ended.take()
        {
            let _ = ended.send(());
        }
        if exchange.polls == 0 && !exchange.taking_in {
            known.remove(&sid);
        }
    }

    fn known(&self) -> MutexGuard<'_, HashMap<Sid, Exchange>> {
        self.known.lock().expect("nothing panics while it holds this lock")
    }
}

impl WaitingPoll {
    /// Completes when it is to be answered by nothing.
    pub(super) async fn released(&mut self) {
        if (&mut self.released).await.is_err() {
            // Another poll came after it, so the session ends, and with it this.
            std::future::pending::<()>().await;
        }
    }
}

impl Drop for WaitingPoll {
    fn drop(&mut self) {
        self.exchanges.change(self.sid, |exchange| exchange.polls -= 1);
    }
}

impl Drop for TakingIn {
    fn drop(&mut self) {
        self.exchanges.change(self.sid, |exchange| exchange.taking_in = false);
    }
}
