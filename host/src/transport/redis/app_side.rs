//! What an app-node holds of the Redis transport: its leases, and the two halves of each.
//!
//! One task, the dealer, gives signs of life, sees by them which partitions fall to this node, claims and gives back. A
//! lease's halves say so when it is over; that a lease has gone to another, the commit script finds out for itself.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::committer::{self, Commit, End, Settled};
use super::keys::Shard;
use super::membership::{Beat, Member, Role, bury};
use super::reader::{Reader, Tap};
use super::routes::Routes;
use super::wire::{Content, Letter, encode};
use super::{Redis, bytes_of, client_key, scripts};
use crate::message::{Effects, Event, EventId, EventKind, NodeId, Partition, now_ms};
use crate::transport::{Commits, Delivery, Lease, Leases, Log, Outcome, Result, TransportError, Verdict, owner_of};

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
}

/// How a lease is told that it is over.
#[derive(Default)]
struct Over {
    /// It is to be given back.
    revoked: CancellationToken,
    /// It has gone to another.
    lost: CancellationToken,
}

/// A lease that was dropped.
struct Returned {
    partition: Partition,
    lease: String,
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
        let keys = [shard.key("app"), shard.key("owner")];
        let mut arguments = vec![bytes_of(&self.member.name), bytes_of(&self.member.incarnation)];
        arguments.extend(wanted.iter().map(bytes_of));
        let claimed: Vec<(u16, String)> = self.redis.change(&shard, &scripts::CLAIM, &keys, &arguments).await;
        if claimed.is_empty() {
            return;
        }
        // What the owners before committed for other shards is there before their clients' next events are handled.
        for other in (0..self.redis.layout.shards).filter(|other| *other != shard.number) {
            self.redis.forward(&shard, other).await;
        }
        for (partition, lease) in claimed {
            self.grant(number, Partition(partition), lease).await;
        }
    }

    async fn grant(&mut self, number: usize, partition: Partition, lease: String) {
        let over = Arc::<Over>::default();
        let held = Held {
            lease: lease.clone(),
            over: over.clone(),
        };
        self.held.insert(partition, held);
        let shard = &self.shards[number];
        let hold = Arc::new(Hold {
            partition,
            lease,
            over,
            open: Mutex::default(),
            returns: self.returns.clone(),
        });
        let log = RedisLog {
            tap: shard.reader.add(partition).await,
            hold: hold.clone(),
        };
        let commits = RedisCommits {
            redis: self.redis.clone(),
            routes: self.routes.clone(),
            commits: shard.commits.clone(),
            hold,
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

/// A held lease; dropping it gives the partition back.
struct Hold {
    partition: Partition,
    lease: String,
    over: Arc<Over>,
    /// Events that were handed out and are not committed.
    open: Mutex<HashMap<u64, Arc<Event>>>,
    returns: mpsc::UnboundedSender<Returned>,
}

impl Hold {
    fn open(&self) -> MutexGuard<'_, HashMap<u64, Arc<Event>>> {
        self.open.lock().expect("nothing panics while it holds this lock")
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let returned = Returned {
            partition: self.partition,
            lease: std::mem::take(&mut self.lease),
        };
        // The dealer is gone when the node was fenced; then there is nothing to give back.
        let _ = self.returns.send(returned);
    }
}

struct RedisLog {
    hold: Arc<Hold>,
    tap: Tap,
}

#[async_trait]
impl Log for RedisLog {
    async fn next(&mut self) -> Result<Option<Vec<Delivery>>> {
        let deliveries = tokio::select! {
            biased;
            () = self.hold.over.lost.cancelled() => return Err(TransportError::Fenced),
            () = self.hold.over.revoked.cancelled() => return Ok(None),
            deliveries = self.tap.next() => deliveries.ok_or(TransportError::Fenced)?,
        };
        let mut open = self.hold.open();
        for delivery in &deliveries {
            open.insert(delivery.id.sequence, delivery.event.clone());
        }
        Ok(Some(deliveries))
    }
}

struct RedisCommits {
    redis: Redis,
    routes: Routes,
    commits: mpsc::Sender<Commit>,
    hold: Arc<Hold>,
}

#[async_trait]
impl Commits for RedisCommits {
    async fn commit(&self, outcomes: Vec<Outcome>) -> Result<()> {
        let mut settled = Vec::with_capacity(outcomes.len());
        for outcome in outcomes {
            // What was committed before is open no longer.
            let event = self.hold.open().get(&outcome.id.sequence).cloned();
            if let Some(event) = event {
                settled.push(self.settle(outcome.id, &event, outcome.verdict).await);
            }
        }
        if settled.is_empty() {
            return Ok(());
        }
        let sequences: Vec<u64> = settled.iter().map(|settled| settled.sequence).collect();
        let (done, answer) = oneshot::channel();
        let commit = Commit {
            partition: self.hold.partition,
            lease: self.hold.lease.clone(),
            outcomes: settled,
            done,
        };
        // The committer works for as long as there is anyone to send.
        if self.commits.send(commit).await.is_err() {
            return Err(TransportError::Fenced);
        }
        answer.await.unwrap_or(Err(TransportError::Fenced))?;
        let mut open = self.hold.open();
        sequences.iter().for_each(|sequence| drop(open.remove(sequence)));
        Ok(())
    }
}

impl RedisCommits {
    async fn settle(&self, id: EventId, event: &Event, verdict: Verdict) -> Settled {
        let end = match event.kind {
            _ if verdict.refuses() => End::Refused,
            EventKind::Disconnect(_) => End::Disconnected,
            _ => End::None,
        };
        let (effects, letter) = match verdict {
            Verdict::Done(effects) => (effects, Bytes::new()),
            Verdict::Dead(death, commands) => {
                let letter = Letter {
                    id,
                    death,
                    died_at_ms: now_ms(),
                    content: Content::Event(event.clone()),
                };
                let writes = Vec::new();
                (Effects { commands, writes }, encode(&letter))
            }
        };
        Settled {
            sequence: id.sequence,
            client: client_key(event),
            end,
            letter,
            writes: effects.writes,
            commands: self.routes.sort(&self.redis, event, effects.commands).await,
        }
    }
}
