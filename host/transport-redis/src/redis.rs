//! [`Redis`]: the connections of one process and what its members share.
//!
//! It connects, checks that all nodes agree on format and layout, and runs scripts with the configured durability. It knows no
//! events and no commands.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::FromRedisValue;
use std::sync::Mutex;
use tokio::sync::Semaphore;

use crate::arguments::bytes_of;
use crate::client::link::Link;
use crate::client::script::Script;
use crate::client::server::Server;
use crate::client::startup;
use crate::data_watch::DataWatch;
use crate::durability::{Durability, DurabilityWait};
use crate::error::unusable;
use crate::key_value::forward_queues::ForwardQueues;
use crate::keys::{Layout, Shard};
use crate::membership::incarnations::Incarnations;
use crate::membership::peers::Peers;
use crate::scripts;
use crate::settings::RedisSettings;
use crate::unknown_versions::UnknownVersions;
use plugnode_process::shutdown::Shutdown;
use plugnode_transport::{DeadLetterBudget, LeaseHealth, Result};

/// Version of the key layout. Nodes with another version cannot join the same cluster.
const FORMAT: u32 = 4;

/// The Redis transport. Clones share their state.
#[derive(Clone)]
pub struct Redis {
    pub(crate) settings: Arc<RedisSettings>,
    pub(crate) layout: Arc<Layout>,
    pub(crate) server: Arc<Server>,
    /// Connection for commands that Redis answers at once.
    pub(crate) link: Link,
    /// Connection for changes followed by `WAIT` or `WAITAOF`, which block every command behind them.
    changes: Link,
    /// Connection for key-value reads, whose replies may be large.
    pub(crate) reads: Link,
    /// Connection for heartbeats, so that they queue behind nothing.
    pub(crate) heartbeats: Link,
    /// Condition under which a change counts; none if its execution is enough.
    pub(crate) durability: Option<Durability>,
    /// Detects lost data.
    pub(crate) data_watch: Arc<DataWatch>,
    /// Whether the members of this process can renew their leases.
    pub(crate) lease_health: LeaseHealth,
    /// Writes in transit between shards.
    pub(crate) forwards: ForwardQueues,
    /// Warns once about each unknown format version.
    pub(crate) unknown_versions: UnknownVersions,
    /// One permit: held while an event that was started before and never committed is in flight.
    pub(crate) suspects: Arc<Semaphore>,
    /// Incarnations of this process.
    pub(crate) incarnations: Incarnations,
    /// App-nodes of the last heartbeat.
    pub(crate) peers: Peers,
    /// Tracks the background tasks, which end after all members have left.
    pub(crate) shutdown: Shutdown,
    /// Since when a change has failed to reach the configured durability.
    unsafe_since: Arc<Mutex<Option<Instant>>>,
    /// Whether this is a connection of the CLI, which may lack the right to write.
    pub(crate) is_read_only: bool,
}

/// Returns the present outage: how long it has lasted, and its cause with a remedy. None: there is no outage.
pub type OutageProbe = Box<dyn Fn() -> Option<(Duration, String)> + Send + Sync>;

impl Redis {
    /// Connects to the Redis at a URL, checks that it is usable, and settles format and layout with the other nodes of the cluster.
    /// URLs begin with `redis://`, `rediss://`, `redis+unix://`, `redis+sentinel://` or `redis+cluster://`.
    ///
    /// # Errors
    /// If Redis is unreachable or unusable, or the cluster has another layout. The text names the remedy.
    pub async fn connect(url: &str, settings: RedisSettings, shutdown: &Shutdown) -> Result<Self> {
        let server = Arc::new(Server::new(url, &settings.tls)?);
        startup::examine(&server, &settings).await?;
        let redis = Self::with_server(server, settings, shutdown, false);
        let (watch, ending) = (redis.lease_health.watch(), shutdown.clone());
        shutdown.spawn(async move {
            tokio::select! {
                () = ending.begun() => {}
                () = watch => {}
            }
        });
        redis.agree_on_layout().await?;
        Ok(redis)
    }

    /// Connects for a command of the CLI. It writes nothing, so it works with read rights, on a full Redis and on a replica, and
    /// it fails instead of waiting for long.
    ///
    /// # Errors
    /// If Redis is unreachable, or the cluster has another layout than the settings. The text names the remedy.
    pub async fn connect_read_only(url: &str, mut settings: RedisSettings, shutdown: &Shutdown) -> Result<Self> {
        // The nodes enforce this budget. The CLI may not know their settings and must not trim by its own.
        settings.common.dead_letters = DeadLetterBudget {
            letters: usize::MAX,
            bytes: usize::MAX,
        };
        let server = Arc::new(Server::new(url, &settings.tls)?);
        startup::greet(&server).await?;
        let redis = Self::with_server(server, settings, shutdown, true);
        let mut question = redis::cmd("HMGET");
        question.arg(&redis.layout.shard(0).key("meta")[..]);
        question.arg("format").arg("partitions").arg("shards");
        let settled: Vec<Option<String>> = match redis.link.try_ask(&question).await {
            Ok(settled) => settled,
            Err(reason) => {
                // A second look turns an outage in between into its own error.
                startup::greet(&redis.server).await?;
                return Err(unusable(reason));
            }
        };
        // No layout is settled before the first node joins.
        if settled.iter().any(Option::is_some) {
            redis.check_layout(settled)?;
        }
        Ok(redis)
    }

    /// Returns a probe for the present outage.
    pub fn outage_probe(&self) -> OutageProbe {
        let (server, unsafe_since) = (self.server.clone(), self.unsafe_since.clone());
        let settings = self.settings.clone();
        Box::new(move || {
            let since = *unsafe_since.lock().expect("nothing panics while it holds this lock");
            server.outage().or_else(|| {
                let reason = format!(
                    "Redis at {server} does not confirm a change: too few replicas have it, or it is not on disk; repair \
                     replication and disk, or lower wait-replicas ({}) and wait-aof ({}) under [transport]",
                    settings.wait_replicas, settings.wait_aof
                );
                since.map(|since| (since.elapsed(), reason))
            })
        })
    }

    pub(crate) fn with_server(
        server: Arc<Server>,
        settings: RedisSettings,
        shutdown: &Shutdown,
        is_read_only: bool,
    ) -> Self {
        let at_server = server.clone();
        Self {
            lease_health: LeaseHealth::new(settings.lease, move || at_server.reachability()),
            layout: Arc::new(Layout::new(&settings)),
            data_watch: Arc::new(DataWatch::new(settings.shards)),
            link: Link::new(server.clone()),
            changes: Link::new(server.clone()),
            reads: Link::new(server.clone()),
            heartbeats: Link::for_heartbeats(server.clone(), 2 * settings.heartbeat_interval()),
            durability: Durability::of(&settings),
            server,
            settings: Arc::new(settings),
            incarnations: Incarnations::default(),
            peers: Peers::default(),
            forwards: ForwardQueues::default(),
            unknown_versions: UnknownVersions::default(),
            suspects: Arc::new(Semaphore::new(1)),
            shutdown: shutdown.clone(),
            unsafe_since: Arc::default(),
            is_read_only,
        }
    }

    /// Settles format and layout, or checks them against what the first node has settled.
    pub(crate) async fn agree_on_layout(&self) -> Result<()> {
        let shard = self.layout.shard(0);
        let mine = [FORMAT, self.layout.partitions.into(), self.layout.shards.into()];
        let arguments = mine.map(bytes_of);
        // As text, because a foreign value may be no number.
        let settled: Vec<Option<String>> = self
            .change(&shard, &scripts::LAYOUT, &[shard.key("meta")], &arguments)
            .await;
        self.check_layout(settled)
    }

    fn check_layout(&self, settled: Vec<Option<String>>) -> Result<()> {
        let mine = [FORMAT, self.layout.partitions.into(), self.layout.shards.into()];
        let names = ["the format of its keys", "partitions", "shards"];
        for ((name, mine), settled) in names.into_iter().zip(mine).zip(settled) {
            let settled = settled.unwrap_or("something unknown".into());
            if settled != mine.to_string() {
                return Err(unusable(format!(
                    "the cluster {:?} at {} has {name} = {settled}, but this node has {mine}: start every node with the same, or \
                     choose another [transport] prefix; to change it, stop all nodes and delete the keys that begin with \
                     {{{}:",
                    self.settings.prefix, self.server, self.settings.prefix,
                )));
            }
        }
        Ok(())
    }

    /// Runs an idempotent script until it is answered and its change has the configured durability.
    pub(crate) async fn change<T: FromRedisValue>(
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
        let mut wait = DurabilityWait::default();
        loop {
            // The script runs again with every attempt, which is harmless because it is idempotent.
            let (answer, confirmation) = self.changes.run_then(script, keys, arguments, &following).await;
            let is_met = durability.is_met(&confirmation);
            self.note_durability(is_met);
            if is_met {
                return answer;
            }
            wait.pause(durability).await;
        }
    }

    fn note_durability(&self, is_met: bool) {
        let mut since = self
            .unsafe_since
            .lock()
            .expect("nothing panics while it holds this lock");
        *since = match is_met {
            true => None,
            false => Some(since.unwrap_or_else(Instant::now)),
        };
    }
}

#[cfg(test)]
impl Redis {
    pub(crate) async fn for_test(shards: u16) -> (Self, crate::client::testing::TestServer) {
        let server = crate::client::testing::TestServer::start().await;
        (Self::for_test_on(&server, shards).await, server)
    }

    pub(crate) async fn for_test_on(server: &crate::client::testing::TestServer, shards: u16) -> Self {
        Self::for_test_at(server.url(), shards).await
    }

    pub(crate) async fn for_test_at(url: String, shards: u16) -> Self {
        use plugnode_transport::TransportSettings;
        use plugnode_transport::conformance::{BUCKET_BYTES, BUDGETS, DEAD_LETTERS, OUTBOX, PARTITIONS, TIMERS};
        let settings = RedisSettings {
            prefix: "test".into(),
            shards,
            common: TransportSettings {
                partitions: PARTITIONS,
                backlog: BUDGETS,
                outbox: OUTBOX,
                dead_letters: DEAD_LETTERS,
                bucket_bytes: BUCKET_BYTES,
                timers: TIMERS,
                max_component: plugnode_transport::releases::conformance::MAX_COMPONENT,
            },
            lease: Duration::from_secs(1),
            ..RedisSettings::default()
        };
        Self::connect(&url, settings, &Shutdown::new()).await.unwrap()
    }
}
