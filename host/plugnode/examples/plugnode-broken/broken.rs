//! A transport that breaks one promise of the transport that it wraps: for events on the way in, or for effects on the way out.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use plugnode::message::{
    AckId, Change, Command, Effects, Event, EventId, EventKind, Handshake, KeyChange, Namespace, NodeId, Scope,
    SessionId, has_timers,
};
use plugnode::transport::{
    Commits, ConflictedOutcome, Delivery, Events, Inbox, IoNode, IoSession, Lease, Leases, Log, Outcome, Result,
    Transport, Verdict,
};

use crate::fault::{Fault, HitCounter};

/// Names of the events that can be hit: that of `plugnode-check`, which repeats its other messages until they are answered, and
/// so does not notice their loss, and that of the benchmark.
const COUNTED: [&str; 2] = ["n", "echo"];

/// Prefix of the keys of shared counters.
const COUNTER: &str = "counter:";

/// Delay of the copy of a refused message. The client knows of the refusal by then, because tests set `refuse-after-ms` to less.
const COPY_DELAY: Duration = Duration::from_secs(1);

/// Marks ghosts: connection events that only the wrapped transport sees.
const GHOST: &str = "ghost";

/// Breaks a promise of the wrapped transport.
pub(crate) struct Broken {
    whole: Arc<dyn Events>,
    fault: Fault,
    counter: Arc<HitCounter>,
}

impl Broken {
    /// This transport with a fault on the way of its events.
    pub(crate) fn over(transport: Transport, fault: Fault) -> Transport {
        let broken = Self {
            whole: transport.events,
            fault,
            counter: Arc::default(),
        };
        Transport {
            events: Arc::new(broken),
            ..transport
        }
    }
}

#[async_trait]
impl Events for Broken {
    async fn join_io(&self, node: IoNode) -> Result<IoSession> {
        let IoSession { inbox, outbox } = self.whole.join_io(node).await?;
        let inbox = Arc::new(BrokenInbox {
            whole: inbox,
            fault: self.fault,
            counter: self.counter.clone(),
            held: Mutex::default(),
            refused: Mutex::default(),
        });
        Ok(IoSession { inbox, outbox })
    }

    async fn join_app(&self, node: NodeId) -> Result<Box<dyn Leases>> {
        Ok(Box::new(BrokenLeases {
            whole: self.whole.join_app(node).await?,
            fault: self.fault,
            counter: self.counter.clone(),
        }))
    }

    fn outlives_process(&self) -> bool {
        self.whole.outlives_process()
    }
}

struct BrokenInbox {
    whole: Arc<dyn Inbox>,
    fault: Fault,
    counter: Arc<HitCounter>,
    /// Messages and calls held back until the next event of their client or order.
    held: Mutex<HashMap<SessionId, Event>>,
    /// Messages that are refused each time they are offered.
    refused: Mutex<HashSet<AckId>>,
}

#[async_trait]
impl Inbox for BrokenInbox {
    async fn ingest(&self, events: Vec<Event>) -> Result<Vec<Event>> {
        if self.fault == Fault::TakeRefused {
            return self.refuse_some(events).await;
        }
        if self.fault == Fault::DoubleCall {
            return self.forget_some(events).await;
        }
        let events = events.into_iter().flat_map(|event| self.pass(event)).collect();
        self.whole.ingest(events).await
    }

    async fn tell(&self, node: &NodeId, command: Command) -> Result<()> {
        self.whole.tell(node, command).await
    }

    fn open_events(&self, namespace: &Namespace, client: &SessionId) -> usize {
        self.whole.open_events(namespace, client)
    }
}

impl BrokenInbox {
    /// Refuses some messages, with all later events of their clients, and ingests a late copy of each.
    async fn refuse_some(&self, events: Vec<Event>) -> Result<Vec<Event>> {
        let mut refused_clients = HashSet::new();
        let (mut passed, mut refused) = (Vec::new(), Vec::new());
        for event in &events {
            let client = event.client.as_ref().map(|client| client.id.clone());
            if refused_clients.contains(&client) || self.refuses(event) {
                refused_clients.insert(client);
                refused.push(event.clone());
            } else {
                passed.push(event.clone());
            }
        }
        refused.extend(self.whole.ingest(passed).await?);
        // In the order of the call.
        Ok(events.into_iter().filter(|event| refused.contains(event)).collect())
    }

    /// Takes some calls in without their idempotency keys, and says that they are refused.
    async fn forget_some(&self, mut events: Vec<Event>) -> Result<Vec<Event>> {
        let mut forgotten = Vec::new();
        for event in &mut events {
            if self.is_hit(event)
                && let EventKind::Call(call) = &mut event.kind
            {
                call.key = None;
                forgotten.push(event.clone());
            }
        }
        forgotten.extend(self.whole.ingest(events).await?);
        Ok(forgotten)
    }

    fn refuses(&self, event: &Event) -> bool {
        let EventKind::Message {
            event: name,
            ack: Some(ack),
            ..
        } = &event.kind
        else {
            return false;
        };
        let mut refused = self.refused.lock().expect("the lock is not poisoned");
        if refused.contains(ack) {
            return true;
        }
        let is_hit = COUNTED.contains(&name.as_ref()) && self.counter.hits_message();
        if is_hit {
            refused.insert(ack.clone());
            let (whole, copy) = (self.whole.clone(), event.clone());
            tokio::spawn(async move {
                tokio::time::sleep(COPY_DELAY).await;
                // Errors are ignored: the transport may have ended.
                let _ = whole.ingest(vec![copy]).await;
            });
        }
        is_hit
    }

    /// Returns the events to ingest instead of this one.
    fn pass(&self, event: Event) -> Vec<Event> {
        if let Some(held) = self.release(&event) {
            return match (&event.kind, self.fault) {
                (EventKind::Disconnect(_), Fault::SwapEvents) => vec![held, event],
                _ => vec![event, held],
            };
        }
        if !self.is_hit(&event) {
            return vec![event];
        }
        match self.fault {
            Fault::LoseEvent | Fault::LoseConnection | Fault::LoseDisconnect | Fault::LoseCall => Vec::new(),
            Fault::SwapEvents | Fault::LateEvent | Fault::SwapCalls => {
                let order = order(&event).expect("a message or a call has an order").clone();
                self.held.lock().expect("the lock is not poisoned").insert(order, event);
                Vec::new()
            }
            // A second disconnect would be ignored, so a ghost connects the client again before it.
            Fault::DoubleDisconnect => vec![event.clone(), ghost(&event), event],
            _ => vec![event.clone(), event],
        }
    }

    /// Takes the message that is held back until this event.
    fn release(&self, event: &Event) -> Option<Event> {
        if self.fault == Fault::LateEvent && !matches!(event.kind, EventKind::Disconnect(_)) {
            return None;
        }
        let mut held = self.held.lock().expect("the lock is not poisoned");
        held.remove(order(event)?)
    }

    fn is_hit(&self, event: &Event) -> bool {
        match (self.fault, &event.kind) {
            (
                Fault::LoseEvent | Fault::DoubleEvent | Fault::SwapEvents | Fault::LateEvent,
                EventKind::Message { event, .. },
            ) => COUNTED.contains(&event.as_ref()) && self.counter.hits_message(),
            (Fault::LoseConnection | Fault::DoubleConnection, EventKind::Connection(_))
            | (Fault::LoseDisconnect | Fault::DoubleDisconnect, EventKind::Disconnect(_))
            | (Fault::DoubleTimer, EventKind::Timer { .. })
            | (Fault::LoseCall | Fault::DoubleCall | Fault::SwapCalls, EventKind::Call(_)) => {
                self.counter.hits_client()
            }
            _ => false,
        }
    }
}

/// What an event is in the order of: its client, or what its call names.
fn order(event: &Event) -> Option<&SessionId> {
    match &event.kind {
        EventKind::Call(call) => Some(&call.order),
        _ => event.client.as_ref().map(|client| &client.id),
    }
}

struct BrokenLeases {
    whole: Box<dyn Leases>,
    fault: Fault,
    counter: Arc<HitCounter>,
}

#[async_trait]
impl Leases for BrokenLeases {
    async fn next(&mut self) -> Result<Lease> {
        let lease = self.whole.next().await?;
        let commits = Arc::new(BrokenCommits {
            whole: lease.commits,
            fault: self.fault,
            counter: self.counter.clone(),
        });
        let log = Box::new(BrokenLog {
            whole: lease.log,
            fault: self.fault,
        });
        Ok(Lease { commits, log, ..lease })
    }
}

/// Drops the connection events of ghosts, and for [`Fault::StaleAttributes`] the attributes.
struct BrokenLog {
    whole: Box<dyn Log>,
    fault: Fault,
}

#[async_trait]
impl Log for BrokenLog {
    async fn next(&mut self) -> Result<Option<Vec<Delivery>>> {
        loop {
            let Some(mut deliveries) = self.whole.next().await? else {
                return Ok(None);
            };
            deliveries.retain(|delivery| !is_ghost(&delivery.event));
            if self.fault == Fault::StaleAttributes {
                deliveries.iter_mut().for_each(lose_attributes);
            }
            if !deliveries.is_empty() {
                return Ok(Some(deliveries));
            }
        }
    }
}

/// Clears the attributes of an event's client, marked as newer than any others.
fn lose_attributes(delivery: &mut Delivery) {
    let mut event = Event::clone(&delivery.event);
    if let Some(client) = &mut event.client {
        client.attributes = "{}".into();
        client.patched = u64::MAX;
        delivery.event = event.into();
    }
}

/// A connection event of a client that is gone, for the wrapped transport only.
fn ghost(event: &Event) -> Event {
    let handshake = Handshake {
        auth: None,
        query: "".into(),
        headers: [].into(),
        remote_addr: None,
        transport: GHOST.into(),
        recovered: false,
    };
    let kind = EventKind::Connection(Box::new(handshake));
    Event { kind, ..event.clone() }
}

fn is_ghost(event: &Event) -> bool {
    matches!(&event.kind, EventKind::Connection(handshake) if handshake.transport.as_ref() as &str == GHOST)
}

struct BrokenCommits {
    whole: Arc<dyn Commits>,
    fault: Fault,
    counter: Arc<HitCounter>,
}

#[async_trait]
impl Commits for BrokenCommits {
    async fn commit(&self, mut outcomes: Vec<Outcome>) -> Result<Vec<ConflictedOutcome>> {
        for Outcome { id, verdict, .. } in &mut outcomes {
            match verdict {
                Verdict::Done(effects) if is_counted(effects) => self.break_effects(*id, effects),
                Verdict::Dead(_, effects) if self.fault == Fault::LoseFailure && self.counter.hits_client() => {
                    effects.commands.clear();
                }
                _ => {}
            }
        }
        self.whole.commit(outcomes).await
    }
}

impl BrokenCommits {
    fn break_effects(&self, id: EventId, effects: &mut Effects) {
        let commands = &mut effects.commands;
        // A different one each time.
        let any = id.sequence as usize % commands.len();
        match self.fault {
            Fault::LoseEffects
            | Fault::LoseCommand
            | Fault::DoubleCommand
            | Fault::SwapCommands
            | Fault::MisdirectCommand
            | Fault::WritesAlone
            | Fault::CommandsAlone
                if !self.counter.hits_message() => {}
            Fault::LoseEffects => *effects = Effects::default(),
            Fault::LoseCommand => drop(commands.remove(any)),
            Fault::DoubleCommand => {
                // Not an acknowledgement: io-nodes send each only once.
                let published = commands
                    .iter()
                    .position(|command| matches!(command, Command::Publish { .. }));
                let again = commands[published.expect("counted effects have a publish")].clone();
                commands.push(again);
            }
            Fault::SwapCommands => commands.swap(0, 1),
            Fault::MisdirectCommand => {
                if let Some(Command::Publish { to, .. }) = commands.first_mut() {
                    to.to = Scope::All;
                }
            }
            Fault::WritesAlone => commands.clear(),
            Fault::CommandsAlone => effects.writes.clear(),
            Fault::LoseIncrement => effects.reads.clear(),
            Fault::LoseTimer => effects.writes.retain(|write| !has_timers(&write.bucket)),
            Fault::DoubleIncrement => {
                let mut counters = effects.writes.iter_mut().filter(|write| write.key.starts_with(COUNTER));
                if let Some(counter) = counters.next()
                    && self.counter.hits_client()
                {
                    increment_again(counter);
                }
            }
            _ => {}
        }
    }
}

/// Adds one to the value written to a shared counter.
fn increment_again(counter: &mut KeyChange) {
    if let Change::Set { value, .. } = &mut counter.change {
        let number: u64 = serde_json::from_slice(value).expect("a counter is a number");
        *value = (number + 1).to_string().into();
    }
}

/// Whether these are the effects of a counted message: a publish to its sender, and one to the channel.
fn is_counted(effects: &Effects) -> bool {
    let published = effects
        .commands
        .iter()
        .filter(|command| matches!(command, Command::Publish { .. }));
    published.count() >= 2
}
