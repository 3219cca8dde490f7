//! A transport that breaks one promise of the one it wraps: on the way in, with events, or on the way out, with effects.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use plugnode::message::{
    AckId, AttributePatch, Change, Command, Effects, Event, EventId, EventKind, Handshake, KeyChange, Namespace,
    NodeId, Scope, SessionId, has_timers,
};
use plugnode::transport::{
    Commits, Delivery, Events, Inbox, IoNode, IoSession, Lease, Leases, Log, Lost, Outcome, Result, Transport, Verdict,
};

use crate::fault::{Fault, Turns};

/// The events that are counted: one of `plugnode-check`, which asks its other questions until they are answered and learns
/// nothing from their loss, and one of the benchmark.
const COUNTED: [&str; 2] = ["n", "echo"];

/// Keys of shared counters.
const COUNTER: &str = "counter:";

/// How much later a copy of a refused message comes. Its client has been told of the refusal by then: tests set
/// `refuse-after-ms` to less.
const LATE: Duration = Duration::from_secs(1);

/// By what a ghost is known.
const GHOST: &str = "ghost";

/// Breaks a promise of the transport in it.
pub(crate) struct Broken {
    whole: Arc<dyn Events>,
    fault: Fault,
    turns: Arc<Turns>,
}

impl Broken {
    /// This transport with a fault on the way of its events.
    pub(crate) fn over(transport: Transport, fault: Fault) -> Transport {
        let broken = Self {
            whole: transport.events,
            fault,
            turns: Arc::default(),
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
            turns: self.turns.clone(),
            held: Mutex::default(),
            refused: Mutex::default(),
        });
        Ok(IoSession { inbox, outbox })
    }

    async fn join_app(&self, node: NodeId) -> Result<Box<dyn Leases>> {
        Ok(Box::new(BrokenLeases {
            whole: self.whole.join_app(node).await?,
            fault: self.fault,
            turns: self.turns.clone(),
        }))
    }

    fn outlives_process(&self) -> bool {
        self.whole.outlives_process()
    }
}

struct BrokenInbox {
    whole: Arc<dyn Inbox>,
    fault: Fault,
    turns: Arc<Turns>,
    /// Messages that wait for what their client does next.
    held: Mutex<HashMap<SessionId, Event>>,
    /// Messages that are refused whenever they are offered.
    refused: Mutex<HashSet<AckId>>,
}

#[async_trait]
impl Inbox for BrokenInbox {
    async fn ingest(&self, events: Vec<Event>) -> Result<Vec<Event>> {
        if self.fault == Fault::TakeRefused {
            return self.refuse_some(events).await;
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
    /// Refuses some messages, with all that their clients sent after them, and takes a copy of each later.
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
        // In the order in which they were offered.
        Ok(events.into_iter().filter(|event| refused.contains(event)).collect())
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
        let mut refused = self.refused.lock().expect("nobody panics with it");
        if refused.contains(ack) {
            return true;
        }
        let is_hit = COUNTED.contains(&name.as_ref()) && self.turns.of_messages();
        if is_hit {
            refused.insert(ack.clone());
            let (whole, copy) = (self.whole.clone(), event.clone());
            tokio::spawn(async move {
                tokio::time::sleep(LATE).await;
                // Whatever comes of it: the transport may have ended.
                let _ = whole.ingest(vec![copy]).await;
            });
        }
        is_hit
    }

    /// What comes of an event: itself, mostly.
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
            Fault::LoseEvent | Fault::LoseConnection | Fault::LoseDisconnect => Vec::new(),
            Fault::SwapEvents | Fault::LateEvent => {
                let client = event.client.as_ref().expect("messages are of clients").id.clone();
                self.held.lock().expect("nobody panics with it").insert(client, event);
                Vec::new()
            }
            // The disconnect of a client that is not there is not taken in, so it is back for a moment.
            Fault::DoubleDisconnect => vec![event.clone(), ghost(&event), event],
            _ => vec![event.clone(), event],
        }
    }

    /// The message that waited for this.
    fn release(&self, event: &Event) -> Option<Event> {
        if self.fault == Fault::LateEvent && !matches!(event.kind, EventKind::Disconnect(_)) {
            return None;
        }
        let mut held = self.held.lock().expect("nobody panics with it");
        held.remove(&event.client.as_ref()?.id)
    }

    fn is_hit(&self, event: &Event) -> bool {
        match (self.fault, &event.kind) {
            (
                Fault::LoseEvent | Fault::DoubleEvent | Fault::SwapEvents | Fault::LateEvent,
                EventKind::Message { event, .. },
            ) => COUNTED.contains(&event.as_ref()) && self.turns.of_messages(),
            (Fault::LoseConnection | Fault::DoubleConnection, EventKind::Connection(_))
            | (Fault::LoseDisconnect | Fault::DoubleDisconnect, EventKind::Disconnect(_))
            | (Fault::DoubleTimer, EventKind::Timer { .. }) => self.turns.of_clients(),
            _ => false,
        }
    }
}

struct BrokenLeases {
    whole: Box<dyn Leases>,
    fault: Fault,
    turns: Arc<Turns>,
}

#[async_trait]
impl Leases for BrokenLeases {
    async fn next(&mut self) -> Result<Lease> {
        let lease = self.whole.next().await?;
        let commits = Arc::new(BrokenCommits {
            whole: lease.commits,
            fault: self.fault,
            turns: self.turns.clone(),
        });
        let log = Box::new(BrokenLog {
            whole: lease.log,
            fault: self.fault,
        });
        Ok(Lease { commits, log, ..lease })
    }
}

/// Loses the connections of ghosts, and attributes where that is the fault.
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

/// Gives an event's client no attributes, as if no later ones were to come.
fn lose_attributes(delivery: &mut Delivery) {
    let mut event = Event::clone(&delivery.event);
    if let Some(client) = &mut event.client {
        client.attributes = "{}".into();
        client.patched = u64::MAX;
        delivery.event = event.into();
    }
}

/// The connection of a client that is gone, for the transport alone.
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
    turns: Arc<Turns>,
}

#[async_trait]
impl Commits for BrokenCommits {
    async fn commit(&self, mut outcomes: Vec<Outcome>) -> Result<Vec<Lost>> {
        for Outcome { id, verdict, .. } in &mut outcomes {
            match verdict {
                Verdict::Done(effects) if is_counted(effects) => self.spoil(*id, effects),
                Verdict::Dead(_, commands) if self.fault == Fault::LoseFailure && self.turns.of_clients() => {
                    commands.clear();
                }
                _ => {}
            }
        }
        self.whole.commit(outcomes).await
    }

    fn forget_patches(&self, patches: Vec<AttributePatch>) {
        self.whole.forget_patches(patches);
    }
}

impl BrokenCommits {
    fn spoil(&self, id: EventId, effects: &mut Effects) {
        let commands = &mut effects.commands;
        // Not always the same one.
        let any = id.sequence as usize % commands.len();
        match self.fault {
            Fault::LoseEffects
            | Fault::LoseCommand
            | Fault::DoubleCommand
            | Fault::SwapCommands
            | Fault::MisdirectCommand
            | Fault::WritesAlone
            | Fault::CommandsAlone
                if !self.turns.of_messages() => {}
            Fault::LoseEffects => *effects = Effects::default(),
            Fault::LoseCommand => drop(commands.remove(any)),
            Fault::DoubleCommand => {
                // Io-nodes answer an acknowledgement once, whatever comes.
                let published = commands
                    .iter()
                    .position(|command| matches!(command, Command::Publish { .. }));
                let again = commands[published.expect("it is counted by these")].clone();
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
                    && self.turns.of_clients()
                {
                    increment_again(counter);
                }
            }
            _ => {}
        }
    }
}

/// Adds one more to what is written to a shared counter.
fn increment_again(counter: &mut KeyChange) {
    if let Change::Set { value, .. } = &mut counter.change {
        let number: u64 = serde_json::from_slice(value).expect("counters are numbers");
        *value = (number + 1).to_string().into();
    }
}

/// Whether these are the effects of a counted message: to its sender, and to the channel.
fn is_counted(effects: &Effects) -> bool {
    let published = effects
        .commands
        .iter()
        .filter(|command| matches!(command, Command::Publish { .. }));
    published.count() >= 2
}
