//! A Redis Cluster of three masters, with or without replicas, whose slots can be migrated live.

use std::time::Duration;

use futures_util::future::join_all;

use crate::{Redis, RedisServer, within};

/// Slots of a Redis Cluster.
const SLOTS: u32 = 16_384;
const MASTERS: u32 = 3;
/// Keys per `MIGRATE`, and the pause after it: slow enough that traffic meets a partly migrated slot.
const KEYS: &str = "1";
const PAUSE: Duration = Duration::from_millis(20);

/// Three masters, and optionally three replicas. All are killed when dropped.
pub struct RedisCluster {
    servers: Vec<RedisServer>,
    ids: Vec<String>,
    replicas: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts it with AOF and waits until every server reports `cluster_state:ok`.
    pub async fn start() -> Self {
        Self::of(Redis::new().aof("everysec")).await
    }

    /// The same with another setup of the servers.
    pub async fn of(setup: Redis) -> Self {
        let setup = in_cluster(setup);
        let servers = start(&setup).await;
        for (n, server) in (0..MASTERS).zip(&servers) {
            let (first, end) = (SLOTS * n / MASTERS, SLOTS * (n + 1) / MASTERS);
            let range = [first.to_string(), (end - 1).to_string()];
            server
                .command(&["CLUSTER", "ADDSLOTSRANGE", &range[0], &range[1]])
                .await;
            // Avoids an epoch conflict, whose resolution takes a while.
            server
                .command(&["CLUSTER", "SET-CONFIG-EPOCH", &(n + 1).to_string()])
                .await;
        }
        meet(&servers[0], &servers[1..]).await;
        acquainted(servers.iter().collect()).await;
        let mut ids = Vec::new();
        for server in &servers {
            server.until(&["CLUSTER", "INFO"], "cluster_state:ok").await;
            ids.push(server.command(&["CLUSTER", "MYID"]).await);
        }
        Self {
            servers,
            ids,
            replicas: Vec::new(),
        }
    }

    /// The same with a replica for each master, which takes over after two seconds without an answer.
    pub async fn with_replicas(setup: Redis) -> Self {
        let mut this = Self::of(setup.clone()).await;
        this.replicas = start(&in_cluster(setup)).await;
        meet(&this.servers[0], &this.replicas).await;
        acquainted(this.servers.iter().chain(&this.replicas).collect()).await;
        for (replica, master) in this.replicas.iter().zip(&this.ids) {
            replica.command(&["CLUSTER", "REPLICATE", master]).await;
        }
        for replica in &this.replicas {
            replica.until(&["INFO", "replication"], "master_link_status:up").await;
        }
        this
    }

    /// `redis+cluster://127.0.0.1:…,127.0.0.1:…,127.0.0.1:…`
    pub fn url(&self) -> String {
        let addresses: Vec<_> = self.servers.iter().map(RedisServer::address).collect();
        let login = self.servers[0].login_in_url();
        format!("redis+cluster://{login}{}", addresses.join(","))
    }

    /// The masters.
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// The replicas, in the order of their first masters.
    pub fn replicas(&self) -> &[RedisServer] {
        &self.replicas
    }

    /// The masters, to kill and restart one.
    pub fn servers_mut(&mut self) -> &mut [RedisServer] {
        &mut self.servers
    }

    /// The slot of a key.
    pub async fn slot_of(&self, key: &str) -> u32 {
        let slot = self.servers[0].command(&["CLUSTER", "KEYSLOT", key]).await;
        slot.parse().expect("it is a number")
    }

    /// Index of the server that owns a slot, by its own `CLUSTER NODES`.
    pub async fn owner_of(&self, slot: u32) -> usize {
        for (n, server) in self.servers.iter().enumerate() {
            let nodes = server.command(&["CLUSTER", "NODES"]).await;
            let own = nodes.lines().find(|line| line.contains("myself"));
            if own.is_some_and(|own| own.split(' ').skip(8).any(|range| holds(range, slot))) {
                return n;
            }
        }
        panic!("no server owns slot {slot}");
    }

    /// Migrates a slot to a server live, key by key; clients are redirected meanwhile.
    pub async fn move_slot(&self, slot: u32, to: usize) {
        let from = self.owner_of(slot).await;
        if from == to {
            return;
        }
        let (source, target) = (&self.servers[from], &self.servers[to]);
        let (number, port) = (slot.to_string(), target.port().to_string());
        let set = ["CLUSTER", "SETSLOT", &number];
        target
            .command(&[&set[..], &["IMPORTING", &self.ids[from]]].concat())
            .await;
        source
            .command(&[&set[..], &["MIGRATING", &self.ids[to]]].concat())
            .await;
        let moved = async {
            loop {
                let keys = source.command(&["CLUSTER", "GETKEYSINSLOT", &number, KEYS]).await;
                let keys: Vec<_> = keys.lines().collect();
                if keys.is_empty() {
                    return;
                }
                let address = ["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
                source.command(&[&address[..], &keys].concat()).await;
                tokio::time::sleep(PAUSE).await;
            }
        };
        within(&format!("slot {slot} is emptied"), moved).await;
        // The new owner first, so that the slot always has one.
        let mut servers: Vec<_> = self.servers.iter().collect();
        servers.swap(0, to);
        for server in servers {
            server.command(&[&set[..], &["NODE", &self.ids[to]]].concat()).await;
        }
    }

    /// Migrates the slot of every shard of a plugnode cluster to the next server.
    pub async fn move_slots_of_prefix(&self, prefix: &str, shards: u16) {
        for shard in 0..shards {
            let slot = self.slot_of(&format!("{{{prefix}:{shard}}}")).await;
            let from = self.owner_of(slot).await;
            self.move_slot(slot, (from + 1) % self.servers.len()).await;
        }
    }
}

fn in_cluster(setup: Redis) -> Redis {
    setup
        .setting("cluster-enabled yes")
        .setting("cluster-node-timeout 2000")
}

async fn start(setup: &Redis) -> Vec<RedisServer> {
    join_all((0..MASTERS).map(|_| setup.clone().start())).await
}

/// Introduces the others to one server.
async fn meet(one: &RedisServer, others: &[RedisServer]) {
    for other in others {
        let bus = other.command(&["CONFIG", "GET", "cluster-port"]).await;
        let bus = bus.lines().last().expect("it answers name and value");
        let port = other.port().to_string();
        one.command(&["CLUSTER", "MEET", "127.0.0.1", &port, bus]).await;
    }
}

/// Waits until all servers know each other.
async fn acquainted(servers: Vec<&RedisServer>) {
    let all = format!("cluster_known_nodes:{}\r", servers.len());
    for server in servers {
        server.until(&["CLUSTER", "INFO"], &all).await;
    }
}

/// Whether a range of `CLUSTER NODES`, such as `5` or `0-5460`, contains a slot. Migrating slots, in brackets, do not count.
fn holds(range: &str, slot: u32) -> bool {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    match (first.parse::<u32>(), last.parse::<u32>()) {
        (Ok(first), Ok(last)) => (first..=last).contains(&slot),
        _ => false,
    }
}
