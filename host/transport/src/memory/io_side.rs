//! The io-node's side: its inbox and its outbox.

use std::collections::HashSet;
use std::sync::{Arc, MutexGuard};

use async_trait::async_trait;
use tokio::sync::Notify;
use tokio::task::yield_now;

use super::Memory;
use super::state::State;
use crate::{Inbox, IoNode, IoSession, Outbox, Result, TransportError, partition_of};
use plugnode_message::{Command, Event, EventKind, Namespace, NodeId, Partition, SessionId, Text};

/// Joins as an io-node.
pub(super) fn join(memory: &Memory, node: IoNode) -> IoSession {
    let news = Arc::<Notify>::default();
    let id = node.id.clone();
    let incarnation = memory.state().join_io(node, news.clone());
    let membership = Arc::new(IoMembership {
        memory: memory.clone(),
        node: id,
        incarnation,
    });
    IoSession {
        inbox: Arc::new(MemoryInbox {
            membership: membership.clone(),
        }),
        outbox: Box::new(MemoryOutbox { membership, news }),
    }
}

/// The membership of an io-node. It ends when inbox and outbox are dropped.
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
        // Once one event of a client is refused, so are all later ones, to keep their order; of a call, those of its caller in that order.
        let mut refused_orders: HashSet<(SessionId, Option<Text>)> = HashSet::new();
        // Events of one client come together, so a repeated partition is mostly the last one.
        let mut appended: Vec<Partition> = Vec::new();
        for event in events {
            let client = event.in_order_with();
            if !refused_orders.is_empty() && refusal_order(&event).is_some_and(|order| refused_orders.contains(&order))
            {
                refused.push(event);
                continue;
            }
            let partition = client.map_or(Partition(0), |client| partition_of(client, settings.partitions));
            if !state.accepts(partition, &event, &settings.backlog) {
                refused_orders.extend(refusal_order(&event));
                refused.push(event);
                continue;
            }
            if state.track(&event, &self.membership.node) {
                state.partition(partition).append(event);
                if appended.last() != Some(&partition) {
                    appended.push(partition);
                }
            }
        }
        for partition in appended {
            state.partition(partition).news.notify_one();
        }
        Ok(refused)
    }

    async fn tell(&self, node: &NodeId, command: Command) -> Result<()> {
        let most = self.membership.memory.settings.outbox;
        let mut state = self.membership.state()?;
        if let Some(io) = state.io_nodes.get_mut(node).filter(|io| io.has_room(most)) {
            io.push(command);
        }
        Ok(())
    }

    fn open_events(&self, _: &Namespace, client: &SessionId) -> usize {
        let partition = partition_of(client, self.membership.memory.settings.partitions);
        let state = self.membership.state();
        state.map_or(0, |mut state| state.partition(partition).open_of(client).events)
    }
}

/// What is refused with an event, to keep the order.
fn refusal_order(event: &Event) -> Option<(SessionId, Option<Text>)> {
    let caller = match &event.kind {
        EventKind::Call(call) => Some(call.caller.clone()),
        _ => None,
    };
    Some((event.in_order_with()?.clone(), caller))
}

struct MemoryOutbox {
    membership: Arc<IoMembership>,
    news: Arc<Notify>,
}

#[async_trait]
impl Outbox for MemoryOutbox {
    async fn next(&mut self) -> Result<Vec<Command>> {
        loop {
            if let Some(io) = self.membership.state()?.io_nodes.get_mut(&self.membership.node) {
                let had_room = io.has_room(self.membership.memory.settings.outbox);
                let commands = io.take();
                if !had_room {
                    self.membership.memory.space.notify_waiters();
                }
                if !commands.is_empty() {
                    return Ok(commands);
                }
            }
            self.news.notified().await;
            // Lets running commits add to the batch first: larger batches mean fewer writes to sockets.
            yield_now().await;
        }
    }
}
