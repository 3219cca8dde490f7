//! The key-value store: concurrent increments add up, also under faults, and large reads are refused.

use futures_util::future::join_all;
use plugnode_tests::{Client, Cluster, Node, RedisServer, component, within, within_minutes};
use serde_json::{Value, json};

const CLIENTS: usize = 20;
const TIMES: usize = 10;
const GRANT: &str = "grants = { keyvalue = [\"default\"] }\ninstances = 4";

/// Events of `faulty` that increment a key by 1. `add` does not return the count.
const INCREMENTS: [&str; 4] = ["tally", "swap", "increment", "add"];

/// Lets each client increment the key so often. Every returned count must be unique.
async fn count(clients: &mut [Client], way: &'static str, times: usize) {
    let counting = clients.iter_mut().map(|client| async move {
        let mut told = Vec::new();
        for _ in 0..times {
            let arguments = if way == "add" {
                vec![json!(way), json!(1)]
            } else {
                vec![json!(way)]
            };
            told.extend(client.ask(way, &arguments).await);
        }
        told
    });
    let told = within_minutes(2, "all increments are answered", join_all(counting)).await;
    if way != "add" {
        let mut told: Vec<u64> = told.concat().iter().filter_map(Value::as_u64).collect();
        told.sort_unstable();
        told.dedup();
        assert_eq!(
            told.len(),
            clients.len() * times,
            "{way}: two increments returned the same count"
        );
    }
}

/// Asserts the value of a counter, also where another node wrote it to another shard.
async fn assert_sum(client: &mut Client, way: &str, wanted: usize) {
    let sum = client.ask("get", &[json!(way)]).await;
    assert_eq!(sum, [json!(wanted)], "{way}");
}

async fn assert_counters_add_up(nodes: &[&Node]) {
    let mut clients = join_all((0..CLIENTS).map(|n| Client::connect(nodes[n % nodes.len()]))).await;
    for way in INCREMENTS {
        count(&mut clients, way, TIMES).await;
        assert_sum(&mut clients[0], way, CLIENTS * TIMES).await;
    }
    // Adding to a text fails the event and keeps the value.
    clients[0].ask("set", &[json!("word"), json!("text")]).await;
    clients[0].emit("add", &[json!("word"), json!(1)]).await;
    assert_eq!(clients[0].ask("get", &[json!("word")]).await, [json!("text")]);
    let keys = clients[0].ask("keys-with", &[json!("t")]).await;
    assert_eq!(keys, [json!(["tally"])]);
    clients[0].ask("set-for", &[json!("brief"), json!(1), json!(200)]).await;
    let gone = async { while clients[0].ask("get", &[json!("brief")]).await != [json!(null)] {} };
    within("a key with a TTL expires", gone).await;
}

fn faulty(url: &str, shards: u16) -> Cluster {
    Cluster::new(url)
        .transport(&format!("shards = {shards}"))
        .app("/", &component("faulty"), GRANT)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_add_up_in_memory() {
    let node = Node::app(&component("faulty"), GRANT).await;
    assert_counters_add_up(&[&node]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_add_up_over_redis() {
    for shards in [1, 3] {
        let redis = RedisServer::start().await;
        let cluster = faulty(&redis.url(), shards);
        let (one, two, _app, _other) = tokio::join!(
            cluster.start_io(),
            cluster.start_io(),
            cluster.start_app(),
            cluster.start_app()
        );
        assert_counters_add_up(&[&one, &two]).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn counters_add_up_while_app_nodes_are_killed() {
    for shards in [1, 3] {
        let redis = RedisServer::start().await;
        let cluster = faulty(&redis.url(), shards).transport("lease-ms = 1500");
        let (io, mut app, _other) = tokio::join!(cluster.start_io(), cluster.start_app(), cluster.start_app());
        let mut clients = join_all((0..CLIENTS).map(|_| Client::connect(&io))).await;
        for round in 1..=3 {
            let killing = async {
                app.kill9().await;
                app = cluster.start_app().await;
            };
            tokio::join!(count(&mut clients, "tally", 20), killing);
            assert_sum(&mut clients[0], "tally", CLIENTS * 20 * round).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn large_reads_are_refused_without_delaying_others() {
    const MB: usize = 1_000_000;
    // Encoded as JSON it stays within the largest value that the limits allow.
    const LARGE: usize = 900_000;
    let redis = RedisServer::start().await;
    let cluster = faulty(&redis.url(), 1);
    let (io, app) = tokio::join!(cluster.start_io(), cluster.start_app());
    let (mut greedy, mut other) = tokio::join!(Client::connect(&io), Client::connect(&io));
    let keys: Vec<String> = (0..60).map(|number| format!("large-{number}")).collect();
    for key in &keys {
        greedy.ask("fill", &[json!(key), json!(LARGE)]).await;
    }
    let before = app.memory();
    let few = greedy.ask("get-many", &[json!(keys[..4])]).await;
    assert_eq!(few, [json!(4), json!(4 * LARGE)]);
    let reading = async {
        for _ in 0..5 {
            let same = vec![&keys[0]; 4_000];
            for keys in [json!(keys), json!(same)] {
                let refused = greedy.ask("get-many", &[keys]).await;
                let words = refused[0].as_str().expect("the read is refused");
                assert!(words.contains("the answer has more than"), "{words}");
            }
        }
    };
    let talking = async {
        for number in 0..100 {
            other.ask("tally", &[json!("other")]).await;
            assert_eq!(other.ask("get", &[json!("other")]).await, [json!(number + 1)]);
        }
    };
    tokio::join!(reading, talking);
    let grown = app.memory().saturating_sub(before);
    assert!(grown < 200 * MB as u64, "the app-node has grown by {grown} bytes");
    assert_eq!(app.log().matches("Redis is").count(), 0, "{}", app.log());
}
