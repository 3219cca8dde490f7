//! What an app-node holds of the Redis transport: its leases.
//!
//! One task, the dealer, gives signs of life, sees by them which partitions fall to this node, claims and gives back. It sees to it
//! that the log of a shard stays short, too.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::committer::{self, Commit};
use super::keys::Shard;
use super::lease::{Hold, Over, RedisCommits, RedisLog, Returned, found};
use super::membership::{Beat, Member, Role, bury};
use super::progress::Progress;
use super::reader::{Found, Reader};
use super::routes::Routes;
use super::{Redis, bytes_of, scripts};
use crate::message::{NodeId, Partition};
use crate::transport::{Lease, Leases, Result, TransportError, owner_of};

/// How many commits of a shard may wait. Each partition waits for its own, so there are hardly more.
const COMMITS: usize = 64;

/// Joins as an app-node.
pub(super) fn join(redis: &Redis, name: NodeId) -> RedisLeases {
    let (grants, granted) = mpsc::unbounded_channel();
    let (returns, returned) = mpsc::unbounded_channel();
    let member = Member::new(Role::Joining, name);
    let end = CancellationToken::new();
    let routes = Routes::default();
    let shards = redis.layout.all().map(|shard| {
        let (commits, waiting) = mpsc::channel(COMMITS);
        redis
            .shutdown
            .spawn(committer::run(redis.clone(), shard.clone(), waiting));
        let reader = Reader::start(redis, shard.clone(), &member.id, end.clone());
        DealtShard { shard, reader, commits }
    });
    let dealer = Dealer {
        shards: shards.collect(),
        redis: redis.clone(),
        member,
        routes,
        grants,
        returns,
        held: HashMap::new(),
    };
    redis.shutdown.spawn(async move {
        dealer.run(returned).await;
        end.cancel();
    });
    RedisLeases { granted }
}

pub(super) struct RedisLeases {
    granted: mpsc::UnboundedReceiver<Lease>,
}

#[async_trait]
impl Leases for RedisLeases {
    async fn next(&mut self) -> Result<Lease> {
        // The dealer ends before this does only when the node was fenced.
        self.granted.recv().await.ok_or(TransportError::Fenced)
    }
}

/// Deals with the partitions of one app-node.
struct Dealer {
    redis: Redis,
    member: Member,
    shards: Vec<DealtShard>,
    routes: Routes,
    grants: mpsc::UnboundedSender<Lease>,
    returns: mpsc::UnboundedSender<Returned>,
    held: HashMap<Partition, Held>,
}

struct DealtShard {
    shard: Shard,
    reader: Reader,
    commits: mpsc::Sender<Commit>,
}

/// A partition that this node holds.
struct Held {
    lease: String,
    over: Arc<Over>,
    hold: Weak<Hold>,
}

/// A partition that was claimed, as the owners before have left it.
struct Claimed {
    partition: Partition,
    lease: String,
    progress: Progress,
    /// Clients that were refused, whose disconnects nobody is to hear of.
    ends: HashSet<Bytes>,
    /// What was kept aside from the log.
    first: Vec<Found>,
}

impl Dealer {
    /// Works until the node was fenced, or has left and given everything back.
    async fn run(mut self, mut returned: mpsc::UnboundedReceiver<Returned>) {
        let mut beats = interval(self.redis.settings.beat());
        beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                Some(lease) = returned.recv() => {
                    self.give_back(lease).await;
                    // A node that leaves is waited for by others.
                    if self.member.role != Role::Leaving || !self.held.is_empty() {
                        continue;
                    }
                }
                () = self.grants.closed(), if self.member.role != Role::Leaving => {
                    self.member.role = Role::Leaving;
                    beats.reset_immediately();
                }
                _ = beats.tick() => {}
            }
            if self.member.role == Role::Leaving && self.held.is_empty() && returned.is_empty() {
                return self.leave().await;
            }
            for number in 0..self.shards.len() {
                let shard = self.shards[number].shard.clone();
                let Some(beat) = self.member.beat(&self.redis, &shard).await else {
                    warn!(app_node = %self.member.name, "this app-node's place was taken by another of its name");
                    self.held.values().for_each(|held| held.over.lost.cancel());
                    return;
                };
                self.deal(number, &beat).await;
                self.keep(number);
                self.trim(&shard).await;
                bury(&self.redis, &shard, &beat.lost).await;
            }
            if self.member.role == Role::Joining {
                self.member.role = Role::App;
                info!(app_node = %self.member.name, "joined the cluster");
            }
        }
    }

    /// Compares what this node holds in a shard with what it should.
    async fn deal(&mut self, number: usize, beat: &Beat) {
        let shard = self.shards[number].shard.clone();
        let own = format!(":{}", self.member.id);
        let (mut wanted, mut ghosts) = (Vec::new(), Vec::new());
        for partition in self.redis.layout.partitions_of(shard.number) {
            let lease = beat.leases.get(&partition);
            let is_mine = self.member.role != Role::Leaving
                && owner_of(partition, beat.apps.iter()).is_some_and(|owner| *owner == self.member.name);
            match self.held.get(&partition) {
                Some(held) if lease != Some(&held.lease) => {
                    debug!(%partition, "partition has gone to another");
                    held.over.lost.cancel();
                }
                Some(held) if !is_mine => held.over.revoked.cancel(),
                Some(_) => {}
                None if is_mine => wanted.push(partition),
                // Claimed by a call that reached Redis after this node had given up on it.
                None => ghosts.extend(
                    lease
                        .filter(|lease| lease.ends_with(&own))
                        .map(|lease| (partition, lease)),
                ),
            }
        }
        for (partition, lease) in ghosts {
            self.release(&shard, partition, lease).await;
        }
        if wanted.is_empty() {
            return;
        }
        let keys = ["app", "owner", "done", "over", "kept"].map(|name| shard.key(name));
        let mut arguments = vec![bytes_of(&self.member.name), bytes_of(&self.member.incarnation)];
        arguments.extend(wanted.iter().map(bytes_of));
        type Answer = (Vec<(u16, String, String)>, Vec<(Bytes, String)>, Vec<(String, Bytes)>);
        let (claimed, over, mut kept): Answer = self.redis.change(&shard, &scripts::CLAIM, &keys, &arguments).await;
        if claimed.is_empty() {
            return;
        }
        // What the owners before committed for other shards is there before their clients' next events are handled.
        for other in (0..self.redis.layout.shards).filter(|other| *other != shard.number) {
            self.redis.forward(&shard, other).await;
        }
        for (partition, lease, done) in claimed {
            let mut progress = match done.parse::<Progress>() {
                Ok(progress) => progress,
                Err(reason) => {
                    error!(
                        partition,
                        "what is committed of a partition cannot be read, so it is left alone: {reason}"
                    );
                    continue;
                }
            };
            let ends = over.iter().filter(|(_, of)| *of == partition.to_string());
            let ends = ends.map(|(client, _)| client.clone()).collect();
            let of_it = kept.extract_if(.., |(field, _)| field.split(':').next() == Some(&partition.to_string()));
            let mut first: Vec<Found> = of_it.filter_map(|(field, event)| found(&field, event)).collect();
            first.sort_unstable_by_key(|found| found.number);
            first.iter().for_each(|found| progress.has_kept(found.number));
            let claimed = Claimed {
                partition: Partition(partition),
                lease,
                progress,
                ends,
                first,
            };
            self.grant(number, claimed).await;
        }
    }

    async fn grant(&mut self, number: usize, claimed: Claimed) {
        let Claimed {
            partition,
            lease,
            progress,
            ends,
            first,
        } = claimed;
        let over = Arc::<Over>::default();
        let shard = &self.shards[number];
        let from = progress.up_to();
        let hold = Arc::new(Hold {
            partition,
            lease: lease.clone(),
            over: over.clone(),
            progress: Mutex::new(progress),
            returns: self.returns.clone(),
        });
        let held = Held {
            lease,
            over,
            hold: Arc::downgrade(&hold),
        };
        self.held.insert(partition, held);
        let commits = RedisCommits {
            redis: self.redis.clone(),
            routes: self.routes.clone(),
            commits: shard.commits.clone(),
            hold,
        };
        let log = RedisLog {
            tap: shard.reader.add(partition, from).await,
            first,
            ends,
            commits: commits.clone(),
        };
        let lease = Lease {
            partition,
            log: Box::new(log),
            commits: Arc::new(commits),
        };
        // Nobody takes it any more: dropping it gives it back.
        let _ = self.grants.send(lease);
    }

    async fn give_back(&mut self, returned: Returned) {
        let Returned { partition, lease } = returned;
        if self.held.get(&partition).is_none_or(|held| held.lease != lease) {
            return;
        }
        let shard = &self.shards[usize::from(self.redis.layout.shard_of(partition))];
        shard.reader.remove(partition);
        self.held.remove(&partition);
        self.release(&shard.shard, partition, &lease).await;
    }

    /// Keeps what is open for long aside, so that it alone is kept and not all that came behind it.
    fn keep(&self, number: usize) {
        let DealtShard { shard, reader, commits } = &self.shards[number];
        let long_ago = reader.at().saturating_sub(self.redis.settings.backlog as u64);
        for partition in self.redis.layout.partitions_of(shard.number) {
            let hold = self.held.get(&partition).and_then(|held| held.hold.upgrade());
            if let Some(hold) = hold.filter(|hold| hold.progress().holds_log(long_ago)) {
                reader.mark(partition);
                let (done, _) = oneshot::channel();
                // Where commits wait already, the next beat is early enough.
                let _ = commits.try_send(Commit {
                    hold,
                    outcomes: Vec::new(),
                    keep: Some(long_ago),
                    done,
                });
            }
        }
    }

    /// Takes what is committed out of a shard's log. One of the app-nodes does it, whoever has its first partition.
    async fn trim(&self, shard: &Shard) {
        let mut partitions = self.redis.layout.partitions_of(shard.number);
        if partitions.next().is_some_and(|first| self.held.contains_key(&first)) {
            let keys = ["log", "in", "done"].map(|name| shard.key(name));
            self.redis.link.run::<()>(&scripts::TRIM, &keys, &[]).await;
        }
    }

    async fn release(&self, shard: &Shard, partition: Partition, lease: &str) {
        let keys = [shard.key("owner")];
        let arguments = [bytes_of(partition), bytes_of(lease)];
        self.redis.link.run::<()>(&scripts::RELEASE, &keys, &arguments).await;
    }

    async fn leave(self) {
        for DealtShard { shard, .. } in &self.shards {
            let keys = [shard.key("app"), shard.key("app:until")];
            let arguments = [bytes_of(&self.member.name), bytes_of(&self.member.incarnation)];
            self.redis.link.run::<()>(&scripts::LEAVE_APP, &keys, &arguments).await;
        }
        info!(app_node = %self.member.name, "left the cluster");
    }
}

#[cfg(test)]
mod tests;
