//! Being a member of the cluster: signs of life, and what they tell of the others.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::Instant;
use tracing::{info, warn};

use super::data_watch::{DataSeen, random_id};
use super::keys::Shard;
use super::name::Holder;
use super::{Redis, bytes_of, scripts};
use plugnode_message::{NodeId, Partition};

/// How many clients of a lost io-node are buried at once.
const CLIENTS: usize = 500;
/// How many earlier incarnations of a name are remembered.
const REPLACED: usize = 8;

/// What a member is in a shard.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// An io-node.
    Io,
    /// An app-node that is not in yet.
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
    /// Earlier incarnations of the same name and process, with a space before and behind each: their place is this one's.
    pub(super) replaces: String,
}

/// What a sign of life is answered.
pub(super) enum Heard {
    /// The node lives.
    Alive(Beat),
    /// It was fenced.
    Fenced,
    /// It is not in, for this one has its name.
    Held(Holder),
}

/// The incarnations of this process, by role and name.
#[derive(Debug, Clone, Default)]
pub(super) struct Incarnations(Arc<Mutex<ByName>>);

type ByName = HashMap<(&'static str, NodeId), VecDeque<String>>;

impl Incarnations {
    /// Notes one, and returns those that were before it, with a space before and behind each.
    fn add(&self, role: &'static str, name: &NodeId, incarnation: &str) -> String {
        let mut known = self.0.lock().expect("nothing panics while it holds this lock");
        let of_name = known.entry((role, name.clone())).or_default();
        let earlier = of_name.iter().fold(" ".to_owned(), |all, one| all + one + " ");
        of_name.push_back(incarnation.to_owned());
        if of_name.len() > REPLACED {
            of_name.pop_front();
        }
        earlier
    }
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
    /// Under a fresh incarnation, as `io-node` or `app-node`.
    pub(super) fn new(redis: &Redis, role: &'static str, name: NodeId) -> Self {
        let incarnation = random_id();
        let id = format!("{incarnation}@{name}");
        let replaces = redis.incarnations.add(role, &name, &incarnation);
        Self {
            name,
            incarnation,
            id,
            replaces,
        }
    }

    /// Gives a sign of life.
    pub(super) async fn beat(&self, redis: &Redis, shard: &Shard, role: Role) -> Heard {
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
            bytes_of(&self.replaces),
        ];
        let sent = Instant::now();
        let answer: BeatAnswer = redis.beats.run(&scripts::BEAT, &keys, &arguments).await;
        let (how, lost, apps, leases, (data_id, tail, last_call), (incarnation, deadline, left)) = answer;
        // What fewer replicas have than it takes may be gone after a failover, and was never acknowledged.
        let tail = redis.durability.is_none().then_some(tail);
        redis.hears_of_data(shard, sent, &DataSeen { data_id, tail });
        match how {
            0 => return Heard::Fenced,
            2 => {
                let left = Duration::from_millis(left);
                return Heard::Held(Holder {
                    incarnation,
                    deadline,
                    left,
                });
            }
            _ => {}
        }
        if shard.number == 0 {
            redis.peers.see(&apps, &leases);
        }
        let working = apps.into_iter().filter(|(_, incarnation)| !incarnation.ends_with('-'));
        Heard::Alive(Beat {
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

/// The app-nodes of the cluster as they were seen last, by all members of this process, in shard 0.
#[derive(Debug, Clone, Default)]
pub(super) struct Peers(Arc<Mutex<HashMap<String, Peer>>>);

#[derive(Debug)]
struct Peer {
    incarnation: String,
    partitions: usize,
}

impl Peers {
    /// Sees who is there, and tells who is not any more and had not said so before.
    fn see(&self, apps: &[(String, String)], leases: &[(u16, String)]) {
        let mut known = self.0.lock().expect("nothing panics while it holds this lock");
        let of = |name: &str, incarnation: &str| {
            let holder = format!("{}@{name}", incarnation.trim_end_matches('-'));
            let held = leases
                .iter()
                .filter(|(_, lease)| lease.split_once(':').is_some_and(|(_, member)| member == holder));
            held.count()
        };
        let is_there = |name: &str| apps.iter().any(|(other, _)| other == name);
        for (name, peer) in known.extract_if(|name, _| !is_there(name)) {
            // A partition that others have taken by now is still among those that it had.
            let partitions = peer.partitions.max(of(&name, &peer.incarnation));
            if !peer.incarnation.ends_with('-') {
                warn!(
                    app_node = name,
                    partitions, "an app-node is gone without having left: others take its partitions over"
                );
            }
        }
        for (name, incarnation) in apps {
            let (partitions, before) = (of(name, incarnation), known.get(name));
            let partitions = match before.filter(|before| before.incarnation == *incarnation) {
                // It gives some back at times, and loses all when it dies.
                Some(before) if partitions == 0 => before.partitions,
                _ => partitions,
            };
            let incarnation = incarnation.clone();
            known.insert(
                name.clone(),
                Peer {
                    incarnation,
                    partitions,
                },
            );
        }
    }
}

/// What a sign of life is answered: how, lost members, app-nodes, leases; data id, number of the last event and of the
/// io-node's last call; and who has the name, the end of its lease, and how long until then.
type BeatAnswer = (
    u8,
    Vec<String>,
    Vec<(String, String)>,
    Vec<(u16, String)>,
    (String, u64, u64),
    (String, String, u64),
);

/// Tells the apps that the clients of lost io-nodes are gone. Several nodes may do it at once: each takes some.
pub(super) async fn bury(redis: &Redis, shard: &Shard, lost: &[String]) {
    for member in lost {
        let Some((_, name)) = member.split_once('@') else {
            warn!(member, "a foreign member stands in the list of those lost");
            continue;
        };
        let keys = [
            shard.key("lost"),
            shard.live(member),
            shard.outbox(member),
            shard.key("who"),
            shard.key("log"),
            shard.key("in"),
            shard.key("io"),
            shard.key("info"),
            shard.outbox_in(member),
            shard.outbox_read(member),
        ];
        let arguments = [bytes_of(member), bytes_of(name), bytes_of(CLIENTS)];
        let mut clients = ::redis::cmd("HLEN");
        let clients: u64 = redis.link.ask(clients.arg(&keys[1][..])).await;
        // One field is no client.
        let clients = clients.saturating_sub(1);
        let answer = loop {
            let answer: String = redis.change(shard, &scripts::BURY, &keys, &arguments).await;
            if answer != "more" {
                break answer;
            }
        };
        if answer == "done" && clients > 0 {
            // One that ends by itself leaves none.
            warn!(
                io_node = name,
                clients,
                shard = shard.number,
                "an io-node is gone without having left: the apps are told that its clients are"
            );
        } else if answer == "done" {
            info!(
                io_node = member,
                shard = shard.number,
                "its clients are gone, and their apps have been told"
            );
        }
        // Else the log takes nothing just now, and the next sign of life is early enough to try again.
    }
}

#[cfg(test)]
mod tests;
