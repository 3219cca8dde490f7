//! The Redis transport: io-nodes and app-nodes of many processes, on one machine or many, joined by Redis or Valkey.
//!
//! An event goes `io_side` → in a `batch` into its shard's log → `reader` → `app_side`; what handling it did goes `app_side` →
//! `committer` → the `outbox` of each io-node concerned. Whatever must happen together happens in one script
//! (`scripts/`), on keys of one shard (`keys`). Every call may be made again, and is, until it is answered (`connection`):
//! events are taken in once by the number of the call, and take effect once because what is committed of their partition
//! (`progress`) changes in the moment that they do. Who may write is said by incarnations and leases (`membership`), which the scripts check.

mod app_side;
mod batch;
mod committer;
mod components;
mod connection;
#[cfg(test)]
mod counted;
mod data_watch;
mod dead;
mod durability;
mod forwards;
mod gather;
mod io_side;
mod key_value;
mod keys;
#[cfg(test)]
mod late;
mod lease;
mod membership;
mod name;
mod nodes;
mod open;
mod outbox;
mod progress;
mod pulse;
mod reader;
mod releases;
mod routes;
mod scripts;
mod store;
mod strangers;
mod stream;
mod suspects;
mod timers;
mod wire;

use std::fmt::Display;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use ::redis::FromRedisValue;
use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::Semaphore;

pub use self::connection::check_url;
use self::connection::{Link, Script, Server};
use self::data_watch::DataWatch;
use self::durability::{Durability, Waiting};
use self::forwards::Forwards;
use self::keys::{Layout, Shard};
use self::membership::{Incarnations, Peers};
use self::strangers::Strangers;
use plugnode_message::{Event, EventId, Namespace, NodeId, SessionId};
use plugnode_process::shutdown::Shutdown;
use plugnode_transport::{
    Backlog, DeadLetter, DeadLetterBudget, DeadLetters, Events, IoNode, IoSession, Leases, OutboxBudget, Result,
    Revival, Standing, Sweep, SweepPlace, Swept, TimerBudget, Transport, TransportError,
};

/// What the keys of this version look like. Nodes of another do not share a cluster with it.
const FORMAT: u32 = 2;

/// How the Redis transport is reached, and its limits. Every node of a cluster has the same, but for files and names.
#[derive(Clone)]
pub struct RedisSettings {
    /// Where: `redis://`, `rediss://`, `redis+sentinel://` or `redis+cluster://`.
    pub url: String,
    /// Files for TLS.
    pub tls: TlsFiles,
    /// What every key begins with, so that several clusters can share a Redis.
    pub prefix: String,
    /// Number of partitions.
    pub partitions: u16,
    /// Number of shards that the partitions are spread over.
    pub shards: u16,
    /// What of events that are not committed yet a partition holds before it refuses more.
    pub backlog: Backlog,
    /// What may wait for an io-node before commits wait for it.
    pub outbox: OutboxBudget,
    /// What a shard keeps of dead letters.
    pub dead_letters: DeadLetterBudget,
    /// The most bytes of keys and values in one bucket.
    pub bucket_bytes: usize,
    /// How many timers there may be.
    pub timers: TimerBudget,
    /// How long a node that is not heard of keeps what it holds.
    pub lease: Duration,
    /// How many replicas must have a change before it counts.
    pub wait_replicas: u32,
    /// Whether a change counts only when it is synced to disk, on this Redis and on those replicas.
    pub wait_aof: bool,
    /// The most bytes that a component may have.
    pub max_component: usize,
}

/// PEM files for TLS; without them, the usual roots are trusted and no certificate is shown.
#[derive(Debug, Clone, Default)]
pub struct TlsFiles {
    /// Certificates to trust.
    pub ca: Option<PathBuf>,
    /// The certificate to show.
    pub cert: Option<PathBuf>,
    /// Its key.
    pub key: Option<PathBuf>,
}

impl RedisSettings {
    /// How often a node gives a sign of life.
    fn beat(&self) -> Duration {
        (self.lease / 30).clamp(Duration::from_millis(20), Duration::from_secs(1))
    }
}

/// The Redis transport. Clones are the same one.
#[derive(Clone)]
pub struct Redis {
    settings: Arc<RedisSettings>,
    layout: Arc<Layout>,
    server: Arc<Server>,
    link: Link,
    /// For changes that are waited for: whatever is asked behind such a wait on the same connection waits, too.
    changes: Link,
    /// For reads of the key-value store, whose answers can be large.
    reads: Link,
    /// For signs of life, which wait behind nothing else.
    beats: Link,
    /// What must hold of a change before it counts, if anything beyond its being made.
    durability: Option<Durability>,
    /// Notices that data were lost.
    data_watch: Arc<DataWatch>,
    /// Whether members can renew their places.
    standing: Standing,
    /// Writes on their way from one shard to another.
    forwards: Forwards,
    /// What was told of other versions.
    strangers: Strangers,
    /// Held by whoever has an event in hand that was begun before and not ended.
    suspects: Arc<Semaphore>,
    /// Who this process was.
    incarnations: Incarnations,
    /// Who else was there.
    peers: Peers,
    /// Knows the tasks that work for members, which end after these have left.
    shutdown: Shutdown,
    /// Since when a change is not as safe as the settings ask for.
    unsafe_since: Arc<Mutex<Option<Instant>>>,
    /// Whether this is for a verb of the command line, which may have no right to change anything.
    visits: bool,
}

/// Tells for how long a transport has been kept from answering, and by what, with the remedy. None: it is not.
pub type Hindrance = Box<dyn Fn() -> Option<(Duration, String)> + Send + Sync>;

impl Redis {
    /// Looks whether Redis is there and fit for its task, and whether this cluster is as its other nodes know it.
    ///
    /// # Errors
    /// When it is not, in words that tell what to do.
    pub async fn connect(settings: RedisSettings, shutdown: &Shutdown) -> Result<Self> {
        let server = Arc::new(Server::new(&settings.url, &settings.tls)?);
        server.examine(&settings).await?;
        let redis = Self::over(server, settings, shutdown, false);
        let (watch, ending) = (redis.standing.watch(), shutdown.clone());
        shutdown.spawn(async move {
            tokio::select! {
                () = ending.begun() => {}
                () = watch => {}
            }
        });
        redis.agree().await?;
        Ok(redis)
    }

    /// Reaches a cluster for a verb of the command line. Nothing is written by this, so that it works with the right to read
    /// alone, on a Redis that is full and on a replica; and nothing is waited for for long.
    ///
    /// # Errors
    /// When Redis is not there, or the cluster is another one than the settings say, with what to do.
    pub async fn visit(mut settings: RedisSettings, shutdown: &Shutdown) -> Result<Self> {
        // How much is kept is for the nodes to say, whose settings a verb may not know.
        settings.dead_letters = DeadLetterBudget {
            letters: usize::MAX,
            bytes: usize::MAX,
        };
        let server = Arc::new(Server::new(&settings.url, &settings.tls)?);
        server.greet().await?;
        let redis = Self::over(server, settings, shutdown, true);
        let mut question = ::redis::cmd("HMGET");
        question.arg(&redis.layout.shard(0).key("meta")[..]);
        question.arg("format").arg("partitions").arg("shards");
        let settled: Vec<Option<String>> = match redis.link.try_ask(&question).await {
            Ok(settled) => settled,
            Err(reason) => {
                // It may have gone away meanwhile.
                redis.server.greet().await?;
                return Err(unusable(reason));
            }
        };
        // Where no node ever was, there is nothing to disagree with.
        if settled.iter().any(Option::is_some) {
            redis.agrees_with(settled)?;
        }
        Ok(redis)
    }

    /// Tells what keeps this from answering.
    pub fn hindrance(&self) -> Hindrance {
        let (server, unsafe_since) = (self.server.clone(), self.unsafe_since.clone());
        let settings = self.settings.clone();
        Box::new(move || {
            let since = *unsafe_since.lock().expect("nothing panics while it holds this lock");
            server.outage().or_else(|| {
                let words = format!(
                    "Redis at {server} has a change and does not say that it is safe: too few replicas have it, or no disk; \
                     mend that, or lower wait-replicas ({}) and wait-aof ({}) under [transport]",
                    settings.wait_replicas, settings.wait_aof
                );
                since.map(|since| (since.elapsed(), words))
            })
        })
    }

    fn over(server: Arc<Server>, settings: RedisSettings, shutdown: &Shutdown, visits: bool) -> Self {
        let at_server = server.clone();
        Self {
            standing: Standing::new(settings.lease, move || at_server.absence()),
            layout: Arc::new(Layout::new(&settings)),
            data_watch: Arc::new(DataWatch::new(settings.shards)),
            link: Link::new(server.clone()),
            changes: Link::new(server.clone()),
            reads: Link::new(server.clone()),
            beats: Link::for_beats(server.clone(), 2 * settings.beat()),
            durability: Durability::of(&settings),
            server,
            settings: Arc::new(settings),
            incarnations: Incarnations::default(),
            peers: Peers::default(),
            forwards: Forwards::default(),
            strangers: Strangers::default(),
            suspects: Arc::new(Semaphore::new(1)),
            shutdown: shutdown.clone(),
            unsafe_since: Arc::default(),
            visits,
        }
    }

    /// Sees to it that all nodes agree on where things are.
    async fn agree(&self) -> Result<()> {
        let shard = self.layout.shard(0);
        let mine = [FORMAT, self.layout.partitions.into(), self.layout.shards.into()];
        let arguments = mine.map(bytes_of);
        // Texts, for whatever may stand there.
        let settled: Vec<Option<String>> = self
            .change(&shard, &scripts::META, &[shard.key("meta")], &arguments)
            .await;
        self.agrees_with(settled)
    }

    /// Whether what was settled is what this node has.
    fn agrees_with(&self, settled: Vec<Option<String>>) -> Result<()> {
        let mine = [FORMAT, self.layout.partitions.into(), self.layout.shards.into()];
        let names = ["the format of its keys", "partitions", "shards"];
        for ((name, mine), settled) in names.into_iter().zip(mine).zip(settled) {
            let settled = settled.unwrap_or("something unknown".into());
            if settled != mine.to_string() {
                return Err(unusable(format!(
                    "the cluster {:?} at {} has {settled} for {name}, and this node has {mine}: start every node with the same, or \
                     choose another [transport] prefix; to change it, stop all nodes and delete the keys that begin with \
                     {{{}:",
                    self.settings.prefix, self.server, self.settings.prefix,
                )));
            }
        }
        Ok(())
    }

    /// Runs a script whose change counts when it is as safe as the settings ask for.
    async fn change<T: FromRedisValue>(
        &self,
        shard: &Shard,
        script: &Script,
        keys: &[Bytes],
        arguments: &[Bytes],
    ) -> T {
        let Some(durability) = &self.durability else {
            return self.link.run(script, keys, arguments).await;
        };
        let following = durability.commands(shard);
        let mut waiting = Waiting::default();
        loop {
            // All of it again if it is not safe yet: a script that comes twice takes effect once.
            let (answer, safe) = self.changes.run_then(script, keys, arguments, &following).await;
            let is_met = durability.is_met(&safe);
            self.is_safe(is_met);
            if is_met {
                return answer;
            }
            waiting.told(durability).await;
        }
    }

    fn is_safe(&self, is_safe: bool) {
        let mut since = self
            .unsafe_since
            .lock()
            .expect("nothing panics while it holds this lock");
        *since = match is_safe {
            true => None,
            false => Some(since.unwrap_or_else(Instant::now)),
        };
    }
}

#[async_trait]
impl Events for Redis {
    async fn join_io(&self, node: IoNode) -> Result<IoSession> {
        io_side::join(self, node).await
    }

    async fn join_app(&self, node: NodeId) -> Result<Box<dyn Leases>> {
        Ok(Box::new(app_side::join(self, node).await?))
    }
}

impl From<Redis> for Transport {
    fn from(redis: Redis) -> Self {
        Self::of(Arc::new(redis))
    }
}

#[async_trait]
impl DeadLetters for Redis {
    async fn dead_letters(&self, most: usize) -> Result<Vec<DeadLetter>> {
        dead::latest(self, most).await
    }

    async fn dead_letter(&self, id: EventId) -> Result<Option<DeadLetter>> {
        dead::one(self, id).await
    }

    async fn revive(&self, dead: EventId) -> Result<Revival> {
        dead::revive(self, dead).await
    }

    async fn bury(&self, dead: EventId) -> Result<bool> {
        dead::bury(self, dead).await
    }

    async fn sweep(&self, sweep: &Sweep, from: Option<SweepPlace>) -> Result<Swept> {
        dead::sweep(self, sweep, from).await
    }
}

fn unusable(reason: String) -> TransportError {
    TransportError::Unusable(reason)
}

/// The place of a key among those of a script, counted from 1 as Lua does. One that is not there yet is added.
fn place_among(keys: &mut Vec<Bytes>, key: Bytes) -> usize {
    match keys.iter().position(|known| *known == key) {
        Some(place) => place + 1,
        None => {
            keys.push(key);
            keys.len()
        }
    }
}

fn bytes_of(value: impl Display) -> Bytes {
    value.to_string().into()
}

/// The key of an event's client in the sets of a shard; empty for none.
fn client_key(event: &Event) -> Bytes {
    match &event.client {
        Some(client) => bytes_of_client(&event.namespace, &client.id),
        None => Bytes::new(),
    }
}

fn bytes_of_client(namespace: &Namespace, id: &SessionId) -> Bytes {
    [namespace.as_str(), id.as_str()].join("\0").into()
}

/// One with the bounds that the list of what transports must do asks for, on a Redis of its own.
#[cfg(test)]
pub(crate) async fn for_conformance(shards: u16) -> (Transport, connection::testing::TestServer) {
    let (redis, server) = Redis::for_test(shards).await;
    (redis.into(), server)
}

#[cfg(test)]
impl Redis {
    async fn for_test(shards: u16) -> (Self, connection::testing::TestServer) {
        let server = connection::testing::TestServer::start().await;
        (Self::for_test_on(&server, shards).await, server)
    }

    async fn for_test_on(server: &connection::testing::TestServer, shards: u16) -> Self {
        Self::for_test_at(server.url(), shards).await
    }

    async fn for_test_at(url: String, shards: u16) -> Self {
        use plugnode_transport::conformance::{BUCKET_BYTES, BUDGETS, DEAD_LETTERS, OUTBOX, PARTITIONS, TIMERS};
        let settings = RedisSettings {
            url,
            tls: TlsFiles::default(),
            prefix: "test".into(),
            partitions: PARTITIONS,
            shards,
            backlog: BUDGETS,
            outbox: OUTBOX,
            dead_letters: DEAD_LETTERS,
            bucket_bytes: BUCKET_BYTES,
            timers: TIMERS,
            lease: Duration::from_secs(1),
            wait_replicas: 0,
            wait_aof: false,
            max_component: plugnode_transport::releases::conformance::MAX_COMPONENT,
        };
        Self::connect(settings, &Shutdown::new()).await.unwrap()
    }
}

#[cfg(test)]
plugnode_transport::conforms! {
    on_redis: super::for_conformance(1),
    on_redis_in_shards: super::for_conformance(3),
}

#[cfg(test)]
plugnode_transport::releases_conform! {
    registry_on_redis: super::for_conformance(1),
    registry_on_redis_in_shards: super::for_conformance(3),
}
