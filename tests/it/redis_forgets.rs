//! Redis loses its data: every node notices, logs one error, and goes on with the releases in use.

use std::fs;
use std::path::Path;
use std::time::Duration;

use futures_util::future::join_all;
use plugnode_tests::{Client, Cluster, Heard, Node, Redis, RedisServer, component, rebuilt, temp_folder, verb, within};
use serde_json::{Value, json};

const LEASE: Duration = Duration::from_secs(1);
const LOST: &str = "has lost its data";

fn cluster(redis: &RedisServer, component: &Path, more: &str) -> Cluster {
    Cluster::new(redis.url())
        .app("/", component, "instances = 2\ngrants = { keyvalue = [\"default\"] }")
        .transport(&format!("lease-ms = {}\n{more}", LEASE.as_millis()))
}

/// Clients that send requests and reconnect when their connection ends, until this is dropped.
struct Load(Vec<tokio::task::JoinHandle<()>>);

impl Load {
    fn on(nodes: &[&Node]) -> Self {
        let ask = |node: &&Node| {
            let port = node.port();
            tokio::spawn(async move {
                loop {
                    if let Ok(Ok(mut client)) = Client::open(port, "/", json!({})).await {
                        loop {
                            client.emit_with_ack("where", &[]).await;
                            if client.next().await == Heard::Closed {
                                break;
                            }
                        }
                    }
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            })
        };
        Self(nodes.iter().cycle().take(8).map(ask).collect())
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.0.iter().for_each(|task| task.abort());
    }
}

/// Waits until a new client can connect and is answered.
async fn is_served(node: &Node) -> Client {
    let connected = async {
        loop {
            if let Ok(Ok(client)) = Client::open(node.port(), "/", json!({})).await {
                return client;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    let mut client = within("a client connects again", connected).await;
    client.ask("where", &[]).await;
    client
}

/// Asserts that clients of all partitions are served: enough connect that each partition has some.
async fn serves_all_partitions(node: &Node) {
    join_all((0..64).map(|_| is_served(node))).await;
}

async fn status(redis: &RedisServer, more: &str) -> Value {
    let folder = temp_folder();
    let config = format!("[transport]\nurl = {:?}\n{more}\n", redis.url());
    fs::write(folder.path().join("plugnode.toml"), config).expect("the file can be written");
    verb(&["status", "--json"], folder.path()).await.json()
}

/// Waits until the status shows this release in use.
async fn is_in_use(redis: &RedisServer, more: &str, number: u64) {
    let told = async {
        while status(redis, more).await["apps"][0]["release"]["release"] != json!(number) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    within("the status shows the release", told).await;
}

async fn assert_logged_once(nodes: &[&Node]) {
    for node in nodes {
        node.logged(LOST).await;
    }
    // Time for a second error, which would be a fault.
    tokio::time::sleep(LEASE).await;
    for node in nodes {
        let log = node.log();
        assert_eq!(log.matches("ERROR").count(), 1, "{log}");
        assert_eq!(log.matches(LOST).count(), 1, "{log}");
    }
}

async fn flushall_is_survived(more: &str) {
    let redis = RedisServer::start().await;
    let cluster = cluster(&redis, &component("faulty"), more);
    let (io_1, io_2) = (cluster.start_io().await, cluster.start_io().await);
    let (app_1, app_2) = (cluster.start_app().await, cluster.start_app().await);
    let nodes = [&io_1, &io_2, &app_1, &app_2];
    let mut client = Client::connect(&io_1).await;
    client.ask("where", &[]).await;
    let load = Load::on(&[&io_1, &io_2]);
    redis.command(&["FLUSHALL"]).await;
    within("the client's connection ends", async {
        while client.next().await != Heard::Closed {}
    })
    .await;
    assert_logged_once(&nodes).await;
    drop(load);
    for io_node in [&io_1, &io_2] {
        serves_all_partitions(io_node).await;
    }
    is_in_use(&redis, more, 1).await;
    let format = redis.command(&["HGETALL", "{plugnode:0}:meta"]).await;
    assert!(format.contains("partitions"), "the layout is written again: {format}");
    // A node with another layout is refused.
    let other = cluster.transport("partitions = 3").config("app-node");
    let other = Node::begin(&other);
    other.logged("partitions").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recovers_from_flushall_under_load() {
    flushall_is_survived("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushall_of_three_shards_logs_one_error() {
    flushall_is_survived("shards = 3").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn releases_survive_redis_restarted_empty() {
    let mut redis = Redis::new().start().await;
    let faulty = component("faulty");
    let cluster = cluster(&redis, &faulty, "");
    let io_node = cluster.start_io().await;
    let (app_1, app_2) = (cluster.start_app().await, cluster.start_app().await);
    let folder = temp_folder();
    let config = format!("[transport]\nurl = {:?}\n", redis.url());
    fs::write(folder.path().join("plugnode.toml"), config).expect("the file can be written");
    let build = folder.path().join("second.wasm");
    fs::write(&build, rebuilt(&faulty, 2)).expect("the file can be written");
    let load = Load::on(&[&io_node]);
    let said = verb(&["deploy", "second.wasm", "--json"], folder.path()).await;
    assert!(said.status.success(), "{said:?}");
    let deployed = said.json()["digest"].as_str().expect("a digest is text")[..12].to_owned();

    redis.kill().await;
    redis.restart().await;
    assert_logged_once(&[&io_node, &app_1, &app_2]).await;
    drop(load);
    serves_all_partitions(&io_node).await;
    is_in_use(&redis, "", 2).await;
    let said = verb(&["releases", "--json"], folder.path()).await;
    assert!(said.out.contains(&deployed), "{said:?}");

    // A new node runs the release in use, not its configured file.
    let third = cluster.start_app().await;
    drop((app_1, app_2));
    let mut client = is_served(&io_node).await;
    let answer = client.ask("where", &[]).await;
    assert_eq!(answer[0]["release"], json!(deployed), "{}", third.log());
    is_in_use(&redis, "", 2).await;
}
