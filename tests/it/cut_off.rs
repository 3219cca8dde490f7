//! Nodes that cannot reach Redis: a single io-node closes its clients in time; when no node can, sockets stay.

use std::time::Duration;

use futures_util::future::join_all;
use plugnode_tests::{Client, Cluster, Heard, Node, Proxy, RedisServer, component, within};
use serde_json::json;

const LEASE: Duration = Duration::from_secs(4);

fn cluster(redis: &RedisServer) -> Cluster {
    Cluster::new(redis.url())
        .app("/", &component("echo"), "")
        .settings("[admin]\nlisten = \"127.0.0.1:0\"")
        .transport(&format!("lease-ms = {}", LEASE.as_millis()))
}

async fn await_readiness(node: &Node, status: &str, reason: &str) {
    await_readiness_at(node, node.port(), status, reason).await;
}

/// Waits for this `/readyz` of an app-node, which has only the admin port.
async fn await_app_readiness(node: &Node, status: &str, reason: &str) {
    await_readiness_at(node, node.admin_port().await, status, reason).await;
}

async fn await_readiness_at(node: &Node, port: u16, status: &str, reason: &str) {
    let told = async {
        loop {
            let answer = node.get_at(port, "/readyz").await;
            if answer.contains(status) && answer.contains(reason) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within(&format!("/readyz answers {status}"), told).await;
}

async fn await_close(client: &mut Client) {
    while client.next().await != Heard::Closed {}
}

/// Waits until a new client can connect and is answered.
async fn assert_serves(node: &Node) {
    let served = async {
        loop {
            if let Ok(Ok(mut client)) = Client::open(node.port(), "/", json!({})).await {
                assert_eq!(client.ask("last", &[json!(1)]).await, [json!(1)]);
                return;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("a client is served", served).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isolated_io_node_closes_clients_before_its_lease_ends() {
    let redis = RedisServer::start().await;
    let cluster = cluster(&redis);
    let proxy = Proxy::to(redis.address()).await;
    // The other node first, so that it is known to the one that is cut off.
    let (other, _app) = (cluster.start_as("io-node", "other").await, cluster.start_app().await);
    let cut = cluster.by(proxy.url(&redis)).start_as("io-node", "cut").await;
    await_readiness(&cut, "200 OK", "plugnode-renewed-ms").await;
    let mut clients = join_all((0..20).map(|_| Client::connect(&cut))).await;
    let mut watcher = Client::connect(&other).await;
    for client in &mut clients {
        assert_eq!(client.ask("last", &[json!(1)]).await, [json!(1)]);
    }

    proxy.blackhole();
    await_readiness(&cut, "503", "cannot renew its lease").await;
    let refused = Client::open(cut.port(), "/", json!({})).await;
    assert!(refused.is_err(), "the node accepts no new clients");
    let polling = cut.get("/socket.io/?EIO=4&transport=polling").await;
    assert!(polling.contains("503"), "{polling}");
    join_all(clients.iter_mut().map(await_close)).await;
    // Its lease has not expired yet.
    assert_eq!(redis.command(&["HEXISTS", "{plugnode:0}:io", "cut"]).await, "1");
    cut.logged("is cut off from Redis").await;
    assert_eq!(
        watcher.ask("last", &[json!(2)]).await,
        [json!(2)],
        "the other io-node keeps serving"
    );
    assert_serves(&other).await;
    await_readiness(&cut, "503", "").await;

    proxy.mend();
    await_readiness(&cut, "200 OK", "").await;
    assert_serves(&cut).await;
    assert_eq!(watcher.ask("last", &[json!(3)]).await, [json!(3)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_stay_while_redis_is_paused() {
    let redis = RedisServer::start().await;
    let cluster = cluster(&redis);
    let nodes = [cluster.start_io().await, cluster.start_io().await];
    let app = cluster.start_app().await;
    let mut clients = join_all(nodes.iter().cycle().take(10).map(Client::connect)).await;
    for client in &mut clients {
        assert_eq!(client.ask("last", &[json!(1)]).await, [json!(1)]);
    }
    redis.pause();
    for node in &nodes {
        await_readiness(node, "503", "cannot renew its lease").await;
    }
    await_app_readiness(&app, "503", "cannot renew its lease").await;
    tokio::time::sleep(LEASE * 2).await;
    redis.resume();
    for client in &mut clients {
        assert_eq!(
            client.ask("last", &[json!(2)]).await,
            [json!(2)],
            "the same socket is served"
        );
    }
    await_app_readiness(&app, "200 OK", "").await;
    for node in &nodes {
        await_readiness(node, "200 OK", "").await;
    }
    for node in nodes.iter().chain([&app]) {
        assert!(!node.log().contains("closing connections"), "{}", node.log());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sockets_stay_while_redis_is_down() {
    let mut redis = plugnode_tests::Redis::new().aof("always").start().await;
    let cluster = cluster(&redis).settings("[io-node]\ncut-off-ms = 1");
    let node = cluster.start_io().await;
    let _app = cluster.start_app().await;
    let mut client = Client::connect(&node).await;
    assert_eq!(client.ask("last", &[json!(1)]).await, [json!(1)]);
    redis.kill().await;
    await_readiness(&node, "503", "cannot renew its lease").await;
    tokio::time::sleep(LEASE * 2).await;
    redis.restart().await;
    assert_eq!(
        client.ask("last", &[json!(2)]).await,
        [json!(2)],
        "the same socket is served"
    );
    await_readiness(&node, "200 OK", "").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lone_io_node_closes_clients_after_cut_off_limit() {
    let redis = RedisServer::start().await;
    let cluster = cluster(&redis).settings("[io-node]\ncut-off-ms = 1");
    let proxy = Proxy::to(redis.address()).await;
    let node = cluster.by(proxy.url(&redis)).start_io().await;
    let _app = cluster.start_app().await;
    let mut client = Client::connect(&node).await;
    assert_eq!(client.ask("last", &[json!(1)]).await, [json!(1)]);
    proxy.blackhole();
    await_close(&mut client).await;
    node.logged("cut-off-ms").await;
    proxy.mend();
    assert_serves(&node).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn isolated_app_node_is_unready_and_resumes() {
    let redis = RedisServer::start().await;
    let cluster = cluster(&redis);
    let proxy = Proxy::to(redis.address()).await;
    let io_node = cluster.start_io().await;
    let app = cluster.by(proxy.url(&redis)).start_app().await;
    let mut client = Client::connect(&io_node).await;
    assert_eq!(client.ask("last", &[json!(1)]).await, [json!(1)]);
    proxy.blackhole();
    await_app_readiness(&app, "503", "cannot renew its lease").await;
    await_readiness(&io_node, "200 OK", "").await;
    proxy.mend();
    await_app_readiness(&app, "200 OK", "").await;
    assert_eq!(client.ask("last", &[json!(2)]).await, [json!(2)]);
}
