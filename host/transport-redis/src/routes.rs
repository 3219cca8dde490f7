//! Which io-node holds a client, for commands to other clients than the event's own.
//!
//! A session stays on its io-node for as long as it lives, so what was learnt once stays true.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::Bytes;

use super::{Redis, bytes_of_client};
use plugnode_message::id_map::ById;
use plugnode_message::{Command, Event, Namespace, NodeId, SessionId};
use plugnode_transport::reach::{Reach, ask_by_another, needs_another_asker};
use plugnode_transport::{Nodes, partition_of};

/// At most so many clients are remembered; then all are forgotten, and learnt again.
const REMEMBERED: usize = 100_000;

/// What is known of who holds whom. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Routes {
    known: Arc<Mutex<ById<Bytes, NodeId>>>,
}

/// Where a run of commands goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    All,
    Node(NodeId),
}

/// Commands by where they go, in their order.
#[derive(Default)]
struct Runs(Vec<(Target, Vec<Command>)>);

impl Runs {
    fn add(&mut self, target: Target, command: Command) {
        match self.0.last_mut().filter(|(last, _)| *last == target) {
            Some((_, run)) => run.push(command),
            None => self.0.push((target, vec![command])),
        }
    }
}

impl Routes {
    /// Sorts an event's commands by where they go. What goes to one place in one go is together, and each place gets
    /// its commands in their order.
    pub(super) async fn sort(
        &self,
        redis: &Redis,
        event: &Event,
        commands: Vec<Command>,
    ) -> Vec<(Target, Vec<Command>)> {
        let mut runs = Runs::default();
        for mut command in commands {
            if needs_another_asker(&command, event) {
                let nodes = redis.io_nodes().await.unwrap_or_default();
                ask_by_another(&mut command, nodes.iter().map(|node| &node.id));
            }
            match Reach::of(&command, event) {
                Reach::Everyone => runs.add(Target::All, command),
                Reach::Node(None) => {}
                Reach::Node(Some(node)) => runs.add(Target::Node(node.clone()), command),
                Reach::Holders(namespace, clients) => {
                    let mut nodes = self.holders(redis, event, namespace, clients).await;
                    nodes.sort_unstable();
                    nodes.dedup();
                    let last = nodes.pop();
                    for node in nodes {
                        runs.add(Target::Node(node), command.clone());
                    }
                    if let Some(node) = last {
                        runs.add(Target::Node(node), command);
                    }
                }
            }
        }
        runs.0
    }

    /// The io-nodes that hold these clients; nobody holds one that is gone.
    async fn holders(&self, redis: &Redis, event: &Event, namespace: &Namespace, clients: &[SessionId]) -> Vec<NodeId> {
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
            let client = bytes_of_client(namespace, id);
            if let Some(node) = self.known().get(&client) {
                found.push(node.clone());
                continue;
            }
            let shard = redis.layout.shard_of(partition_of(id, redis.layout.partitions));
            unknown.entry(shard).or_default().push(client);
        }
        for (shard, clients) in unknown {
            let who = redis.layout.shard(shard).key("who");
            let mut ask = ::redis::cmd("HMGET");
            ask.arg(&who[..]);
            for client in &clients {
                ask.arg(&client[..]);
            }
            let nodes: Vec<Option<String>> = redis.link.ask(&ask).await;
            let mut known = self.known();
            if known.len() > REMEMBERED {
                known.clear();
            }
            for (client, node) in clients.into_iter().zip(nodes) {
                let Some(node) = node.map(NodeId::from) else { continue };
                known.insert(client, node.clone());
                found.push(node);
            }
        }
        found
    }

    fn known(&self) -> MutexGuard<'_, ById<Bytes, NodeId>> {
        self.known.lock().expect("nothing panics while it holds this lock")
    }
}
