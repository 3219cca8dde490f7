//! A transport that breaks one promise of the one it wraps: on the way in, with events, or on the way out, with effects.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use plugnode::message::{Command, Effects, Event, EventId, EventKind, Handshake, KeyValue, NodeId, Scope, SessionId};
use plugnode::transport::{
    Commits, DeadLetter, Delivery, Inbox, IoNode, IoSession, Lease, Leases, Log, Outcome, Result, Revival, Transport,
    Verdict,
};

use crate::fault::{Fault, Turns};

/// The events that are counted: one of `plugnode-check`, which asks its other questions until they are answered and learns
/// nothing from their loss, and one of the benchmark.
const COUNTED: [&str; 2] = ["n", "echo"];

/// By what a ghost is known.
const GHOST: &str = "ghost";

/// Breaks a promise of the transport in it.
pub(crate) struct Broken {
    whole: Arc<dyn Transport>,
    fault: Fault,
    turns: Arc<Turns>,
}

impl Broken {
    pub(crate) fn new(whole: Arc<dyn Transport>, fault: Fault) -> Self {
        let turns = Arc::default();
        Self { whole, fault, turns }
    }
}

plugnode::forward_registry!(Broken: whole);

#[async_trait]
impl Transport for Broken {
    async fn join_io(&self, node: IoNode) -> Result<IoSession> {
        let IoSession { inbox, outbox } = self.whole.join_io(node).await?;
        let inbox = Arc::new(BrokenInbox {
            whole: inbox,
            fault: self.fault,
            turns: self.turns.clone(),
            held: Mutex::default(),
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

    async fn io_nodes(&self) -> Result<Vec<IoNode>> {
        self.whole.io_nodes().await
    }

    fn key_value(&self) -> Arc<dyn KeyValue> {
        self.whole.key_value()
    }

    async fn dead_letters(&self, most: usize) -> Result<Vec<DeadLetter>> {
        self.whole.dead_letters(most).await
    }

    async fn revive(&self, dead: EventId) -> Result<Revival> {
        self.whole.revive(dead).await
    }

    async fn bury(&self, dead: EventId) -> Result<bool> {
        self.whole.bury(dead).await
    }
}

struct BrokenInbox {
    whole: Arc<dyn Inbox>,
    fault: Fault,
    turns: Arc<Turns>,
    /// Messages that wait for what their client does next.
    held: Mutex<HashMap<SessionId, Event>>,
}

#[async_trait]
impl Inbox for BrokenInbox {
    async fn ingest(&self, events: Vec<Event>) -> Result<Vec<Event>> {
        let events = events.into_iter().flat_map(|event| self.pass(event)).collect();
        self.whole.ingest(events).await
    }

    async fn tell(&self, node: &NodeId, command: Command) -> Result<()> {
        self.whole.tell(node, command).await
    }
}

impl BrokenInbox {
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
            | (Fault::LoseDisconnect | Fault::DoubleDisconnect, EventKind::Disconnect(_)) => self.turns.of_clients(),
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
        let log = Box::new(BrokenLog { whole: lease.log });
        Ok(Lease { commits, log, ..lease })
    }
}

/// Loses the connections of ghosts.
struct BrokenLog {
    whole: Box<dyn Log>,
}

#[async_trait]
impl Log for BrokenLog {
    async fn next(&mut self) -> Result<Option<Vec<Delivery>>> {
        loop {
            let Some(mut deliveries) = self.whole.next().await? else {
                return Ok(None);
            };
            deliveries.retain(|delivery| !is_ghost(&delivery.event));
            if !deliveries.is_empty() {
                return Ok(Some(deliveries));
            }
        }
    }
}

/// The connection of a client that is gone, for the transport alone.
fn ghost(event: &Event) -> Event {
    let handshake = Handshake {
        auth: None,
        query: String::new(),
        headers: Vec::new(),
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
    async fn commit(&self, mut outcomes: Vec<Outcome>) -> Result<()> {
        for outcome in &mut outcomes {
            if let Outcome {
                id,
                verdict: Verdict::Done(effects),
            } = outcome
                && is_counted(effects)
            {
                self.spoil(*id, effects);
            }
        }
        self.whole.commit(outcomes).await
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
            _ => {}
        }
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
