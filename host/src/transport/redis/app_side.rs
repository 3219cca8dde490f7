//! What an app-node holds of the Redis transport: its leases, and the two halves of each.
//!
//! One task, the dealer, gives signs of life, sees by them which partitions fall to this node, claims and gives back. A
//! lease's halves say so when it is over; that a lease has gone to another, the commit script finds out for itself.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::committer::{self, Commit, End, Settled};
use super::keys::Shard;
use super::membership::{Beat, Member, Role, bury};
use super::progress::Progress;
use super::reader::{Found, Read, Reader, Tap, foreign};
use super::routes::Routes;
use super::wire::{Content, Letter, encode};
use super::{Redis, bytes_of, client_key, scripts};
use crate::counts;
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
    hold: Weak<Hold>,
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
            self.grant(number, Partition(partition), lease, progress, ends, first)
                .await;
        }
    }

    async fn grant(
        &mut self,
        number: usize,
        partition: Partition,
        lease: String,
        progress: Progress,
        ends: HashSet<Bytes>,
        first: Vec<Found>,
    ) {
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

/// A held lease; dropping it gives the partition back.
pub(super) struct Hold {
    pub(super) partition: Partition,
    /// The lease, as it was claimed.
    pub(super) lease: String,
    over: Arc<Over>,
    progress: Mutex<Progress>,
    returns: mpsc::UnboundedSender<Returned>,
}

impl Hold {
    /// How far the partition's events are committed.
    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("nothing panics while it holds this lock")
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
    tap: Tap,
    /// What an owner before has kept aside from the log.
    first: Vec<Found>,
    /// Clients that were refused, whose disconnects nobody is to hear of.
    ends: HashSet<Bytes>,
    commits: RedisCommits,
}

#[async_trait]
impl Log for RedisLog {
    async fn next(&mut self) -> Result<Option<Vec<Delivery>>> {
        loop {
            let hold = &self.commits.hold;
            let Read { found, up_to } = tokio::select! {
                biased;
                () = hold.over.lost.cancelled() => return Err(TransportError::Fenced),
                () = hold.over.revoked.cancelled() => return Ok(None),
                read = next(&mut self.first, &mut self.tap) => read.ok_or(TransportError::Fenced)?,
            };
            let deliveries: Vec<Delivery> = found.into_iter().filter_map(|found| self.delivery(found)).collect();
            self.commits.hold.progress().met(up_to);
            if !deliveries.is_empty() {
                return Ok(Some(deliveries));
            }
        }
    }
}

impl RedisLog {
    /// An event that is to be handled. What is none, or for nobody, is passed over.
    fn delivery(&self, found: Found) -> Option<Delivery> {
        let Found { number, event } = found;
        let hold = &self.commits.hold;
        if !hold.progress().meet(number, event.as_ref().ok().cloned()) {
            return None;
        }
        let id = EventId {
            partition: hold.partition,
            sequence: number,
        };
        let nothing = Settled::nothing(number);
        match event {
            Ok(event) if is_end(&event) && self.ends.contains(&client_key(&event)) => self.commits.pass_over(Settled {
                client: client_key(&event),
                end: End::Disconnected,
                ..nothing
            }),
            Ok(event) => return Some(Delivery { id, event }),
            Err((content, reason)) => {
                warn!(messaging.message.id = %id, "put aside: {reason}");
                counts::DEAD_LETTERS.one();
                self.commits.pass_over(Settled {
                    letter: encode(&foreign(id, content, &reason)),
                    ..nothing
                });
            }
        }
        None
    }
}

#[derive(Clone)]
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
            let event = self.hold.progress().event(outcome.id.sequence);
            if let Some(event) = event {
                settled.push(self.settle(outcome.id, &event, outcome.verdict).await);
            }
        }
        self.settled(settled).await
    }
}

impl RedisCommits {
    async fn settled(&self, outcomes: Vec<Settled>) -> Result<()> {
        if outcomes.is_empty() {
            return Ok(());
        }
        let (done, answer) = oneshot::channel();
        let commit = Commit {
            hold: self.hold.clone(),
            outcomes,
            keep: None,
            done,
        };
        // The committer works for as long as there is anyone to send.
        if self.commits.send(commit).await.is_err() {
            return Err(TransportError::Fenced);
        }
        answer.await.unwrap_or(Err(TransportError::Fenced))
    }

    /// Commits an event that nobody is to handle.
    fn pass_over(&self, settled: Settled) {
        let commits = self.clone();
        // When the lease is lost, the next owner does it.
        self.redis
            .shutdown
            .spawn(async move { drop(commits.settled(vec![settled]).await) });
    }

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
            number: id.sequence,
            client: client_key(event),
            io_node: event.client.as_ref().map(|client| client.io_node.clone()),
            end,
            letter,
            writes: effects.writes,
            commands: self.routes.sort(&self.redis, event, effects.commands).await,
        }
    }
}

fn is_end(event: &Event) -> bool {
    matches!(event.kind, EventKind::Disconnect(_))
}

/// What comes first, and then what is read.
async fn next(first: &mut Vec<Found>, tap: &mut Tap) -> Option<Read> {
    if first.is_empty() {
        return tap.next().await;
    }
    let (found, up_to) = (std::mem::take(first), 0);
    Some(Read { found, up_to })
}

/// An event that was kept aside, by its field.
fn found(field: &str, event: Bytes) -> Option<Found> {
    let number = field.split(':').nth(1)?.parse().ok()?;
    Some(Found::new(number, event))
}

#[cfg(test)]
mod counted;
#[cfg(test)]
mod tests;
