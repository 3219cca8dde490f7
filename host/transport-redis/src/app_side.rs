//! What an app-node holds of the Redis transport: its leases.
//!
//! A dealer in each shard gives signs of life there, sees by them which partitions fall to this node, claims and gives
//! back. It sees to it that the log of its shard stays short, too. No dealer waits for another, but a node that is fenced
//! in one shard is fenced in all.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::committer::{self, Commit};
use super::keys::Shard;
use super::lease::{Hold, Over, RedisCommits, RedisLog, Returned, found};
use super::membership::{Beat, Member, Role, bury};
use super::progress::Progress;
use super::pulse::Pulse;
use super::reader::{Found, Reader};
use super::routes::Routes;
use super::suspects::Suspects;
use super::wire::decode;
use super::{Redis, bytes_of, scripts, timers};
use plugnode_message::{AttributePatch, NodeId, Partition};
use plugnode_transport::{Lease, Leases, Result, TransportError, owner_of, partition_of};

/// How many commits of a shard may wait. Each partition waits for its own, so there are hardly more.
const COMMITS: usize = 64;

/// How many events that were kept aside are read at once,
const KEPT: usize = 256;
/// and how many bytes, unless one alone has more.
const KEPT_BYTES: usize = 4 << 20;

/// Joins as an app-node. The first shard says who has the name; in the others it joins by and by.
///
/// # Errors
/// When another app-node has the name.
pub(super) async fn join(redis: &Redis, name: NodeId) -> Result<RedisLeases> {
    let (grants, granted) = mpsc::unbounded_channel();
    let member = Member::new(redis, "app-node", name.clone());
    let mut first = Some(Pulse::join(redis, &redis.layout.shard(0), &member).await?);
    let (fenced, end) = (CancellationToken::new(), CancellationToken::new());
    let routes = Routes::default();
    let (mut dealers, mut joined) = (Vec::new(), Vec::new());
    for shard in redis.layout.all() {
        let (commits, waiting) = mpsc::channel(COMMITS);
        redis
            .shutdown
            .spawn(committer::run(redis.clone(), shard.clone(), waiting));
        let timing = timers::run(redis.clone(), shard.clone(), member.id.clone(), end.clone());
        redis.shutdown.spawn(timing);
        let (returns, returned) = mpsc::unbounded_channel();
        let (entered, has_entered) = oneshot::channel();
        let dealer = Dealer {
            reader: Reader::start(redis, shard.clone(), &member.id, end.clone()),
            redis: redis.clone(),
            member: member.clone(),
            shard,
            commits,
            routes: routes.clone(),
            grants: grants.clone(),
            returns,
            fenced: fenced.clone(),
            held: HashMap::new(),
        };
        dealers.push(dealer.run(first.take(), entered, returned));
        joined.push(has_entered);
    }
    let leases = RedisLeases {
        granted,
        has_lost_data: Arc::default(),
    };
    let has_lost_data = leases.has_lost_data.clone();
    redis.shutdown.spawn(async move {
        let _end = end.drop_guard();
        let all_joined = async {
            if try_join_all(joined).await.is_ok() {
                info!(app_node = %name, "joined the cluster");
            }
        };
        let all_left = async {
            match try_join_all(dealers).await {
                Ok(_) => info!(app_node = %name, "left the cluster"),
                Err(error) => {
                    warn!(app_node = %name, %error, "this app-node has lost its place");
                    let is_data_lost = matches!(error, TransportError::DataLost);
                    has_lost_data.store(is_data_lost, Ordering::Release);
                    // What waits for more is to know the reason.
                    drop(grants);
                    fenced.cancel();
                }
            }
        };
        tokio::join!(all_joined, all_left);
    });
    Ok(leases)
}

pub(super) struct RedisLeases {
    granted: mpsc::UnboundedReceiver<Lease>,
    /// Set, when the node was fenced, if that was by a loss of data.
    has_lost_data: Arc<AtomicBool>,
}

#[async_trait]
impl Leases for RedisLeases {
    async fn next(&mut self) -> Result<Lease> {
        // The dealers end before this does only when the node was fenced.
        self.granted
            .recv()
            .await
            .ok_or_else(|| match self.has_lost_data.load(Ordering::Acquire) {
                true => TransportError::DataLost,
                false => TransportError::Fenced,
            })
    }
}

/// Deals with the partitions of one app-node in one shard.
struct Dealer {
    redis: Redis,
    member: Member,
    shard: Shard,
    reader: Reader,
    commits: mpsc::Sender<Commit>,
    routes: Routes,
    grants: mpsc::UnboundedSender<Lease>,
    returns: mpsc::UnboundedSender<Returned>,
    /// Set when the node is fenced, in whichever shard.
    fenced: CancellationToken,
    held: HashMap<Partition, Held>,
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
    /// Patches of attributes that io-nodes may not have applied yet.
    patches: Vec<AttributePatch>,
    /// What may have been in hand when an owner died.
    suspects: Suspects,
}

impl Dealer {
    /// Works until the node was fenced, or has left and given everything back. Tells when it has joined.
    async fn run(
        mut self,
        joined: Option<Pulse>,
        entered: oneshot::Sender<()>,
        mut returned: mpsc::UnboundedReceiver<Returned>,
    ) -> Result<()> {
        let mut pulse = match joined {
            Some(pulse) => pulse,
            None => Pulse::join(&self.redis, &self.shard, &self.member).await?,
        };
        pulse.becomes(Role::App);
        let _ = entered.send(());
        loop {
            tokio::select! {
                biased;
                Some(lease) = returned.recv() => {
                    pulse.during(self.give_back(lease)).await?;
                    // A node that leaves is waited for by others.
                    if pulse.role() != Role::Leaving || !self.held.is_empty() {
                        continue;
                    }
                }
                () = self.grants.closed(), if pulse.role() != Role::Leaving => pulse.becomes(Role::Leaving),
                () = pulse.due() => {}
            }
            if pulse.role() == Role::Leaving && self.held.is_empty() && returned.is_empty() {
                self.leave().await;
                return Ok(());
            }
            let beat = pulse.beat().await?;
            pulse.during(self.work(&beat)).await?;
        }
    }

    /// Does what a sign of life tells is to be done.
    async fn work(&mut self, beat: &Beat) {
        self.deal(beat).await;
        self.keep();
        self.trim().await;
        bury(&self.redis, &self.shard, &beat.lost).await;
    }

    /// Compares what this node holds with what it should.
    async fn deal(&mut self, beat: &Beat) {
        let own = format!(":{}", self.member.id);
        let (mut wanted, mut ghosts) = (Vec::new(), Vec::new());
        for partition in self.redis.layout.partitions_of(self.shard.number) {
            let lease = beat.leases.get(&partition);
            let is_mine = !self.grants.is_closed()
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
            self.release(partition, lease).await;
        }
        if wanted.is_empty() {
            return;
        }
        let mut keys = ["app", "owner", "done", "over", "kept", "begun", "in"]
            .map(|name| self.shard.key(name))
            .to_vec();
        keys.extend(wanted.iter().map(|partition| self.shard.patches(*partition)));
        let mut arguments = vec![bytes_of(&self.member.name), bytes_of(&self.member.incarnation)];
        arguments.extend(wanted.iter().map(bytes_of));
        type Pairs<T> = Vec<(T, String)>;
        type Answer = (
            Vec<(u16, String, String)>,
            Pairs<Bytes>,
            Vec<String>,
            Pairs<String>,
            Vec<Bytes>,
        );
        let (claimed, over, kept, begun, patches): Answer =
            self.redis.change(&self.shard, &scripts::CLAIM, &keys, &arguments).await;
        if claimed.is_empty() {
            return;
        }
        let mut kept = self.kept(kept).await;
        // What the owners before committed for other shards is there before it can be read here.
        let others = (0..self.redis.layout.shards).filter(|other| *other != self.shard.number);
        self.redis.forward_soon(&self.shard, others);
        let mut patches: Vec<AttributePatch> = patches.iter().filter_map(|patch| decode(patch).ok()).collect();
        patches.sort_unstable_by_key(|patch| patch.number);
        let partitions = self.redis.layout.partitions;
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
            let mut first: Vec<Found> = of_it.filter_map(|(field, event)| found(&field, &event)).collect();
            first.sort_unstable_by_key(|found| found.number);
            first.iter().for_each(|found| progress.has_kept(found.number));
            let own = format!("{partition}:");
            let notes = begun
                .iter()
                .filter_map(|(field, value)| Some((field.strip_prefix(&own)?, value.as_str())));
            let suspects = Suspects::noted(notes);
            let partition = Partition(partition);
            let of_it = patches.extract_if(.., |patch| partition_of(&patch.client, partitions) == partition);
            let claimed = Claimed {
                patches: of_it.collect(),
                suspects,
                partition,
                lease,
                progress,
                ends,
                first,
            };
            self.grant(claimed).await;
        }
    }

    /// The events that the owners before have kept aside, by their fields. Only the owner changes these.
    async fn kept(&self, mut fields: Vec<String>) -> Vec<(String, Bytes)> {
        let key = [self.shard.key("kept")];
        let mut kept = Vec::with_capacity(fields.len());
        while !fields.is_empty() {
            let page = fields.iter().take(KEPT).map(bytes_of);
            let arguments: Vec<Bytes> = [bytes_of(KEPT_BYTES)].into_iter().chain(page).collect();
            let values: Vec<Option<Bytes>> = self.redis.link.run(&scripts::VALUES, &key, &arguments).await;
            let read = fields.drain(..values.len().clamp(1, fields.len()));
            kept.extend(read.zip(values).filter_map(|(field, event)| Some((field, event?))));
        }
        kept
    }

    async fn grant(&mut self, claimed: Claimed) {
        let Claimed {
            partition,
            lease,
            progress,
            ends,
            first,
            patches,
            suspects,
        } = claimed;
        let over = Arc::new(Over {
            lost: self.fenced.child_token(),
            ..Default::default()
        });
        let from = progress.up_to();
        let hold = Arc::new(Hold {
            partition,
            lease: lease.clone(),
            over: over.clone(),
            progress: Mutex::new(progress),
            forgotten: Mutex::default(),
            changed: Arc::default(),
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
            commits: self.commits.clone(),
            hold,
        };
        let log = RedisLog {
            tap: self.reader.add(partition, from).await,
            first,
            ends,
            suspects,
            commits: commits.clone(),
        };
        let lease = Lease {
            partition,
            log: Box::new(log),
            commits: Arc::new(commits),
            patches,
        };
        // Nobody takes it any more: dropping it gives it back.
        let _ = self.grants.send(lease);
    }

    async fn give_back(&mut self, returned: Returned) {
        let Returned { partition, lease } = returned;
        if self.held.get(&partition).is_none_or(|held| held.lease != lease) {
            return;
        }
        self.reader.remove(partition);
        self.held.remove(&partition);
        self.release(partition, &lease).await;
    }

    /// Keeps what is open for long aside, so that it alone is kept and not all that came behind it.
    fn keep(&self) {
        let long_ago = self
            .reader
            .at()
            .saturating_sub(self.redis.settings.backlog.events as u64);
        for partition in self.redis.layout.partitions_of(self.shard.number) {
            let hold = self.held.get(&partition).and_then(|held| held.hold.upgrade());
            if let Some(hold) = hold.filter(|hold| hold.progress().holds_log(long_ago)) {
                self.reader.mark(partition);
                let (done, _) = oneshot::channel();
                // Where commits wait already, the next beat is early enough.
                let _ = self.commits.try_send(Commit {
                    hold,
                    outcomes: VecDeque::new(),
                    keep: Some(long_ago),
                    elsewhere: BTreeSet::new(),
                    done,
                });
            }
        }
    }

    /// Takes what is committed out of the log. One of the app-nodes does it, whoever has its first partition.
    async fn trim(&self) {
        let mut partitions = self.redis.layout.partitions_of(self.shard.number);
        if partitions.next().is_some_and(|first| self.held.contains_key(&first)) {
            let keys = ["log", "in", "done"].map(|name| self.shard.key(name));
            let arguments = [bytes_of(self.redis.settings.backlog.bytes)];
            self.redis.link.run::<()>(&scripts::TRIM, &keys, &arguments).await;
        }
    }

    async fn release(&self, partition: Partition, lease: &str) {
        let keys = [self.shard.key("owner")];
        let arguments = [bytes_of(partition), bytes_of(lease)];
        self.redis.link.run::<()>(&scripts::RELEASE, &keys, &arguments).await;
    }

    async fn leave(self) {
        let keys = [self.shard.key("app"), self.shard.key("app:until")];
        let arguments = [bytes_of(&self.member.name), bytes_of(&self.member.incarnation)];
        self.redis.link.run::<()>(&scripts::LEAVE_APP, &keys, &arguments).await;
    }
}

#[cfg(test)]
mod tests;
