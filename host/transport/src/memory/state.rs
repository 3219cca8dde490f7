//! The state of the transport in memory, and how a commit changes it.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use tokio::sync::Notify;

use super::buckets::Buckets;
use super::dead::DeadLetters;
use super::partition::PartitionState;
use super::release_store::ReleaseStore;
use crate::TransportSettings;
use crate::backlog::{Backlog, Load};
use crate::command_target::{CommandTarget, collect_at_another, needs_another_collector};
use crate::{
    ConflictedOutcome, DeadContent, DeadLetter, IoNode, OutboxBudget, Outcome, Rank, RetryResult, Verdict, owner_of,
    partition_of,
};
use plugnode_message::{
    AttributePatch, Client, Command, DisconnectReason, Event, EventId, EventKind, Namespace, NodeId, Partition,
    SessionId, Text, now_ms,
};
use plugnode_release::NodeReport;

pub(super) struct State {
    pub(super) partitions: Vec<PartitionState>,
    pub(super) io_nodes: HashMap<NodeId, IoState>,
    pub(super) app_nodes: HashMap<NodeId, AppState>,
    /// The io-node of each connected client.
    pub(super) live: HashMap<(Namespace, SessionId), NodeId>,
    pub(super) buckets: Buckets,
    pub(super) dead: DeadLetters,
    /// Number of joins: the last incarnation.
    pub(super) incarnations: u64,
    /// The last report of each app-node.
    pub(super) reports: HashMap<NodeId, NodeReport>,
    pub(super) releases: ReleaseStore,
}

pub(super) struct IoState {
    pub(super) node: IoNode,
    /// Whether the io-node accepts new clients.
    pub(super) is_listed: bool,
    pub(super) incarnation: u64,
    commands: VecDeque<Command>,
    /// Their bytes.
    bytes: usize,
    pub(super) news: Arc<Notify>,
}

pub(super) struct AppState {
    pub(super) incarnation: u64,
    pub(super) granted: VecDeque<Partition>,
    pub(super) news: Arc<Notify>,
}

impl State {
    pub(super) fn new(settings: &TransportSettings) -> Self {
        Self {
            partitions: (0..settings.partitions).map(|_| PartitionState::new()).collect(),
            io_nodes: HashMap::new(),
            app_nodes: HashMap::new(),
            live: HashMap::new(),
            buckets: Buckets::new(settings.bucket_bytes, settings.timers),
            dead: DeadLetters::new(settings.dead_letters),
            incarnations: 0,
            reports: HashMap::new(),
            releases: ReleaseStore::new(),
        }
    }

    /// Adds an io-node, in place of an earlier one with its name. Returns its incarnation.
    pub(super) fn join_io(&mut self, node: IoNode, news: Arc<Notify>) -> u64 {
        self.leave_io(&node.id, None);
        self.incarnations += 1;
        let id = node.id.clone();
        let io = IoState {
            node,
            is_listed: true,
            incarnation: self.incarnations,
            commands: VecDeque::new(),
            bytes: 0,
            news,
        };
        self.io_nodes.insert(id, io);
        self.incarnations
    }

    /// Adds an app-node and assigns the partitions anew. Returns its incarnation.
    pub(super) fn join_app(&mut self, node: NodeId, news: Arc<Notify>) -> u64 {
        self.incarnations += 1;
        let app = AppState {
            incarnation: self.incarnations,
            granted: VecDeque::new(),
            news,
        };
        if let Some(fenced) = self.app_nodes.insert(node, app) {
            for partition in fenced.granted {
                self.partition(partition).owner = None;
            }
            fenced.news.notify_one();
        }
        self.rebalance();
        self.incarnations
    }

    /// Removes an app-node, unless a later one has its name, and assigns the partitions anew.
    pub(super) fn leave_app(&mut self, node: &NodeId, incarnation: u64) {
        let Some(app) = self.app_nodes.remove(node) else { return };
        if app.incarnation != incarnation {
            self.app_nodes.insert(node.clone(), app);
            return;
        }
        self.reports.remove(node);
        for partition in app.granted {
            self.partition(partition).owner = None;
        }
        self.rebalance();
    }

    /// The state of a partition.
    pub(super) fn partition(&mut self, partition: Partition) -> &mut PartitionState {
        &mut self.partitions[usize::from(partition.0)]
    }

    /// Whether a partition accepts an event. A caller of the API has one share in all partitions together.
    pub(super) fn accepts(&self, partition: Partition, event: &Event, backlog: &Backlog) -> bool {
        let partition = &self.partitions[usize::from(partition.0)];
        let open = event.counted_for().map(|client| match &event.kind {
            EventKind::Call(_) => self.partitions.iter().fold(Load::default(), |mut all, one| {
                let open = one.open_of(&client);
                all.events += open.events;
                all.bytes += open.bytes;
                all
            }),
            _ => partition.open_of(&client),
        });
        partition.has_room(event, open, backlog)
    }

    /// Tracks which io-node holds a client, from its connection to its disconnect. False for the disconnect of a client that is not
    /// known: the event is dropped.
    pub(super) fn track(&mut self, event: &Event, io_node: &NodeId) -> bool {
        let Some(client) = &event.client else { return true };
        let key = || (event.namespace.clone(), client.id.clone());
        match event.kind {
            EventKind::Connection(_) => drop(self.live.insert(key(), io_node.clone())),
            EventKind::Disconnect(_) => return self.live.remove(&key()).is_some(),
            _ => {}
        }
        true
    }

    /// Puts a dead letter's event at the end of its log.
    pub(super) fn retry(&mut self, dead: EventId) -> RetryResult {
        let Some(letter) = self.dead.find(dead) else {
            return RetryResult::Unknown;
        };
        let DeadContent::Event(event) = &letter.content else {
            return RetryResult::Foreign;
        };
        let event = Event::clone(event);
        let is_gone = |client: &Client| !self.live.contains_key(&(event.namespace.clone(), client.id.clone()));
        if event.client.as_ref().is_some_and(is_gone) {
            return RetryResult::ClientGone;
        }
        self.dead.remove(dead);
        let partition = self.partition(dead.partition);
        partition.append(event);
        partition.news.notify_one();
        RetryResult::Queued
    }

    /// Removes an io-node, of this incarnation or of any, and appends a disconnect for each of its clients.
    pub(super) fn leave_io(&mut self, node: &NodeId, incarnation: Option<u64>) {
        match self.io_nodes.get(node) {
            Some(io) if incarnation.is_none_or(|incarnation| incarnation == io.incarnation) => {}
            _ => return,
        }
        let io = self.io_nodes.remove(node).expect("it was just seen");
        io.news.notify_one();
        let count = self.partitions.len() as u16;
        let lost: Vec<_> = self
            .live
            .iter()
            .filter(|(_, holder)| *holder == node)
            .map(|(key, _)| key.clone())
            .collect();
        for (namespace, id) in lost {
            self.live.remove(&(namespace.clone(), id.clone()));
            let partition = partition_of(&id, count);
            let client = Client {
                id,
                io_node: node.clone(),
                attributes: Text::from_static("{}"),
                patched: 0,
            };
            let partition = self.partition(partition);
            partition.append(Event {
                namespace,
                client: Some(client),
                received_at_ms: now_ms(),
                kind: EventKind::Disconnect(DisconnectReason::NodeLost.into()),
            });
            partition.news.notify_one();
        }
    }

    /// Grants partitions without an owner, and revokes those that belong to another app-node.
    pub(super) fn rebalance(&mut self) {
        for (number, partition) in self.partitions.iter_mut().enumerate() {
            let number = Partition(number as u16);
            let wanted = owner_of(number, self.app_nodes.keys()).cloned();
            if partition.owner == wanted {
                continue;
            }
            if partition.owner.is_some() {
                partition.revoked = true;
                partition.news.notify_one();
                continue;
            }
            let Some(app) = wanted.as_ref().and_then(|node| self.app_nodes.get_mut(node)) else {
                continue;
            };
            partition.epoch += 1;
            partition.revoked = false;
            partition.owner = wanted;
            app.granted.push_back(number);
            app.news.notify_one();
        }
    }

    /// Applies an outcome, unless it conflicts.
    pub(super) fn commit(&mut self, outcome: Outcome) -> Option<ConflictedOutcome> {
        let Outcome {
            id,
            verdict,
            reserve_for,
            forget,
        } = outcome;
        let effects = verdict.effects();
        if !effects.writes.is_empty()
            && let Some(event) = self.partitions[usize::from(id.partition.0)].event(id.sequence)
        {
            let rank = Rank::of(id, event);
            if let Some(conflict) = self.buckets.conflict_of(rank, effects) {
                let has_reservation = reserve_for.is_some_and(|time| self.buckets.reserve_for(rank, effects, time));
                return Some(ConflictedOutcome {
                    id,
                    conflict,
                    has_reservation,
                });
            }
        }
        let event = self.partitions[usize::from(id.partition.0)].close(id.sequence)?;
        self.buckets.end_reservations(Rank::of(id, &event));
        let is_refused = verdict.refuses();
        let effects = match verdict {
            Verdict::Done(effects) => effects,
            Verdict::Dead(cause, effects) => {
                self.dead.add(DeadLetter {
                    id,
                    content: DeadContent::Event(event.clone()),
                    cause,
                    died_at_ms: now_ms(),
                });
                effects
            }
        };
        self.buckets.apply(effects.writes);
        // The timers of a client end with it.
        if let Some(client) = &event.client
            && (is_refused || matches!(event.kind, EventKind::Disconnect(_)))
        {
            self.buckets.drop_timers(id.partition, &event.namespace, &client.id);
        }
        for command in effects.commands {
            if let Some(AttributePatch {
                namespace,
                client,
                number,
                patch,
            }) = AttributePatch::of(&command, id)
            {
                let patches = &mut self.partition(id.partition).patches;
                patches.insert((namespace, client, number), patch);
            }
            self.route(command, &event);
        }
        // After the commands: the outcome may forget a patch that it makes.
        for patch in forget {
            let patches = &mut self.partition(id.partition).patches;
            patches.remove(&(patch.namespace, patch.client, patch.number));
        }
        // After the commands: these are routed by the client's io-node.
        if let Some(client) = event.client.as_ref().filter(|_| is_refused) {
            self.live.remove(&(event.namespace.clone(), client.id.clone()));
            self.partition(id.partition).forget(&event.namespace, &client.id);
        }
        None
    }

    /// Appends a command to the outboxes of the io-nodes that it has to reach.
    pub(super) fn route(&mut self, mut command: Command, event: &Event) {
        if needs_another_collector(&command, event) {
            // Unlisted members have no clients, or are about to end.
            let listed = self.io_nodes.iter().filter(|(_, io)| io.is_listed);
            collect_at_another(&mut command, listed.map(|(node, _)| node));
        }
        if self.io_nodes.len() == 1
            && let Some(io) = self.io_nodes.values_mut().next()
        {
            io.push(command);
            return;
        }
        for node in self.targets(&command, event) {
            if let Some(io) = self.io_nodes.get_mut(&node) {
                io.push(command.clone());
            }
        }
    }

    fn targets(&self, command: &Command, event: &Event) -> HashSet<NodeId> {
        match CommandTarget::of(command, event) {
            CommandTarget::Everyone => self.io_nodes.keys().cloned().collect(),
            CommandTarget::Node(node) => node.into_iter().cloned().collect(),
            CommandTarget::Holders(namespace, clients) => {
                let holders = clients
                    .iter()
                    .map(|client| self.live.get(&(namespace.clone(), client.clone())));
                // An unknown client has left, or knows its session id before its connection was accepted here.
                let holders: Option<_> = holders.map(|node| node.cloned()).collect();
                holders.unwrap_or_else(|| self.io_nodes.keys().cloned().collect())
            }
        }
    }
}

impl IoState {
    /// Whether its outbox has room.
    pub(super) fn has_room(&self, budget: OutboxBudget) -> bool {
        self.commands.len() < budget.entries && self.bytes < budget.bytes
    }

    /// Takes everything out of its outbox.
    pub(super) fn take(&mut self) -> Vec<Command> {
        self.bytes = 0;
        std::mem::take(&mut self.commands).into()
    }

    pub(super) fn push(&mut self, command: Command) {
        self.bytes += command.size();
        self.commands.push_back(command);
        // The reader takes everything at once: only the first command needs a notification.
        if self.commands.len() == 1 {
            self.news.notify_one();
        }
    }
}
