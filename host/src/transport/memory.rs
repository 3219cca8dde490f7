//! The embedded transport: everything in one process, behind one lock, with nothing to install.
//!
//! It keeps every promise of the seam while the process lives and nothing beyond. One lock makes a commit atomic and
//! gives all outboxes one order without further thought; it is held for moments and never across an await.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Notify;

use super::{
    Commits, DeadLetter, Delivery, Inbox, IoNode, IoSession, Lease, Leases, Log, Outbox, Outcome, Result, Transport,
    TransportError, Verdict, owner_of, partition_of,
};
use crate::message::{
    Client, Command, DisconnectReason, Event, EventId, EventKind, KeyValue, KeyValueError, Namespace, NodeId,
    Partition, SessionId, Text, Write,
};

/// At most so many events are handed out at once.
const BATCH: usize = 256;
/// At most so many dead letters are kept; older ones go.
const DEAD_LETTERS: usize = 1_000;
/// At most so many keys are in one page.
const PAGE: usize = 1_000;

/// Limits of the embedded transport.
#[derive(Debug, Clone)]
pub struct MemorySettings {
    /// Number of partitions.
    pub partitions: u16,
    /// How many events that are not committed yet a partition holds before it refuses more.
    pub backlog: usize,
    /// How many of these may be of one client.
    pub client_backlog: usize,
    /// How many commands may wait for an io-node before commits wait for it.
    pub outbox: usize,
}

impl Default for MemorySettings {
    fn default() -> Self {
        Self {
            partitions: 64,
            backlog: 10_000,
            client_backlog: 256,
            outbox: 100_000,
        }
    }
}

/// The embedded transport. Clones are the same one.
#[derive(Clone)]
pub struct Memory {
    settings: MemorySettings,
    state: Arc<Mutex<State>>,
    /// Told when an outbox was emptied.
    space: Arc<Notify>,
}

struct State {
    partitions: Vec<PartitionState>,
    io_nodes: HashMap<NodeId, IoState>,
    app_nodes: HashMap<NodeId, AppState>,
    /// Which io-node holds a client.
    live: HashMap<(Namespace, SessionId), NodeId>,
    buckets: HashMap<Text, BTreeMap<Text, Bytes>>,
    dead: VecDeque<DeadLetter>,
    /// Counts joins, so that each has a number of its own.
    incarnations: u64,
}

struct PartitionState {
    /// Events from the oldest that is not committed; committed ones behind it are empty.
    log: VecDeque<Option<Arc<Event>>>,
    /// The sequence number of the first in the log.
    first: u64,
    /// How many in the log are not committed, in all and by client.
    open: usize,
    open_by_client: HashMap<SessionId, usize>,
    /// Counts leases: what an earlier lease asks for is refused.
    epoch: u64,
    owner: Option<NodeId>,
    revoked: bool,
    news: Arc<Notify>,
}

struct IoState {
    node: IoNode,
    incarnation: u64,
    commands: VecDeque<Command>,
    news: Arc<Notify>,
}

struct AppState {
    incarnation: u64,
    granted: VecDeque<Partition>,
    news: Arc<Notify>,
}

impl Memory {
    /// An empty transport that nobody has joined.
    pub fn new(settings: MemorySettings) -> Self {
        let partitions = (0..settings.partitions).map(|_| PartitionState::new()).collect();
        let state = State {
            partitions,
            io_nodes: HashMap::new(),
            app_nodes: HashMap::new(),
            live: HashMap::new(),
            buckets: HashMap::new(),
            dead: VecDeque::new(),
            incarnations: 0,
        };
        Self {
            settings,
            state: Arc::new(Mutex::new(state)),
            space: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("nothing panics while it holds this lock")
    }
}

#[async_trait]
impl Transport for Memory {
    async fn join_io(&self, node: IoNode) -> Result<IoSession> {
        let mut state = self.state();
        state.leave_io(&node.id, None);
        state.incarnations += 1;
        let (incarnation, news) = (state.incarnations, Arc::<Notify>::default());
        let membership = Arc::new(IoMembership {
            memory: self.clone(),
            node: node.id.clone(),
            incarnation,
        });
        let io = IoState {
            node,
            incarnation,
            commands: VecDeque::new(),
            news: news.clone(),
        };
        state.io_nodes.insert(membership.node.clone(), io);
        Ok(IoSession {
            inbox: Arc::new(MemoryInbox {
                membership: membership.clone(),
            }),
            outbox: Box::new(MemoryOutbox { membership, news }),
        })
    }

    async fn join_app(&self, node: NodeId) -> Result<Box<dyn Leases>> {
        let mut state = self.state();
        state.incarnations += 1;
        let (incarnation, news) = (state.incarnations, Arc::<Notify>::default());
        let app = AppState {
            incarnation,
            granted: VecDeque::new(),
            news: news.clone(),
        };
        state.app_nodes.insert(node.clone(), app);
        state.rebalance();
        Ok(Box::new(MemoryLeases {
            memory: self.clone(),
            node,
            incarnation,
            news,
        }))
    }

    async fn io_nodes(&self) -> Result<Vec<IoNode>> {
        let mut nodes: Vec<IoNode> = self.state().io_nodes.values().map(|io| io.node.clone()).collect();
        nodes.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(nodes)
    }

    fn key_value(&self) -> Arc<dyn KeyValue> {
        Arc::new(self.clone())
    }

    async fn dead_letters(&self) -> Result<Vec<DeadLetter>> {
        Ok(self.state().dead.iter().cloned().collect())
    }
}

#[async_trait]
impl KeyValue for Memory {
    async fn get(&self, bucket: &str, keys: &[Text]) -> std::result::Result<Vec<Option<Bytes>>, KeyValueError> {
        let state = self.state();
        let Some(bucket) = state.buckets.get(bucket) else {
            return Ok(vec![None; keys.len()]);
        };
        Ok(keys.iter().map(|key| bucket.get(key).cloned()).collect())
    }

    async fn keys(&self, bucket: &str, cursor: u64) -> std::result::Result<(Vec<Text>, Option<u64>), KeyValueError> {
        let state = self.state();
        let Some(bucket) = state.buckets.get(bucket) else {
            return Ok((Vec::new(), None));
        };
        let keys: Vec<Text> = bucket.keys().skip(cursor as usize).take(PAGE).cloned().collect();
        let next = cursor + keys.len() as u64;
        Ok((keys, (next < bucket.len() as u64).then_some(next)))
    }
}

/// An io-node's place in the cluster, which ends when both halves of its session are dropped.
struct IoMembership {
    memory: Memory,
    node: NodeId,
    incarnation: u64,
}

impl IoMembership {
    /// The state, unless this session was fenced.
    fn state(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.memory.state();
        match state.io_nodes.get(&self.node) {
            Some(io) if io.incarnation == self.incarnation => Ok(state),
            _ => Err(TransportError::Fenced),
        }
    }
}

impl Drop for IoMembership {
    fn drop(&mut self) {
        self.memory.state().leave_io(&self.node, Some(self.incarnation));
        self.memory.space.notify_waiters();
    }
}

struct MemoryInbox {
    membership: Arc<IoMembership>,
}

#[async_trait]
impl Inbox for MemoryInbox {
    async fn ingest(&self, events: Vec<Event>) -> Result<Vec<Event>> {
        let settings = &self.membership.memory.settings;
        let mut state = self.membership.state()?;
        let mut refused = Vec::new();
        let mut refused_clients = HashSet::new();
        for event in events {
            let client = event.client.as_ref().map(|client| client.id.clone());
            if client.as_ref().is_some_and(|client| refused_clients.contains(client)) {
                refused.push(event);
                continue;
            }
            let partition = client
                .as_ref()
                .map_or(Partition(0), |client| partition_of(client, settings.partitions));
            if state.partitions[usize::from(partition.0)].is_full(client.as_ref(), settings) {
                refused_clients.extend(client);
                refused.push(event);
                continue;
            }
            state.track(&event, &self.membership.node);
            state.partitions[usize::from(partition.0)].append(event);
        }
        Ok(refused)
    }
}

struct MemoryOutbox {
    membership: Arc<IoMembership>,
    news: Arc<Notify>,
}

#[async_trait]
impl Outbox for MemoryOutbox {
    async fn next(&mut self) -> Result<Vec<Command>> {
        loop {
            if let Some(io) = self.membership.state()?.io_nodes.get_mut(&self.membership.node)
                && !io.commands.is_empty()
            {
                let commands = std::mem::take(&mut io.commands);
                self.membership.memory.space.notify_waiters();
                return Ok(commands.into());
            }
            self.news.notified().await;
        }
    }
}

struct MemoryLeases {
    memory: Memory,
    node: NodeId,
    incarnation: u64,
    news: Arc<Notify>,
}

#[async_trait]
impl Leases for MemoryLeases {
    async fn next(&mut self) -> Result<Lease> {
        loop {
            if let Some(lease) = self.granted()? {
                return Ok(lease);
            }
            self.news.notified().await;
        }
    }
}

impl MemoryLeases {
    fn granted(&self) -> Result<Option<Lease>> {
        let mut state = self.memory.state();
        let Some(app) = state
            .app_nodes
            .get_mut(&self.node)
            .filter(|app| app.incarnation == self.incarnation)
        else {
            return Err(TransportError::Fenced);
        };
        let Some(partition) = app.granted.pop_front() else {
            return Ok(None);
        };
        let granted = &state.partitions[usize::from(partition.0)];
        let hold = Arc::new(Hold {
            memory: self.memory.clone(),
            partition,
            epoch: granted.epoch,
        });
        let log = MemoryLog {
            hold: hold.clone(),
            next: granted.first,
            news: granted.news.clone(),
        };
        Ok(Some(Lease {
            partition,
            log: Box::new(log),
            commits: Arc::new(MemoryCommits { hold }),
        }))
    }
}

impl Drop for MemoryLeases {
    fn drop(&mut self) {
        let mut state = self.memory.state();
        if state
            .app_nodes
            .get(&self.node)
            .is_none_or(|app| app.incarnation != self.incarnation)
        {
            return;
        }
        let app = state.app_nodes.remove(&self.node).expect("it was just seen");
        for partition in app.granted {
            state.partitions[usize::from(partition.0)].owner = None;
        }
        state.rebalance();
    }
}

/// A held lease; dropping it gives the partition back.
struct Hold {
    memory: Memory,
    partition: Partition,
    epoch: u64,
}

impl Hold {
    /// The state, unless the lease has gone to another.
    fn state(&self) -> Result<MutexGuard<'_, State>> {
        let state = self.memory.state();
        if state.partitions[usize::from(self.partition.0)].epoch != self.epoch {
            return Err(TransportError::Fenced);
        }
        Ok(state)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Ok(mut state) = self.state() {
            state.partitions[usize::from(self.partition.0)].owner = None;
            state.rebalance();
        }
    }
}

struct MemoryLog {
    hold: Arc<Hold>,
    next: u64,
    news: Arc<Notify>,
}

#[async_trait]
impl Log for MemoryLog {
    async fn next(&mut self) -> Result<Option<Vec<Delivery>>> {
        loop {
            {
                let state = self.hold.state()?;
                let partition = &state.partitions[usize::from(self.hold.partition.0)];
                if partition.revoked {
                    return Ok(None);
                }
                let (deliveries, next) = partition.read(self.hold.partition, self.next);
                self.next = next;
                if !deliveries.is_empty() {
                    return Ok(Some(deliveries));
                }
            }
            self.news.notified().await;
        }
    }
}

struct MemoryCommits {
    hold: Arc<Hold>,
}

#[async_trait]
impl Commits for MemoryCommits {
    async fn commit(&self, outcomes: Vec<Outcome>) -> Result<()> {
        let memory = &self.hold.memory;
        loop {
            // Made before the look, so that no news of space is missed between the look and the wait.
            let space = memory.space.notified();
            {
                let mut state = self.hold.state()?;
                if state
                    .io_nodes
                    .values()
                    .all(|io| io.commands.len() < memory.settings.outbox)
                {
                    for outcome in outcomes {
                        state.commit(outcome);
                    }
                    return Ok(());
                }
            }
            space.await;
        }
    }
}

impl PartitionState {
    fn new() -> Self {
        Self {
            log: VecDeque::new(),
            first: 1,
            open: 0,
            open_by_client: HashMap::new(),
            epoch: 0,
            owner: None,
            revoked: false,
            news: Arc::default(),
        }
    }

    fn is_full(&self, client: Option<&SessionId>, settings: &MemorySettings) -> bool {
        self.open >= settings.backlog
            || client.is_some_and(|client| {
                self.open_by_client
                    .get(client)
                    .is_some_and(|open| *open >= settings.client_backlog)
            })
    }

    fn append(&mut self, event: Event) {
        if let Some(client) = &event.client {
            match self.open_by_client.get_mut(&client.id) {
                Some(open) => *open += 1,
                None => drop(self.open_by_client.insert(client.id.clone(), 1)),
            }
        }
        self.open += 1;
        self.log.push_back(Some(Arc::new(event)));
        self.news.notify_one();
    }

    /// What is open from `next` on, and where to go on after that.
    fn read(&self, partition: Partition, next: u64) -> (Vec<Delivery>, u64) {
        let mut next = next.max(self.first);
        let mut deliveries = Vec::new();
        for entry in self.log.iter().skip((next - self.first) as usize) {
            if deliveries.len() == BATCH {
                break;
            }
            if let Some(event) = entry {
                deliveries.push(Delivery {
                    id: EventId {
                        partition,
                        sequence: next,
                    },
                    event: event.clone(),
                });
            }
            next += 1;
        }
        (deliveries, next)
    }

    /// Takes an open event out of the log. None when it was committed before.
    fn close(&mut self, sequence: u64) -> Option<Arc<Event>> {
        let place = sequence.checked_sub(self.first)?;
        let event = self.log.get_mut(place as usize)?.take()?;
        while let Some(None) = self.log.front() {
            self.log.pop_front();
            self.first += 1;
        }
        self.open -= 1;
        if let Some(client) = &event.client
            && let Some(open) = self.open_by_client.get_mut(&client.id)
        {
            *open -= 1;
            if *open == 0 {
                self.open_by_client.remove(&client.id);
            }
        }
        Some(event)
    }
}

impl State {
    /// Remembers who holds a client, from its connection to its disconnect.
    fn track(&mut self, event: &Event, io_node: &NodeId) {
        let Some(client) = &event.client else { return };
        let key = || (event.namespace.clone(), client.id.clone());
        match event.kind {
            EventKind::Connection(_) => drop(self.live.insert(key(), io_node.clone())),
            EventKind::Disconnect(_) => drop(self.live.remove(&key())),
            _ => {}
        }
    }

    /// Removes an io-node, of this incarnation or of whatever, and tells the apps that its clients are gone.
    fn leave_io(&mut self, node: &NodeId, incarnation: Option<u64>) {
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
            };
            self.partitions[usize::from(partition.0)].append(Event {
                namespace,
                client: Some(client),
                received_at_ms: crate::message::now_ms(),
                kind: EventKind::Disconnect(DisconnectReason::NodeLost),
            });
        }
    }

    /// Grants what nobody owns to whom it belongs, and revokes what belongs to another.
    fn rebalance(&mut self) {
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

    fn commit(&mut self, outcome: Outcome) {
        let Some(event) = self.partitions[usize::from(outcome.id.partition.0)].close(outcome.id.sequence) else {
            return;
        };
        match outcome.verdict {
            Verdict::Done(effects) => {
                for write in effects.writes {
                    self.write(write);
                }
                for command in effects.commands {
                    self.route(command, &event);
                }
            }
            Verdict::Dead(reason) => {
                self.dead.push_back(DeadLetter {
                    id: outcome.id,
                    event,
                    reason,
                });
                if self.dead.len() > DEAD_LETTERS {
                    self.dead.pop_front();
                }
            }
        }
    }

    fn write(&mut self, write: Write) {
        match write.value {
            Some(value) => drop(self.buckets.entry(write.bucket).or_default().insert(write.key, value)),
            None => {
                if let Some(bucket) = self.buckets.get_mut(&write.bucket) {
                    bucket.remove(&write.key);
                }
            }
        }
    }

    /// Appends a command to the outboxes of the io-nodes that it concerns.
    fn route(&mut self, command: Command, event: &Event) {
        if self.io_nodes.len() == 1 {
            self.io_nodes.values_mut().for_each(|io| io.push(command.clone()));
            return;
        }
        for node in self.concerned(&command, event) {
            if let Some(io) = self.io_nodes.get_mut(&node) {
                io.push(command.clone());
            }
        }
    }

    fn concerned(&self, command: &Command, event: &Event) -> HashSet<NodeId> {
        let holder = |namespace: &Namespace, client: &SessionId| {
            self.live.get(&(namespace.clone(), client.clone())).cloned().into_iter()
        };
        let audience = match command {
            Command::Publish { local: true, .. } => {
                return event.client.iter().map(|client| client.io_node.clone()).collect();
            }
            Command::Publish { to: audience, .. }
            | Command::Request { to: audience, .. }
            | Command::Subscribe { who: audience, .. }
            | Command::Unsubscribe { who: audience, .. }
            | Command::Disconnect { who: audience, .. } => audience,
            Command::Ack { id, .. } => return holder(&id.namespace, &id.client).collect(),
            Command::PatchAttributes { namespace, client, .. } => return holder(namespace, client).collect(),
            Command::Custom {
                io_node: Some(node), ..
            } => return HashSet::from([node.clone()]),
            Command::Custom { io_node: None, .. } => return self.io_nodes.keys().cloned().collect(),
        };
        match audience.clients_only() {
            Some(clients) => clients
                .iter()
                .flat_map(|client| holder(&audience.namespace, client))
                .collect(),
            None => self.io_nodes.keys().cloned().collect(),
        }
    }
}

impl IoState {
    fn push(&mut self, command: Command) {
        self.commands.push_back(command);
        self.news.notify_one();
    }
}
