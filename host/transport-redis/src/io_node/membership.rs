//! An io-node's membership in all shards. Each shard is joined and renewed by a task of its own, so that no shard waits for
//! another. Losing one shard ends the membership in all.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::try_join_all;
use tokio::sync::oneshot;
use tokio::time::sleep;
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{debug, info};

use crate::arguments::bytes_of;
use crate::io_node::open_events::OpenEvents;
use crate::io_node::preferred_partitions::PreferredPartitions;
use crate::keys::Shard;
use crate::membership::heartbeat::Heartbeat;
use crate::membership::lost_io_nodes::disconnect_clients;
use crate::membership::member::{Member, Role};
use crate::membership::name_claim::{NameClaim, NameHolder};
use crate::redis::Redis;
use crate::scripts;
use crate::stream::EntryId;
use plugnode_message::NodeId;
use plugnode_process::Backoff;
use plugnode_transport::{Result, TransportError};

/// Role in errors and the config section of the name.
const ROLE: &str = "io-node";
/// First and longest pause before another attempt to join with a fresh incarnation.
const REJOIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// An io-node's membership. Dropping it leaves the cluster.
pub(crate) struct IoMembership {
    /// Cancelled when the membership is lost.
    pub(crate) fenced: CancellationToken,
    /// Set before `fenced` if data were lost.
    has_lost_data: AtomicBool,
    /// Uncommitted events of its clients.
    pub(crate) open_events: OpenEvents,
    /// Partitions for its new clients.
    pub(crate) preferred_partitions: Arc<PreferredPartitions>,
    /// Number of the last accepted ingest call to each shard.
    last_calls: Arc<[AtomicU64]>,
    _left: DropGuard,
}

impl IoMembership {
    /// Joins in all shards. Clients reach the io-node at this address (JSON). Returns for each shard the last broadcast that it need
    /// not read.
    ///
    /// # Errors
    /// If another io-node holds the name.
    pub(crate) async fn join(redis: &Redis, name: NodeId, address: &str) -> Result<(Member, Arc<Self>, Vec<EntryId>)> {
        let mut pause = Backoff::new(REJOIN.0, REJOIN.1);
        let (member, last_broadcast) = loop {
            let member = Member::new(redis, ROLE, name.clone());
            match enter(redis, &redis.layout.shard(0), &member, address).await {
                Ok(last_broadcast) => break (member, last_broadcast),
                Err(TransportError::Fenced) => sleep(pause.next_delay()).await,
                Err(taken) => return Err(taken),
            }
        };
        let fenced = CancellationToken::new();
        let left = CancellationToken::new();
        let layout = &redis.layout;
        let preferred_partitions = PreferredPartitions::none(name, layout.partitions, layout.shards);
        let membership = Arc::new(Self {
            preferred_partitions: Arc::new(preferred_partitions),
            fenced: fenced.clone(),
            has_lost_data: AtomicBool::new(false),
            open_events: OpenEvents::default(),
            last_calls: redis.layout.all().map(|_| AtomicU64::new(0)).collect(),
            _left: left.clone().drop_guard(),
        });
        let (mut shards, mut joined) = (Vec::new(), Vec::new());
        for shard in redis.layout.all() {
            let (entered, has_entered) = oneshot::channel();
            let shard = ShardMembership {
                redis: redis.clone(),
                shard,
                member: member.clone(),
                last_calls: membership.last_calls.clone(),
                preferred_partitions: membership.preferred_partitions.clone(),
                left: left.clone(),
            };
            shards.push(shard.run(last_broadcast, entered));
            joined.push(has_entered);
        }
        redis
            .shutdown
            .spawn(renew(member.clone(), shards, Arc::downgrade(&membership), fenced));
        // If it is fenced before it has joined everywhere, the session reports that.
        let broadcasts = try_join_all(joined).await;
        let broadcasts = broadcasts.unwrap_or_else(|_| vec![EntryId::default(); usize::from(layout.shards)]);
        Ok((member, membership, broadcasts))
    }

    /// Reason of its loss.
    pub(crate) fn lost_because(&self) -> TransportError {
        match self.has_lost_data.load(Ordering::Acquire) {
            true => TransportError::DataLost,
            false => TransportError::Fenced,
        }
    }

    /// Notes that an ingest call was accepted.
    pub(crate) fn note_call(&self, shard: &Shard, number: u64) {
        self.last_calls[usize::from(shard.number)].store(number, Ordering::Release);
    }

    /// Ends the membership, because Redis has lost data of its clients.
    pub(crate) fn end_by_data_loss(&self) {
        self.has_lost_data.store(true, Ordering::Release);
        self.fenced.cancel();
    }
}

/// Renews the membership until a shard is lost or all are left.
async fn renew(
    member: Member,
    shards: Vec<impl Future<Output = Result<()>>>,
    membership: Weak<IoMembership>,
    fenced: CancellationToken,
) {
    match try_join_all(shards).await {
        Ok(_) => info!(io_node = %member.name, "left the cluster"),
        Err(error) => {
            debug!(io_node = %member.name, %error, "this io-node has lost its lease");
            if let (TransportError::DataLost, Some(membership)) = (error, membership.upgrade()) {
                membership.has_lost_data.store(true, Ordering::Release);
            }
            fenced.cancel();
        }
    }
}

/// Membership in one shard.
struct ShardMembership {
    redis: Redis,
    shard: Shard,
    member: Member,
    last_calls: Arc<[AtomicU64]>,
    preferred_partitions: Arc<PreferredPartitions>,
    left: CancellationToken,
}

impl ShardMembership {
    /// Joins, signals it with the last earlier broadcast, and renews the membership until it is lost or left. In shard 0 it has
    /// joined already, after this broadcast.
    async fn run(self, mut last_broadcast: EntryId, entered: oneshot::Sender<EntryId>) -> Result<()> {
        let Self {
            redis,
            shard,
            member,
            left,
            ..
        } = &self;
        if shard.number != 0 {
            tokio::select! {
                // If the call has taken effect all the same, its lease expires.
                () = left.cancelled() => return Ok(()),
                entered = enter(redis, shard, member, "") => last_broadcast = entered?,
            }
        }
        let _ = entered.send(last_broadcast);
        let mut heartbeat = Heartbeat::new(redis, shard, member, Role::Io);
        let mut known = Arc::default();
        loop {
            let last_call = self.last_calls[usize::from(shard.number)].load(Ordering::Acquire);
            let heard = tokio::select! {
                () = left.cancelled() => break,
                heard = heartbeat.next() => heard?,
            };
            if heard.last_call < last_call {
                // Accepted events are lost, and perhaps the record of their clients.
                redis.report_missing_writes(shard);
                return Err(TransportError::DataLost);
            }
            if !Arc::ptr_eq(&known, &heard.view) {
                self.preferred_partitions.choose(shard.number, &heard.view);
                known = heard.view.clone();
            }
            heartbeat
                .during(disconnect_clients(redis, shard, &heard.view.lost))
                .await?;
        }
        // No heartbeats while leaving.
        drop(heartbeat);
        let keys = ["io", "io:until", "lost", "clock"].map(|name| shard.key(name));
        let arguments = [bytes_of(member.name.as_str()), bytes_of(&member.incarnation)];
        redis.change::<()>(shard, &scripts::LEAVE_IO, &keys, &arguments).await;
        disconnect_clients(redis, shard, std::slice::from_ref(&member.id)).await;
        Ok(())
    }
}

/// Joins one shard once its name is free, and returns the last broadcast there.
///
/// # Errors
/// If a living io-node holds the name, or this incarnation's epoch is too old.
async fn enter(redis: &Redis, shard: &Shard, member: &Member, address: &str) -> Result<EntryId> {
    let keys = join_keys(shard, &member.id);
    let mut next_epoch = redis::cmd("HINCRBY");
    next_epoch.arg(&shard.key("clock")[..]).arg("epoch").arg(1);
    let epoch: u64 = redis.link.ask(&next_epoch).await;
    let arguments = [
        bytes_of(member.name.as_str()),
        bytes_of(&member.incarnation),
        bytes_of(redis.settings.lease.as_millis()),
        bytes_of(epoch),
        bytes_of(&member.predecessors),
        bytes_of(address),
    ];
    let mut name = NameClaim::new(redis, ROLE, &member.name);
    loop {
        let answer: Vec<String> = redis.change(shard, &scripts::JOIN_IO, &keys, &arguments).await;
        let words: Vec<&str> = answer.iter().map(String::as_str).collect();
        match words[..] {
            ["joined", last_broadcast] => return Ok(last_broadcast.parse().unwrap_or_default()),
            ["held", incarnation, deadline, left] => {
                let holder = NameHolder {
                    incarnation: incarnation.into(),
                    deadline: deadline.into(),
                    left: Duration::from_millis(left.parse().unwrap_or(0)),
                };
                name.wait_for(holder).await?;
            }
            _ => return Err(TransportError::Fenced),
        }
    }
}

/// The keys of the script `join_io` for this member.
pub(crate) fn join_keys(shard: &Shard, member: &str) -> Vec<Bytes> {
    let names = |names: &[&str]| names.iter().map(|name| shard.key(name)).collect::<Vec<_>>();
    [
        &names(&["io", "io:until", "lost", "over", "who"])[..],
        &[shard.live(member), shard.outbox(member)],
        &names(&["kept", "clock", "epochs", "info", "begun"]),
        &[shard.outbox_in(member), shard.outbox_read(member)],
        &names(&["ends", "turns", "locks"]),
        &shard.broadcasts(),
    ]
    .concat()
}
