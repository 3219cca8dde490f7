//! The API node as a member of the transport: it offers calls as events, and hears their answers. It has no clients and is on no list.
//!
//! Nothing here waits without a bound: calls wait in a queue of limited bytes, and a request that has given up is not offered any more.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::mpsc::{self, UnboundedReceiver, UnboundedSender};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio::time::{Instant, sleep, timeout};
use tracing::{info, warn};

use plugnode_message::{CallAnswer, CallOutcome, Command, Event, EventKind, KeyValue, NodeId, PartialAnswer, now_ms};
use plugnode_process::metrics;
use plugnode_process::shutdown::Shutdown;
use plugnode_process::{Backoff, log_limiter};
use plugnode_transport::{Inbox, IoNode, IoSession, Outbox, Result, Transport};

/// Calls in one call of the transport.
const BATCH: usize = 256;
/// The pause before joining again: at first, and at most.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// How long the running requests may take when the process ends.
const ENDING: Duration = Duration::from_secs(3);

/// The API node. Clones are handles of the same one.
#[derive(Clone)]
pub(super) struct Member(Arc<Inner>);

struct Inner {
    node: NodeId,
    transport: Transport,
    has_joined: AtomicBool,
    /// Number of the next call. Begins with the time, so that a process that is started again does not hear answers of its predecessor.
    next: AtomicU64,
    open: Mutex<HashMap<u64, UnboundedSender<Heard>>>,
    offers: mpsc::UnboundedSender<Offer>,
}

/// What the API node hears about a call.
pub(super) enum Heard {
    /// It was carried out, refused, or acknowledged.
    Outcome(CallOutcome),
    /// The answer of an io-node to its question.
    Part(NodeId, PartialAnswer),
}

/// Why a call was not accepted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum NotAccepted {
    /// This node is no member at present.
    NotJoined,
    /// The backlog of the call's partition is full.
    BacklogFull,
    /// The transport did not answer in time.
    Away,
}

/// A call that waits to be accepted.
struct Offer {
    event: Event,
    accepted: oneshot::Sender<bool>,
    _room: OwnedSemaphorePermit,
}

/// A call that is open until this is dropped.
pub(super) struct OpenCall {
    pub(super) id: u64,
    heard: UnboundedReceiver<Heard>,
    member: Member,
}

impl Member {
    /// Joins in the background, and again each time that the membership is lost.
    pub(super) fn start(node: NodeId, transport: Transport, shutdown: &Shutdown) -> Self {
        let (offers, offered) = mpsc::unbounded_channel();
        let member = Self(Arc::new(Inner {
            node,
            transport,
            has_joined: AtomicBool::new(false),
            next: AtomicU64::new(now_ms() << 20),
            open: Mutex::default(),
            offers,
        }));
        let (running, ending) = (member.clone(), shutdown.clone());
        shutdown.spawn_intake(async move { running.run(offered, ending).await });
        member
    }

    pub(super) fn node(&self) -> &NodeId {
        &self.0.node
    }

    /// The key-value store.
    pub(super) fn key_value(&self) -> &dyn KeyValue {
        &*self.0.transport.key_value
    }

    /// Opens a call: from now on its answers are heard.
    pub(super) fn open(&self) -> OpenCall {
        let id = self.0.next.fetch_add(1, Ordering::Relaxed);
        let (sender, heard) = mpsc::unbounded_channel();
        self.0.open.lock().insert(id, sender);
        OpenCall {
            id,
            heard,
            member: self.clone(),
        }
    }

    /// Offers the event of a call, and waits until the transport accepts it. It takes room in the queue meanwhile.
    pub(super) async fn offer(
        &self,
        event: Event,
        room: OwnedSemaphorePermit,
        patience: Duration,
    ) -> std::result::Result<(), NotAccepted> {
        let inner = &*self.0;
        if !inner.has_joined.load(Ordering::Acquire) || inner.transport.nodes.lease_health().is_overdue() {
            return Err(NotAccepted::NotJoined);
        }
        let (accepted, answer) = oneshot::channel();
        let offer = Offer {
            event,
            accepted,
            _room: room,
        };
        inner.offers.send(offer).map_err(|_| NotAccepted::NotJoined)?;
        match timeout(patience, answer).await {
            Ok(Ok(true)) => Ok(()),
            Ok(Ok(false)) => Err(NotAccepted::BacklogFull),
            Ok(Err(_)) => Err(NotAccepted::NotJoined),
            Err(_) => Err(NotAccepted::Away),
        }
    }

    /// The io-nodes that answer questions.
    pub(super) async fn io_nodes(&self, patience: Duration) -> Option<Vec<NodeId>> {
        let nodes = timeout(patience, self.0.transport.nodes.io_nodes()).await;
        let nodes = nodes.ok()?.ok()?;
        let own = &self.0.node;
        Some(nodes.into_iter().map(|node| node.id).filter(|id| id != own).collect())
    }

    async fn run(self, mut offered: UnboundedReceiver<Offer>, shutdown: Shutdown) {
        let mut pause = Backoff::new(PAUSE.0, PAUSE.1);
        loop {
            let joining = self
                .0
                .transport
                .events
                .join_io(IoNode::without_address(self.0.node.clone()));
            let joined = tokio::select! {
                joined = joining => joined,
                () = shutdown.begun() => return,
            };
            let error = match joined {
                Ok(session) => {
                    // It has no clients, so nobody waits for its answer to a question.
                    let unlisted = self.0.transport.nodes.unlist_io(&self.0.node).await;
                    if let Err(error) = unlisted {
                        warn!(node = %self.0.node, %error, "cannot remove the API node from the list of io-nodes");
                    }
                    pause.reset();
                    self.0.has_joined.store(true, Ordering::Release);
                    info!(node = %self.0.node, "API node joined");
                    let served = self.serve(session, &mut offered, &shutdown).await;
                    self.0.has_joined.store(false, Ordering::Release);
                    // The answers of open calls went to an outbox that is gone.
                    self.0.open.lock().clear();
                    match served {
                        Ok(()) => return,
                        Err(error) => error,
                    }
                }
                Err(error) => error,
            };
            warn!(node = %self.0.node, %error, "API node is no member of the cluster; joining again");
            metrics::PLACES_LOST.increment();
            tokio::select! {
                () = sleep(pause.next_delay()) => {}
                () = shutdown.begun() => return,
            }
        }
    }

    /// Serves until the process ends and its last requests are answered; an error ends the membership.
    async fn serve(
        &self,
        session: IoSession,
        offered: &mut UnboundedReceiver<Offer>,
        shutdown: &Shutdown,
    ) -> Result<()> {
        let IoSession { inbox, outbox } = session;
        let ended = async {
            shutdown.begun().await;
            let until = Instant::now() + ENDING;
            // Requests that were read before the end may still arrive here.
            sleep(Duration::from_millis(50)).await;
            while !self.0.open.lock().is_empty() && Instant::now() < until {
                sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::select! {
            heard = self.hear(outbox) => heard,
            taken = Self::take_in(&*inbox, offered) => taken,
            () = ended => Ok(()),
        }
    }

    /// Hands what comes for open calls to them. Commands for clients are for other nodes.
    async fn hear(&self, mut outbox: Box<dyn Outbox>) -> Result<()> {
        loop {
            for command in outbox.next().await? {
                let (call, heard) = match command {
                    Command::CallAnswer(CallAnswer {
                        api_node,
                        call,
                        outcome,
                    }) if api_node == self.0.node => (call, Heard::Outcome(outcome)),
                    Command::Answer { origin, from, part } if origin.io_node == self.0.node => {
                        let Ok(call) = origin.id.parse() else { continue };
                        (call, Heard::Part(from, part))
                    }
                    _ => continue,
                };
                let open = self.0.open.lock().get(&call).cloned();
                let is_reused = matches!(heard, Heard::Outcome(CallOutcome::KeyReused));
                match open {
                    Some(open) => drop(open.send(heard)),
                    None if is_reused && log_limiter::allows(&"/".into(), "key reused") => {
                        warn!(
                            call,
                            "a call that nobody waits for does nothing: its Idempotency-Key was used with another body"
                        );
                    }
                    None => {}
                }
            }
        }
    }

    /// Offers calls to the transport, one batch at a time.
    async fn take_in(inbox: &dyn Inbox, offered: &mut UnboundedReceiver<Offer>) -> Result<()> {
        let mut batch = Vec::new();
        while offered.recv_many(&mut batch, BATCH).await > 0 {
            let (mut events, mut waiting) = (Vec::new(), HashMap::new());
            for offer in batch.drain(..).filter(|offer: &Offer| !offer.accepted.is_closed()) {
                if let Some(id) = number_of(&offer.event) {
                    waiting.insert(id, (offer.accepted, offer._room));
                    events.push(offer.event);
                }
            }
            if events.is_empty() {
                continue;
            }
            let count = events.len();
            let refused = inbox.ingest(events).await?;
            metrics::EVENTS_ACCEPTED.add(count - refused.len());
            metrics::EVENTS_PUT_OFF.add(refused.len());
            for event in &refused {
                if let Some((accepted, _)) = number_of(event).and_then(|id| waiting.remove(&id)) {
                    let _ = accepted.send(false);
                }
            }
            for (accepted, _) in waiting.into_values() {
                let _ = accepted.send(true);
            }
        }
        Ok(())
    }
}

impl OpenCall {
    /// The next that is heard. None if this node has lost its membership, and so the answers.
    pub(super) async fn next(&mut self) -> Option<Heard> {
        self.heard.recv().await
    }
}

impl Drop for OpenCall {
    fn drop(&mut self) {
        self.member.0.open.lock().remove(&self.id);
    }
}

fn number_of(event: &Event) -> Option<u64> {
    match &event.kind {
        EventKind::Call(call) => Some(call.id),
        _ => None,
    }
}
