//! What an io-node holds of the Redis transport: its place in the cluster, and its inbox.
//!
//! The place is renewed in each shard by itself, so that no shard waits for another; io-nodes that were lost there are
//! buried meanwhile. When the place is lost in one shard, it is lost in all, and everything here says so.

mod call;

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use async_trait::async_trait;
use futures_util::future::{join_all, try_join_all};
use tokio::sync::{Mutex, oneshot};
use tokio::time::{Instant, sleep};
use tokio_util::sync::{CancellationToken, DropGuard};
use tracing::{info, warn};

use self::call::{Entry, IngestCall, Kind};
use super::gather::gather;
use super::keys::Shard;
use super::membership::{Member, Role, bury};
use super::name::{Holder, NameWait};
use super::open::Open;
use super::outbox::RedisOutbox;
use super::pulse::Pulse;
use super::scripts;
use super::wire::encode;
use super::{Redis, bytes_of, bytes_of_client};
use plugnode_message::{Command, Event, Namespace, NodeId, Partition, SessionId};
use plugnode_process::Backoff;
use plugnode_transport::Load;
use plugnode_transport::{Inbox, IoNode, IoSession, Result, TransportError, partition_of};

/// What an io-node is called in errors, and its section of the config.
const ROLE: &str = "io-node";
/// How long to wait before joining again under another incarnation, at first, and at the most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_secs(1));

/// Joins as an io-node, in every shard. The first says who has the name.
///
/// # Errors
/// When another io-node has the name.
pub(super) async fn join(redis: &Redis, node: IoNode) -> Result<IoSession> {
    let probes = probes(redis, &node).await;
    let address = serde_json::json!({
        "host": node.host, "port": node.port, "probes": probes, "scheme": node.scheme, "path": node.path,
    });
    let address = address.to_string();
    let mut backoff = Backoff::new(AGAIN.0, AGAIN.1);
    let member = loop {
        let member = Member::new(redis, ROLE, node.id.clone());
        match enter(redis, &redis.layout.shard(0), &member, &address).await {
            Ok(()) => break member,
            Err(TransportError::Fenced) => sleep(backoff.next_delay()).await,
            Err(taken) => return Err(taken),
        }
    };
    let fenced = CancellationToken::new();
    let left = CancellationToken::new();
    let place = Arc::new(Place {
        fenced: fenced.clone(),
        has_lost_data: AtomicBool::new(false),
        open: Open::default(),
        taken: redis.layout.all().map(|_| AtomicU64::new(0)).collect(),
        _left: left.clone().drop_guard(),
    });
    let (mut stays, mut joined) = (Vec::new(), Vec::new());
    for shard in redis.layout.all() {
        let (entered, has_entered) = oneshot::channel();
        let stay = Stay {
            redis: redis.clone(),
            shard,
            member: member.clone(),
            taken: place.taken.clone(),
            left: left.clone(),
        };
        stays.push(stay.run(entered));
        joined.push(has_entered);
    }
    redis
        .shutdown
        .spawn(stay(member.clone(), stays, Arc::downgrade(&place), fenced));
    // One that was fenced before it was in everywhere has a session that says so.
    let _ = try_join_all(joined).await;

    let outbox = RedisOutbox::new(redis, &member, place.clone());
    let calls = redis.layout.all().map(|_| Mutex::new(0)).collect();
    let inbox = RedisInbox {
        redis: redis.clone(),
        member,
        place,
        calls,
    };
    Ok(IoSession {
        inbox: Arc::new(inbox),
        outbox: Box::new(outbox),
    })
}

/// Where other nodes can ask for the node's health.
async fn probes(redis: &Redis, node: &IoNode) -> Vec<String> {
    const ANY: [&str; 2] = ["://0.0.0.0:", "://[::]:"];
    let mut probes = node.probes.clone();
    if probes.iter().any(|probe| ANY.iter().any(|any| probe.contains(any))) {
        let own = match redis.server.local_ip().await {
            IpAddr::V4(own) => format!("://{own}:"),
            IpAddr::V6(own) => format!("://[{own}]:"),
        };
        for probe in &mut probes {
            *probe = ANY
                .iter()
                .fold(std::mem::take(probe), |probe, any| probe.replace(any, &own));
        }
    }
    probes
}

/// An io-node's place in the cluster, given up when it is dropped.
pub(super) struct Place {
    /// Set when the place is lost.
    pub(super) fenced: CancellationToken,
    /// Set before that when it is lost together with data.
    has_lost_data: AtomicBool,
    /// What of its clients is not committed.
    pub(super) open: Open,
    /// For each shard, the number of the last call that took events in.
    taken: Arc<[AtomicU64]>,
    _left: DropGuard,
}

impl Place {
    /// Why it was lost.
    pub(super) fn end(&self) -> TransportError {
        match self.has_lost_data.load(Ordering::Acquire) {
            true => TransportError::DataLost,
            false => TransportError::Fenced,
        }
    }
}

/// Renews the place until it is lost in a shard or given up in all.
async fn stay(
    member: Member,
    stays: Vec<impl Future<Output = Result<()>>>,
    place: Weak<Place>,
    fenced: CancellationToken,
) {
    match try_join_all(stays).await {
        Ok(_) => info!(io_node = %member.name, "left the cluster"),
        Err(error) => {
            warn!(io_node = %member.name, %error, "this io-node has lost its place");
            if let (TransportError::DataLost, Some(place)) = (error, place.upgrade()) {
                place.has_lost_data.store(true, Ordering::Release);
            }
            fenced.cancel();
        }
    }
}

/// The place in one shard.
struct Stay {
    redis: Redis,
    shard: Shard,
    member: Member,
    /// For each shard, the number of the last call that took events in.
    taken: Arc<[AtomicU64]>,
    left: CancellationToken,
}

impl Stay {
    /// Takes the place, unless it is in the first shard, tells so, and renews it until it is lost or given up.
    async fn run(self, entered: oneshot::Sender<()>) -> Result<()> {
        let Self {
            redis,
            shard,
            member,
            left,
            ..
        } = &self;
        if shard.number != 0 {
            tokio::select! {
                // Should it have come in, its lease runs out.
                () = left.cancelled() => return Ok(()),
                entered = enter(redis, shard, member, "") => entered?,
            }
        }
        let _ = entered.send(());
        let mut pulse = Pulse::new(redis, shard, member, Role::Io);
        loop {
            let taken = self.taken[usize::from(shard.number)].load(Ordering::Acquire);
            let beat = tokio::select! {
                () = left.cancelled() => break,
                beat = pulse.next() => beat?,
            };
            if beat.last_call < taken {
                // Events of this io-node's clients are gone, and the note that the clients are there may be.
                redis.misses_writes(shard);
                return Err(TransportError::DataLost);
            }
            pulse.during(bury(redis, shard, &beat.lost)).await?;
        }
        // A place that is being given up need not be renewed.
        drop(pulse);
        let keys = [shard.key("io"), shard.key("io:until"), shard.key("lost")];
        let arguments = [bytes_of(member.name.as_str()), bytes_of(&member.incarnation)];
        redis.change::<()>(shard, &scripts::LEAVE_IO, &keys, &arguments).await;
        bury(redis, shard, std::slice::from_ref(&member.id)).await;
        Ok(())
    }
}

/// Takes the place in one shard once no other has it. Clients reach the io-node at this address.
///
/// # Errors
/// When another lives there under this name, or this incarnation has had its time.
async fn enter(redis: &Redis, shard: &Shard, member: &Member, address: &str) -> Result<()> {
    let live = [shard.live(&member.id), shard.outbox(&member.id)];
    let names = |names: &[&str]| names.iter().map(|name| shard.key(name)).collect::<Vec<_>>();
    let keys = [
        &names(&["io", "io:until", "lost", "over", "who"])[..],
        &live,
        &names(&["log", "kept", "clock", "epochs", "info", "begun"]),
        &[shard.outbox_in(&member.id), shard.outbox_read(&member.id)],
        &names(&["ends", "turns", "locks"]),
    ]
    .concat();
    let mut next_epoch = ::redis::cmd("HINCRBY");
    next_epoch.arg(&shard.key("clock")[..]).arg("epoch").arg(1);
    let epoch: u64 = redis.link.ask(&next_epoch).await;
    let arguments = [
        bytes_of(member.name.as_str()),
        bytes_of(&member.incarnation),
        bytes_of(redis.settings.lease.as_millis()),
        bytes_of(epoch),
        bytes_of(&member.replaces),
        bytes_of(address),
    ];
    let mut name = NameWait::new(redis, ROLE, &member.name);
    loop {
        let answer: Vec<String> = redis.change(shard, &scripts::JOIN_IO, &keys, &arguments).await;
        let words: Vec<&str> = answer.iter().map(String::as_str).collect();
        match words[..] {
            ["joined"] => return Ok(()),
            ["held", incarnation, deadline, left] => {
                let holder = Holder {
                    incarnation: incarnation.into(),
                    deadline: deadline.into(),
                    left: Duration::from_millis(left.parse().unwrap_or(0)),
                };
                name.held_by(holder).await?;
            }
            _ => return Err(TransportError::Fenced),
        }
    }
}

struct RedisInbox {
    redis: Redis,
    member: Member,
    place: Arc<Place>,
    /// The number of the last call to each shard. A call at a time: its number is how one that is made again is known.
    calls: Vec<Mutex<u64>>,
}

#[async_trait]
impl Inbox for RedisInbox {
    async fn ingest(&self, events: Vec<Event>) -> Result<Vec<Event>> {
        let begun = Instant::now();
        let refused = self.hand_over(&events).await?;
        // What was taken in goes its way meanwhile.
        gather(begun, events.len() - refused.len()).await;
        if refused.is_empty() {
            return Ok(Vec::new());
        }
        let mut refused = refused.into_iter().peekable();
        let places = events.into_iter().enumerate();
        let refused = places.filter(|(place, _)| refused.next_if_eq(place).is_some());
        Ok(refused.map(|(_, event)| event).collect())
    }

    async fn tell(&self, node: &NodeId, command: Command) -> Result<()> {
        let layout = &self.redis.layout;
        // The question is in the outbox of its asker's shard, and may not be overtaken.
        let shard = match &command {
            Command::Answer { asker, .. } => layout.shard_of(partition_of(&asker.client, layout.partitions)),
            _ => 0,
        };
        let shard = layout.shard(shard);
        let keys = [shard.key("io")];
        let arguments = [
            shard.outbox(""),
            shard.outbox_in(""),
            shard.outbox_read(""),
            bytes_of(self.redis.settings.outbox.entries),
            bytes_of(self.redis.settings.outbox.bytes),
            bytes_of(node),
            encode(&vec![command]),
        ];
        // What is told binds nobody, so it is not waited for until replicas have it.
        let telling = self.redis.link.run::<()>(&scripts::TELL, &keys, &arguments);
        tokio::select! {
            biased;
            () = self.place.fenced.cancelled() => Err(self.place.end()),
            () = telling => Ok(()),
        }
    }

    fn open_events(&self, namespace: &Namespace, client: &SessionId) -> usize {
        self.place.open.of(&bytes_of_client(namespace, client))
    }
}

impl RedisInbox {
    /// Hands events in, and returns the places of those refused, in order.
    async fn hand_over(&self, events: &[Event]) -> Result<Vec<usize>> {
        let layout = &self.redis.layout;
        let mut by_shard = vec![Vec::new(); usize::from(layout.shards)];
        for (place, event) in events.iter().enumerate() {
            let partition = partition_of_event(event, layout.partitions);
            by_shard[usize::from(layout.shard_of(partition))].push((place, partition));
        }
        let shards = by_shard
            .iter()
            .zip(layout.all())
            .filter(|(places, _)| !places.is_empty());
        let calls = shards.map(|(places, shard)| self.ingest_in(shard, places, events));
        let refused = tokio::select! {
            biased;
            () = self.place.fenced.cancelled() => return Err(self.place.end()),
            refused = join_all(calls) => refused.into_iter().collect::<Result<Vec<_>>>()?,
        };
        let mut refused: Vec<usize> = refused.into_iter().flatten().collect();
        refused.sort_unstable();
        Ok(refused)
    }

    /// Hands one shard's events in, in as many calls as it takes, and returns the places of those refused.
    async fn ingest_in(&self, shard: Shard, places: &[(usize, Partition)], events: &[Event]) -> Result<Vec<usize>> {
        let mut last = self.calls[usize::from(shard.number)].lock().await;
        let mut refused = Vec::new();
        let mut stuck = HashSet::new();
        let mut rest = places.iter();
        while !rest.as_slice().is_empty() {
            let mut call = IngestCall::default();
            for (place, partition) in rest.by_ref() {
                let entry = Entry::of(*place, *partition, &events[*place]);
                let backlog = &self.redis.settings.backlog;
                let take = || self.place.open.take(&entry.client, *partition, entry.bytes(), backlog);
                let has_room = || entry.client.is_empty() || take();
                // Only events of nobody are in order with no client.
                if !entry.order.is_empty() && (stuck.contains(&entry.order) || !has_room()) {
                    stuck.insert(entry.order);
                    refused.push(*place);
                    continue;
                }
                call.add(entry);
                if call.is_full() {
                    break;
                }
            }
            for entry in self.hand_in(&shard, call, &mut last).await? {
                refused.push(entry.place);
                if !entry.client.is_empty() {
                    self.place.open.give_back(&entry.client, 1, entry.bytes());
                }
                if !entry.order.is_empty() {
                    stuck.insert(entry.order);
                }
            }
        }
        Ok(refused)
    }

    /// Hands in as much of a call as is taken, and returns the rest.
    async fn hand_in(&self, shard: &Shard, mut call: IngestCall, last: &mut u64) -> Result<Vec<Entry>> {
        let mut refused = Vec::new();
        while !call.entries.is_empty() {
            *last += 1;
            let (keys, arguments) = call.written(&self.redis, shard, &self.member, *last);
            let answer: Vec<String> = self.redis.change(shard, &scripts::INGEST, &keys, &arguments).await;
            let (word, details) = answer
                .split_first()
                .map_or(("blocked", &[][..]), |(word, rest)| (word, rest));
            match word {
                "taken" => {
                    self.place.open.told(call.partitions(), &loads(details));
                    self.place.taken[usize::from(shard.number)].store(*last, Ordering::Release);
                    let ends = call.entries.iter().filter(|entry| entry.kind == Kind::End);
                    ends.for_each(|entry| self.place.open.forget(&entry.client));
                    break;
                }
                "fenced" => {
                    self.place.fenced.cancel();
                    return Err(TransportError::Fenced);
                }
                "behind" => {
                    // Events of this io-node's clients are gone, before a heartbeat has told of it.
                    self.redis.misses_writes(shard);
                    self.place.has_lost_data.store(true, Ordering::Release);
                    self.place.fenced.cancel();
                    return Err(TransportError::DataLost);
                }
                "full" => refused.extend(call.keep_to(&loads(details), &self.redis.settings.backlog)),
                // It is accepted, and nothing comes of it.
                "over" => call.drop_ends(details, &self.place.open),
                _ => refused.append(&mut call.entries),
            }
        }
        Ok(refused)
    }
}

/// Reads loads of partitions, said as triples.
fn loads(words: &[String]) -> Vec<(Partition, Load)> {
    let triples = words.chunks_exact(3);
    let load = |triple: &[String]| {
        let [partition, events, bytes] = triple else {
            return None;
        };
        let load = Load {
            events: events.parse().ok()?,
            bytes: bytes.parse().ok()?,
        };
        Some((Partition(partition.parse().ok()?), load))
    };
    triples.filter_map(load).collect()
}

fn partition_of_event(event: &Event, partitions: u16) -> Partition {
    event
        .in_order_with()
        .map_or(Partition(0), |client| partition_of(client, partitions))
}
