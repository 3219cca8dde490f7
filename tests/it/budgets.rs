//! Byte budgets: waiting events in Redis and in an app-node, and dead letters.

use std::time::Duration;

use futures_util::future::join_all;
use plugnode_tests::{Client, Cluster, Redis, RedisServer, component, within};
use serde_json::json;

const MB: u64 = 1_000_000;
const SETTINGS: &str = "instances = 2\nlimits = { time-ms = 10000 }\ngrants = { keyvalue = [\"default\"] }";

/// A cluster with one partition, and more lines in `[transport]`.
fn cluster(redis: &RedisServer, lines: &str) -> Cluster {
    Cluster::new(redis.url())
        .app("/", &component("faulty"), SETTINGS)
        .transport(&format!("partitions = 1\n{lines}"))
}

/// Number of committed events of the partition.
async fn committed(redis: &RedisServer) -> u64 {
    let done = redis.command(&["HGET", "{plugnode:0}:done", "0"]).await;
    done.split(' ').next().unwrap_or_default().parse().unwrap_or(0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn waiting_large_events_do_not_grow_app_node() {
    const CLIENTS: usize = 6;
    const SIZE: usize = 400_000;
    let redis = Redis::new().start().await;
    let cluster = cluster(&redis, "");
    let (io, app) = tokio::join!(cluster.start_io(), cluster.start_app());
    let mut clients = join_all((0..CLIENTS).map(|_| Client::connect(&io))).await;
    for client in &mut clients {
        client.ask("where", &[]).await;
    }
    let before = app.memory();
    let floods = clients.into_iter().map(|mut client| {
        tokio::spawn(async move {
            let padding = "x".repeat(SIZE);
            // The io-node stops reading when the client's share is used up.
            for _ in 0..200 {
                client.emit("slow", &[json!(100), json!(padding)]).await;
            }
        })
    });
    let floods: Vec<_> = floods.collect();
    let mut most = 0;
    let first = committed(&redis).await;
    within("200 events are handled", async {
        while committed(&redis).await < first + 200 {
            most = most.max(app.memory());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    floods.iter().for_each(tokio::task::JoinHandle::abort);
    let grown = most.saturating_sub(before) / MB;
    assert!(grown < 80, "the app-node has grown by {grown} MB");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_stay_within_byte_budget() {
    const SIZE: usize = 900_000;
    let redis = Redis::new()
        .setting("maxmemory 64mb")
        .setting("maxmemory-policy noeviction")
        .start()
        .await;
    let cluster = cluster(&redis, "dead-letters-bytes = \"10MB\"");
    let (io, _app) = tokio::join!(cluster.start_io(), cluster.start_app());
    let padding = "x".repeat(SIZE);
    let mut victim = Client::connect(&io).await;
    victim.emit("fail-reject", &[json!("small")]).await;
    victim.ask("where", &[]).await;
    for _ in 0..4 {
        let mut client = Client::connect(&io).await;
        for _ in 0..5 {
            for _ in 0..5 {
                client.emit("fail-reject", &[json!(padding)]).await;
            }
            // Answered after the rejected events.
            client.ask("where", &[]).await;
        }
    }
    // A client's share is a tenth of the budget, one large letter: each of the four keeps its last, the first client its small one.
    within("older dead letters are dropped", async {
        while redis.command(&["XLEN", "{plugnode:0}:dead"]).await != "5" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(used_memory(&redis).await < 40 * MB);
    victim.ask("where", &[]).await;
}

async fn used_memory(redis: &RedisServer) -> u64 {
    let info = redis.command(&["INFO", "memory"]).await;
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:"));
    line.expect("INFO has the line").trim().parse().expect("it is a number")
}
