//! Being a member of the cluster: signs of life, and what they tell of the others.

use std::collections::HashMap;

use tokio::time::Instant;
use tracing::{info, warn};

use super::data_watch::{DataSeen, random_id};
use super::keys::Shard;
use super::{Redis, bytes_of, scripts};
use crate::message::{NodeId, Partition};

/// How many clients of a lost io-node are buried at once.
const CLIENTS: usize = 500;

/// What a member is in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// An io-node.
    Io,
    /// An app-node that takes the place of any other of its name.
    Joining,
    /// An app-node.
    App,
    /// An app-node that finishes what it has and takes no more.
    Leaving,
}

/// A node under one incarnation.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) name: NodeId,
    pub(super) incarnation: String,
    /// Both together: unlike any other's, ever.
    pub(super) id: String,
}

/// What a sign of life tells.
pub(super) struct Beat {
    /// Incarnations of io-nodes that were lost.
    pub(super) lost: Vec<String>,
    /// The app-nodes that take partitions, by name.
    pub(super) apps: Vec<NodeId>,
    /// The leases of partitions.
    pub(super) leases: HashMap<Partition, String>,
    /// Of an io-node: the number of its last call that took events in.
    pub(super) last_call: u64,
}

impl Member {
    /// Under a fresh incarnation.
    pub(super) fn new(name: NodeId) -> Self {
        let incarnation = random_id();
        let id = format!("{incarnation}@{name}");
        Self { name, incarnation, id }
    }

    /// Gives a sign of life. None when the node was fenced.
    pub(super) async fn beat(&self, redis: &Redis, shard: &Shard, role: Role) -> Option<Beat> {
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
        ];
        type Answer = (
            u8,
            Vec<String>,
            Vec<(String, String)>,
            Vec<(u16, String)>,
            (String, u64, u64),
        );
        let sent = Instant::now();
        let (alive, lost, apps, leases, (data_id, tail, last_call)): Answer =
            redis.link.run(&scripts::BEAT, &keys, &arguments).await;
        // What fewer replicas have than it takes may be gone after a failover, and was never acknowledged.
        let tail = redis.durability.is_none().then_some(tail);
        redis.hears_of_data(shard, sent, &DataSeen { data_id, tail });
        let working = apps.into_iter().filter(|(_, incarnation)| !incarnation.ends_with('-'));
        (alive == 1).then(|| Beat {
            lost,
            apps: working.map(|(name, _)| NodeId::from(name)).collect(),
            leases: leases
                .into_iter()
                .map(|(partition, lease)| (Partition(partition), lease))
                .collect(),
            last_call,
        })
    }
}

/// Tells the apps that the clients of lost io-nodes are gone. Several nodes may do it at once: each takes some.
pub(super) async fn bury(redis: &Redis, shard: &Shard, lost: &[String]) {
    for member in lost {
        // Where they are reached stands in shard 0, which no burial in another waits for.
        if shard.number == 0 {
            forget_place(redis, shard, member).await;
        }
        let keys = [
            shard.key("lost"),
            shard.live(member),
            shard.outbox(member),
            shard.key("who"),
            shard.key("log"),
            shard.key("in"),
            shard.outbox_in(member),
            shard.outbox_read(member),
        ];
        let arguments = [bytes_of(member), bytes_of(CLIENTS)];
        while redis.change::<u8>(shard, &scripts::BURY, &keys, &arguments).await == 1 {}
        info!(
            io_node = member,
            shard = shard.number,
            "its clients are gone, and their apps have been told"
        );
    }
}

/// Removes what frontends tell of an io-node that is gone, unless it is back under the same name.
async fn forget_place(redis: &Redis, shard: &Shard, member: &str) {
    let Some((_, name)) = member.split_once('@') else {
        warn!(member, "a foreign member stands in the list of those lost");
        return;
    };
    let mut known = ::redis::cmd("HEXISTS");
    if !redis.link.ask::<bool>(known.arg(&shard.key("io")[..]).arg(name)).await {
        let mut forget = ::redis::cmd("HDEL");
        redis.link.ask::<()>(forget.arg(&shard.key("info")[..]).arg(name)).await;
    }
}

#[cfg(test)]
mod tests;
