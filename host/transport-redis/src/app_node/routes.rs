//! Routes commands to the io-nodes that hold their recipients.
//!
//! A session never moves to another io-node, so a cached route stays valid.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use crate::arguments::client_key_of;
use crate::redis::Redis;
use plugnode_message::id_map::ById;
use plugnode_message::{Command, Event, Namespace, NodeId, SessionId};
use plugnode_transport::command_target::{CommandTarget, collect_at_another, needs_another_collector};
use plugnode_transport::{Nodes, partition_of};

/// Maximum number of cached clients; beyond it the cache is cleared.
const CACHED: usize = 100_000;

/// Cache of the io-nodes of clients. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Routes {
    known: Arc<Mutex<ById<Bytes, NodeId>>>,
}

/// Destination of a run of commands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OutboxTarget {
    All,
    Node(NodeId),
}

/// Commands grouped by destination, in their order.
#[derive(Default)]
struct Runs(Vec<(OutboxTarget, Vec<Command>)>);

impl Runs {
    fn add(&mut self, destination: OutboxTarget, command: Command) {
        match self.0.last_mut().filter(|(last, _)| *last == destination) {
            Some((_, run)) => run.push(command),
            None => self.0.push((destination, vec![command])),
        }
    }
}

impl Routes {
    /// Groups an event's commands by destination: consecutive ones to the same destination form a run, and each destination
    /// receives its commands in their order.
    pub(crate) async fn sort(
        &self,
        redis: &Redis,
        event: &Event,
        commands: Vec<Command>,
    ) -> Vec<(OutboxTarget, Vec<Command>)> {
        let mut runs = Runs::default();
        for mut command in commands {
            if needs_another_collector(&command, event) {
                let nodes = redis.io_nodes().await.unwrap_or_default();
                collect_at_another(&mut command, nodes.iter().map(|node| &node.id));
            }
            match CommandTarget::of(&command, event) {
                CommandTarget::Everyone => runs.add(OutboxTarget::All, command),
                CommandTarget::Node(None) => {}
                CommandTarget::Node(Some(node)) => runs.add(OutboxTarget::Node(node.clone()), command),
                CommandTarget::Holders(namespace, clients) => {
                    let Some(mut nodes) = self.holders(redis, event, namespace, clients).await else {
                        runs.add(OutboxTarget::All, command);
                        continue;
                    };
                    nodes.sort_unstable();
                    nodes.dedup();
                    let last = nodes.pop();
                    for node in nodes {
                        runs.add(OutboxTarget::Node(node), command.clone());
                    }
                    if let Some(node) = last {
                        runs.add(OutboxTarget::Node(node), command);
                    }
                }
            }
        }
        runs.0
    }

    /// The io-nodes that hold these clients. None if a client is unknown: it has left, or knows its session id before its connection
    /// was accepted here.
    async fn holders(
        &self,
        redis: &Redis,
        event: &Event,
        namespace: &Namespace,
        clients: &[SessionId],
    ) -> Option<Vec<NodeId>> {
        let mut found = Vec::with_capacity(clients.len());
        let mut unknown: HashMap<u16, Vec<Bytes>> = HashMap::new();
        for id in clients {
            let own = event
                .client
                .as_ref()
                .filter(|own| own.id == *id && event.namespace == *namespace);
            if let Some(own) = own {
                found.push(own.io_node.clone());
                continue;
            }
            let client = client_key_of(namespace, id);
            if let Some(node) = self.known().get(&client) {
                found.push(node.clone());
                continue;
            }
            let shard = redis.layout.shard_of(partition_of(id, redis.layout.partitions));
            unknown.entry(shard).or_default().push(client);
        }
        for (shard, clients) in unknown {
            let who = redis.layout.shard(shard).key("who");
            let mut ask = redis::cmd("HMGET");
            ask.arg(&who[..]);
            for client in &clients {
                ask.arg(&client[..]);
            }
            let nodes: Vec<Option<String>> = redis.link.ask(&ask).await;
            let mut known = self.known();
            if known.len() > CACHED {
                known.clear();
            }
            for (client, node) in clients.into_iter().zip(nodes) {
                let node = NodeId::from(node?);
                known.insert(client, node.clone());
                found.push(node);
            }
        }
        Some(found)
    }

    fn known(&self) -> MutexGuard<'_, ById<Bytes, NodeId>> {
        self.known.lock().expect("nothing panics while it holds this lock")
    }
}
