//! A member of the cluster: a node under one incarnation. Its heartbeat renews its lease and returns the state of the cluster.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::arguments::bytes_of;
use crate::data_watch::DataState;
use crate::keys::Shard;
use crate::membership::incarnations::random_id;
use crate::membership::name_claim::NameHolder;
use crate::redis::Redis;
use crate::scripts;
use plugnode_message::{NodeId, Partition};

/// TTL of an app-node's hints beside its lease. Each heartbeat renews it.
const WAKE_TTL: Duration = Duration::from_secs(20);

/// Role of a member in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// An io-node.
    Io,
    /// An app-node that has not joined yet.
    Joining,
    /// An app-node.
    App,
    /// An app-node that finishes its partitions and takes no more.
    Leaving,
}

/// A node under one incarnation.
#[derive(Debug, Clone)]
pub(crate) struct Member {
    pub(crate) name: NodeId,
    pub(crate) incarnation: String,
    /// `incarnation@name`: unique among all members of all times.
    pub(crate) id: String,
    /// Earlier incarnations of the same name in this process, with a space before and behind each. This one may replace them.
    pub(crate) predecessors: String,
}

/// Answer to a heartbeat.
pub(crate) enum HeartbeatAnswer {
    /// The lease is renewed.
    Alive {
        /// Number of events that the shard ever accepted.
        tail: u64,
        /// Number of the io-node's last ingest call; 0 for an app-node.
        last_call: u64,
    },
    /// The member is fenced.
    Fenced,
    /// The member has not joined, because another one holds its name.
    NameHeld(NameHolder),
}

/// State of the cluster in one shard. Redis sends it again only if it has changed.
#[derive(Debug, Default)]
pub(crate) struct ClusterView {
    pub(crate) version: String,
    /// Lost io-nodes, as `incarnation@name`.
    pub(crate) lost: Vec<String>,
    /// App-nodes that take partitions, by name.
    pub(crate) apps: Vec<NodeId>,
    /// Leases of partitions, as `epoch:incarnation@name`.
    pub(crate) leases: HashMap<Partition, String>,
}

/// Reply of the script: status; (data id, number of events, number of the io-node's last call); (incarnation that holds the
/// name, deadline of its lease, milliseconds until then); version of the view, and the view if it is another one.
type RawAnswer = (u8, (String, u64, u64), (String, String, u64), String, Option<RawView>);

/// Lost members, app-nodes, leases, incarnations of app-nodes that have left.
type RawView = (Vec<String>, Vec<(String, String)>, Vec<(u16, String)>, String);

impl Member {
    /// A member with a fresh incarnation. The role is `io-node` or `app-node`.
    pub(crate) fn new(redis: &Redis, role: &'static str, name: NodeId) -> Self {
        let incarnation = random_id();
        let id = format!("{incarnation}@{name}");
        let predecessors = redis.incarnations.add(role, &name, &incarnation);
        Self {
            name,
            incarnation,
            id,
            predecessors,
        }
    }

    /// Sends one heartbeat to a shard, and updates the view of the cluster there.
    pub(crate) async fn heartbeat(
        &self,
        redis: &Redis,
        shard: &Shard,
        role: Role,
        view: &mut Arc<ClusterView>,
    ) -> HeartbeatAnswer {
        let keys = ["io", "io:until", "lost", "app", "app:until", "owner", "clock", "in"];
        let mut keys: Vec<_> = keys.iter().map(|name| shard.key(name)).collect();
        if role == Role::Io {
            keys.push(shard.live(&self.id));
        }
        let what = match role {
            Role::Io => "io",
            Role::Joining => "join",
            Role::App => "app",
            Role::Leaving => "leaving",
        };
        let arguments = [
            bytes_of(what),
            bytes_of(self.name.as_str()),
            bytes_of(&self.incarnation),
            bytes_of(redis.settings.lease.as_millis()),
            random_id().into(),
            bytes_of(&self.predecessors),
            bytes_of(&view.version),
            shard.wake(&self.id),
            bytes_of(WAKE_TTL.as_secs() + redis.settings.lease.as_secs()),
        ];
        let sent = Instant::now();
        let answer: RawAnswer = redis.heartbeats.run(&scripts::HEARTBEAT, &keys, &arguments).await;
        let (status, (data_id, tail, last_call), (incarnation, deadline, left), version, changed) = answer;
        // With a configured durability, a failover may drop unconfirmed events, so a smaller number proves no loss.
        let proven = redis.durability.is_none().then_some(tail);
        redis.observe_data(shard, sent, &DataState { data_id, tail: proven });
        match status {
            0 => return HeartbeatAnswer::Fenced,
            2 => {
                let left = Duration::from_millis(left);
                return HeartbeatAnswer::NameHeld(NameHolder {
                    incarnation,
                    deadline,
                    left,
                });
            }
            _ => {}
        }
        if let Some((lost, apps, leases, left)) = changed {
            if shard.number == 0 {
                redis.peers.observe(&apps, &leases, &left);
            }
            let working = apps.into_iter().filter(|(_, incarnation)| !incarnation.ends_with('-'));
            *view = Arc::new(ClusterView {
                version,
                lost,
                apps: working.map(|(name, _)| NodeId::from(name)).collect(),
                leases: leases
                    .into_iter()
                    .map(|(partition, lease)| (Partition(partition), lease))
                    .collect(),
            });
        }
        HeartbeatAnswer::Alive { tail, last_call }
    }
}

#[cfg(test)]
mod tests;
