//! The io-node's membership in the cluster: it serves in one incarnation after the other until the process ends.
//!
//! When the cluster has declared an io-node dead, the apps were told that its clients are gone. Therefore it closes their connections, so
//! that they reconnect, and joins again; until then it accepts no clients. An io-node that is cut off from the cluster closes them before it
//! is declared dead.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;
use tracing::{info, warn};

use super::client_commands::ClientCommands;
use super::command_applier::CommandApplier;
use super::cut_off::Watch;
use super::drain::close_when_answered;
use super::handle::IoHandle;
use super::hooks::Hooks;
use super::intake;
use super::questions::Questions;
use plugnode_message::{DisconnectReason, Event};
use plugnode_process::Backoff;
use plugnode_process::metrics;
use plugnode_process::shutdown::Shutdown;
use plugnode_socket_io::{
    Arrivals, Connections, CurrentIncarnation, IdPreference, Incarnation, NamespaceRegistry, Socket,
};
use plugnode_transport::{Inbox, IoNode, IoSession, Result, Transport, TransportError};

/// How long closed connections may take to end.
const CLOSING: Duration = Duration::from_secs(5);
/// The pause before joining again, at first.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause before joining again.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// An incarnation that lasted this long resets the pause.
const SETTLED: Duration = Duration::from_secs(30);

/// Keeps an io-node in the cluster: joins, serves until the membership ends, joins again.
pub(super) struct Membership {
    pub(super) node: IoNode,
    pub(super) transport: Transport,
    pub(super) connections: Arc<Connections<Socket>>,
    pub(super) namespaces: Arc<NamespaceRegistry<Socket>>,
    pub(super) incarnation: Arc<CurrentIncarnation>,
    pub(super) hooks: Hooks,
    pub(super) handle: IoHandle,
    /// The time over which connections are closed when the process ends.
    pub(super) drain: Duration,
    /// How long it may then take to answer what clients have sent.
    pub(super) answering: Duration,
    /// How long the transport may be unreachable for an unknown reason.
    pub(super) cut_off: Duration,
    pub(super) refuse_after: Duration,
    pub(super) shutdown: Shutdown,
}

/// One incarnation: its session of the transport, and its events.
pub(super) struct Joined {
    pub(super) session: IoSession,
    pub(super) incarnation: Arc<Incarnation>,
    pub(super) arrivals: Arrivals,
}

/// The ids of sockets that the transport prefers. Weak, because the membership ends with its inbox.
pub(super) fn preference_of(session: &IoSession) -> IdPreference {
    let inbox = Arc::downgrade(&session.inbox);
    Box::new(move |client| inbox.upgrade().is_none_or(|inbox| inbox.prefers(client)))
}

impl Membership {
    /// Serves until the process ends, and joins again each time that its membership is lost.
    pub(super) async fn run(self, mut joined: Joined) {
        let mut pause = Backoff::new(FIRST_PAUSE, MAX_PAUSE);
        let mut watch = Watch::new(self.node.id.clone(), self.transport.clone(), self.cut_off);
        loop {
            let began = Instant::now();
            let Err(error) = self.serve(joined, &mut watch).await else {
                return;
            };
            warn!(
                io_node = %self.node.id, %error,
                "io-node lost its membership in the cluster; closing its connections and joining again"
            );
            metrics::PLACES_LOST.increment();
            self.close_all().await;
            if began.elapsed() >= SETTLED {
                pause.reset();
            }
            let Some(session) = self.join_again(&mut pause).await else {
                self.connections.all().iter().for_each(|connection| connection.close());
                return;
            };
            let (incarnation, arrivals) = self.incarnation.begin(preference_of(&session));
            joined = Joined {
                session,
                incarnation,
                arrivals,
            };
            info!(io_node = %self.node.id, "io-node joined again and accepts clients");
        }
    }

    /// Serves in one incarnation. Returns when the process ends; an error ends the incarnation only.
    async fn serve(&self, joined: Joined, watch: &mut Watch) -> Result<()> {
        let Joined {
            session: IoSession { inbox, outbox },
            incarnation,
            arrivals,
        } = joined;
        let closing = CancellationToken::new();
        let applier = CommandApplier {
            clients: ClientCommands {
                namespaces: self.namespaces.clone(),
            },
            questions: Arc::new(Questions {
                node: self.node.id.clone(),
                namespaces: self.namespaces.clone(),
                transport: self.transport.clone(),
                inbox: inbox.clone(),
                incarnation: incarnation.clone(),
                backlog: self.handle.parts.backlog.clone(),
                shutdown: self.shutdown.clone(),
                open: Default::default(),
            }),
            hooks: self.hooks.clone(),
            handle: self.handle.clone(),
            shutdown: self.shutdown.clone(),
        };
        // Each in a task of its own, so that waking one does not poll the others.
        let mut applying = spawn(async move { applier.run(outbox).await });
        let (hooks, handle, refuse_after) = (self.hooks.clone(), self.handle.clone(), self.refuse_after);
        let (within, closed) = (incarnation.clone(), closing.clone());
        let own_inbox = inbox.clone();
        let intake = spawn(async move {
            let observe = |event: &Event| hooks.event(&handle, event);
            intake::run(arrivals, inbox, refuse_after, &within, closed, observe).await
        });
        let delivering = async {
            let lost = tokio::select! {
                ended = &mut applying => Some(outcome(ended)),
                () = incarnation.over() => None,
                () = closing.cancelled() => None,
            };
            let Some(Err(lost)) = lost else {
                applying.abort();
                // Nothing is delivered after it has ended.
                let _ = applying.await;
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

    /// Closes the connections and then ends the incarnation when this io-node is cut off. Events that wait are lost: the apps are told that
    /// its clients are gone, by the node that declares it dead or by itself when it joins again.
    async fn end_when_cut_off(&self, watch: &mut Watch, incarnation: &Incarnation) -> Result<()> {
        loop {
            let reason = watch.until_cut_off().await;
            warn!(io_node = %self.node.id, %reason, "closing connections, so that clients reconnect to other io-nodes");
            if self.close_while_cut_off(watch).await {
                incarnation.end();
                return Err(TransportError::CutOff);
            }
            info!(io_node = %self.node.id, "membership renewed; the other connections stay");
        }
    }

    /// Closes connections, spread over a part of the lease. False if the lease was renewed meanwhile; then the others stay.
    async fn close_while_cut_off(&self, watch: &Watch) -> bool {
        let connections = self.connections.all();
        let (began, count) = (Instant::now(), connections.len().max(1) as u32);
        for (number, connection) in (0..).zip(connections) {
            sleep_until(began + watch.time_to_close() * number / count).await;
            if watch.is_renewed() {
                return false;
            }
            connection.close();
        }
        true
    }

    /// Closes every connection once its events are answered and the answers are written. Connections are closed one after the other over the
    /// drain time, so that clients do not all reconnect at once. Connections are closed, not namespaces, because clients reconnect by themselves
    /// only then.
    async fn close(&self, inbox: &Arc<dyn Inbox>) {
        let connections = self.connections.all();
        let began = Instant::now();
        let count = connections.len().max(1) as u32;
        let mut closing = JoinSet::new();
        for (number, connection) in (0..).zip(connections) {
            sleep_until(began + self.drain * number / count).await;
            let (inbox, lease_health) = (inbox.clone(), self.transport.nodes.lease_health());
            let until = began + self.drain + self.answering;
            closing.spawn(async move {
                let reason = DisconnectReason::ServerShutdown;
                close_when_answered(&connection, &reason, &*inbox, &lease_health, until).await;
            });
        }
        closing.join_all().await;
        if timeout(CLOSING, self.all_gone()).await.is_err() {
            warn!("some connections did not close in time; closing them without waiting for their clients");
            self.connections.all().iter().for_each(|connection| connection.close());
            let sockets = self.namespaces.all();
            sockets.iter().for_each(|socket| socket.stop_waiting_for_admission());
        }
    }

    /// Closes the connections of an incarnation that is over, so that none of its sockets is left when the next begins.
    async fn close_all(&self) {
        for socket in self.namespaces.all() {
            socket.stop_waiting_for_admission();
            socket.connection.close();
        }
        if timeout(CLOSING, self.all_gone()).await.is_err() {
            warn!("some connections did not close in time; nothing that their clients send is read");
            let sockets = self.namespaces.all();
            sockets
                .iter()
                .for_each(|socket| socket.close(DisconnectReason::NodeLost));
        }
    }

    async fn all_gone(&self) {
        while !self.namespaces.is_empty() {
            sleep(Duration::from_millis(5)).await;
        }
    }

    /// Joins, and tries again until it succeeds. None when the process ends.
    async fn join_again(&self, pause: &mut Backoff) -> Option<IoSession> {
        loop {
            let joining = async {
                sleep(pause.next_delay()).await;
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

/// Runs in a task that is aborted when the handle is dropped.
fn spawn<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> AbortOnDropHandle<T> {
    AbortOnDropHandle::new(tokio::spawn(work))
}

/// The result of a task that is not aborted. Its panic continues here.
fn outcome<T>(ended: std::result::Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| resume_unwind(error.into_panic()))
}
