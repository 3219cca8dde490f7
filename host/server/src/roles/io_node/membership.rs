//! The io-node's place in the cluster: it serves in one incarnation after the other until the process ends.
//!
//! An io-node that was taken for dead has nothing left to give: the apps were told that its clients are gone. So it ends
//! their connections, which makes them come back by themselves, and joins anew; until then it takes no clients. One that is cut
//! off from the cluster does so before it is taken for dead.

use std::panic::resume_unwind;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::cut_off::Watch;
use super::delivery::Delivery;
use super::directory::Directory;
use super::handle::IoHandle;
use super::hooks::Hooks;
use super::incarnation::{Events, Gate, Incarnation};
use super::intake;
use super::questions::Questions;
use super::session::Sessions;
use plugnode_message::{DisconnectReason, Event};
use plugnode_process::counts;
use plugnode_process::pause::Pause;
use plugnode_process::shutdown::Shutdown;
use plugnode_transport::{Inbox, IoNode, IoSession, Result, Transport, TransportError};

/// How long to wait for sockets to be closed.
const CLOSING: Duration = Duration::from_secs(5);
/// How long to wait before joining again, at first
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// and at most.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// Who stayed for so long is not in a hurry to be fenced again.
const SETTLED: Duration = Duration::from_secs(30);

/// An io-node that has joined once.
pub(super) struct Membership {
    pub(super) node: IoNode,
    pub(super) transport: Transport,
    pub(super) sessions: Arc<Sessions>,
    pub(super) directory: Arc<Directory>,
    pub(super) gate: Arc<Gate>,
    pub(super) hooks: Hooks,
    pub(super) handle: IoHandle,
    /// Over how long connections are ended when the process ends.
    pub(super) drain: Duration,
    /// How long it may take after that to answer what was read of a client.
    pub(super) answering: Duration,
    /// How long the transport may be out of reach, with no evidence of the reason.
    pub(super) cut_off: Duration,
    pub(super) refuse_after: Duration,
    pub(super) shutdown: Shutdown,
}

/// A session of the transport, and what is joined by it.
pub(super) struct Joined {
    pub(super) session: IoSession,
    pub(super) incarnation: Arc<Incarnation>,
    pub(super) events: Events,
}

impl Membership {
    /// Serves until the process ends, and joins anew each time that it lost its place.
    pub(super) async fn run(self, mut joined: Joined) {
        let mut pause = Pause::new(FIRST_PAUSE, LONGEST_PAUSE);
        let mut watch = Watch::new(self.node.id.clone(), self.transport.clone(), self.cut_off);
        loop {
            let began = Instant::now();
            let Err(error) = self.serve(joined, &mut watch).await else {
                return;
            };
            warn!(
                io_node = %self.node.id, %error,
                "this io-node lost its place in the cluster; ending its connections and joining anew"
            );
            counts::PLACES_LOST.one();
            self.end_clients().await;
            if began.elapsed() >= SETTLED {
                pause.reset();
            }
            let Some(session) = self.join_again(&mut pause).await else {
                self.sessions.all().iter().for_each(|session| session.hang_up());
                return;
            };
            let (incarnation, events) = self.gate.open();
            joined = Joined {
                session,
                incarnation,
                events,
            };
            info!(io_node = %self.node.id, "io-node joined anew and takes clients again");
        }
    }

    /// Serves in one incarnation. Ok when the process ends; an error is the end of the incarnation.
    async fn serve(&self, joined: Joined, watch: &mut Watch) -> Result<()> {
        let Joined {
            session: IoSession { inbox, outbox },
            incarnation,
            events,
        } = joined;
        let closing = CancellationToken::new();
        let delivery = Delivery {
            directory: self.directory.clone(),
            questions: Arc::new(Questions {
                node: self.node.id.clone(),
                directory: self.directory.clone(),
                transport: self.transport.clone(),
                inbox: inbox.clone(),
                incarnation: incarnation.clone(),
                waiting: self.handle.parts.waiting.clone(),
                shutdown: self.shutdown.clone(),
                open: Mutex::default(),
            }),
            hooks: self.hooks.clone(),
            handle: self.handle.clone(),
            shutdown: self.shutdown.clone(),
        };
        // Each in a task of its own, so that what wakes one is no turn of the others.
        let mut delivery = alone(async move { delivery.run(outbox).await });
        let (hooks, handle, refuse_after) = (self.hooks.clone(), self.handle.clone(), self.refuse_after);
        let (within, closed) = (incarnation.clone(), closing.clone());
        let own_inbox = inbox.clone();
        let intake = alone(async move {
            let hear = |event: &Event| hooks.event(&handle, event);
            intake::run(events, inbox, refuse_after, &within, closed, hear).await
        });
        let delivering = async {
            let lost = tokio::select! {
                ended = &mut delivery => Some(outcome(ended)),
                () = incarnation.over() => None,
                () = closing.cancelled() => None,
            };
            let Some(Err(lost)) = lost else {
                delivery.abort();
                // Nothing is delivered any more when it is gone.
                let _ = delivery.await;
                return Ok(());
            };
            incarnation.end();
            Err(lost)
        };
        let taking_in = async {
            let taken_in = outcome(intake.await);
            if taken_in.is_err() {
                incarnation.end();
            }
            taken_in
        };
        let ending = async {
            tokio::select! {
                () = self.shutdown.begun() => self.close(&own_inbox).await,
                () = incarnation.over() => {}
            }
            closing.cancel();
        };
        let watching = async {
            tokio::select! {
                cut_off = self.end_when_cut_off(watch, &incarnation) => cut_off,
                () = incarnation.over() => Ok(()),
                () = closing.cancelled() => Ok(()),
            }
        };
        let (delivered, taken_in, (), watched) = tokio::join!(delivering, taking_in, ending, watching);
        watched.and(delivered).and(taken_in)
    }

    /// Ends the connections, and then the incarnation, when this io-node is cut off. What it cannot hand in any more is
    /// refused: the apps are told that its clients are gone, by whoever takes it for dead or by itself when it joins anew.
    async fn end_when_cut_off(&self, watch: &mut Watch, incarnation: &Incarnation) -> Result<()> {
        loop {
            let reason = watch.until_cut_off().await;
            warn!(io_node = %self.node.id, "{reason}; ending connections, so that clients reconnect to other io-nodes");
            if self.hang_up_while_cut_off(watch).await {
                incarnation.end();
                return Err(TransportError::CutOff);
            }
            info!(io_node = %self.node.id, "the place in the cluster is renewed; the other connections stay");
        }
    }

    /// Ends connections spread over a part of the lease, and says whether that was done to the end.
    async fn hang_up_while_cut_off(&self, watch: &Watch) -> bool {
        let sessions = self.sessions.all();
        let (began, count) = (Instant::now(), sessions.len().max(1) as u32);
        for (place, session) in (0..).zip(sessions) {
            sleep_until(began + watch.time_to_close() * place / count).await;
            if watch.is_sound() {
                return false;
            }
            session.hang_up();
        }
        true
    }

    /// Closes every connection, after what came from it is answered and that is written, one after the other over the time of the
    /// drain, so that clients do not all come back at once. Connections and not namespaces are closed, so that clients come back
    /// by themselves to wherever they find a node.
    async fn close(&self, inbox: &Arc<dyn Inbox>) {
        let sessions = self.sessions.all();
        let began = Instant::now();
        let count = sessions.len().max(1) as u32;
        let mut closing = JoinSet::new();
        for (place, session) in (0..).zip(sessions) {
            sleep_until(began + self.drain * place / count).await;
            let (inbox, standing) = (inbox.clone(), self.transport.nodes.standing());
            let until = began + self.drain + self.answering;
            closing.spawn(async move {
                let reason = DisconnectReason::ServerShutdown;
                session.expel_answered(&reason, &*inbox, &standing, until).await;
            });
        }
        closing.join_all().await;
        if timeout(CLOSING, self.all_gone()).await.is_err() {
            warn!("some sockets are still open and are cut off");
            self.sessions.all().iter().for_each(|session| session.hang_up());
            self.directory.all().iter().for_each(|member| member.stop_waiting());
        }
    }

    /// Ends the clients of an incarnation that is over, so that none of them is there when the next one begins.
    async fn end_clients(&self) {
        for member in self.directory.all() {
            member.stop_waiting();
            member.session.hang_up();
        }
        if timeout(CLOSING, self.all_gone()).await.is_err() {
            warn!("some sockets are still open; nothing that they do is heard any more");
            let all = self.directory.all();
            all.iter().for_each(|member| member.close(DisconnectReason::NodeLost));
        }
    }

    async fn all_gone(&self) {
        while !self.directory.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Joins, however often it takes. None when the process is to end.
    async fn join_again(&self, pause: &mut Pause) -> Option<IoSession> {
        loop {
            let joining = async {
                sleep(pause.take()).await;
                self.transport.events.join_io(self.node.clone()).await
            };
            let joined = tokio::select! {
                () = self.shutdown.begun() => return None,
                joined = joining => joined,
            };
            match joined {
                Ok(session) => return Some(session),
                Err(error) => warn!(io_node = %self.node.id, %error, "cannot join the cluster; trying again"),
            }
        }
    }
}

/// Runs in a task of its own, for as long as this is held.
fn alone<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::spawn(work))
}

/// What came of it. It is not aborted while somebody waits for it, so that all else is its panic, which goes on here.
fn outcome<T>(ended: std::result::Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}
