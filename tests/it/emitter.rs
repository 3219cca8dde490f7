//! What programs publish with the official emitter reaches the clients of every io-node.

use plugnode_tests::{Cluster, Node, Redis, RedisCluster, RedisServer, Sentinels, component, node_script, within};

const EMITTER: &str = "emitter = \"socket.io\"";
/// The ACL rules that the subscription needs beside those of the transport.
const RIGHTS: &str = "~{plugnode:* +@connection +@hash +@set +@sortedset +@stream +@string +del +exists +expire +eval +evalsha \
    +time +info +role +cluster|slots +cluster|nodes +config|get +psubscribe resetchannels &socket.io#* &socket.io-request#*";

fn apps(url: &str) -> Cluster {
    let echo = component("echo");
    let cluster = Cluster::new(url).app("/", &echo, "").app("/chat", &echo, "");
    cluster.settings("[admin]\nlisten = \"127.0.0.1:0\"")
}

/// Two io-nodes and an app-node, once they are subscribed.
async fn start(cluster: &Cluster) -> [Node; 3] {
    let (one, two, app) = tokio::join!(cluster.start_io(), cluster.start_io(), cluster.start_app());
    for node in [&one, &two] {
        node.logged("subscribed to the channels of emitters").await;
    }
    [one, two, app]
}

/// The URLs of the io-nodes, comma-separated.
fn urls(nodes: &[Node; 3]) -> String {
    format!("{},{}", nodes[0].url(), nodes[1].url())
}

async fn assert_emits(redis: &str, cluster: &Cluster) -> [Node; 3] {
    let nodes = start(cluster).await;
    node_script("emitter.mjs", &[&urls(&nodes), redis]).await;
    nodes
}

#[tokio::test]
async fn official_emitter_reaches_clients_of_two_io_nodes() {
    let redis = RedisServer::start().await;
    let nodes = assert_emits(&redis.url(), &apps(&redis.url()).transport(EMITTER)).await;
    let metrics = nodes[0].get_at(nodes[0].admin_port().await, "/metrics").await;
    for counted in [
        "messages_total ",
        "messages_dropped_total{reason=\"invalid\"} ",
        "messages_dropped_total{reason=\"unsupported\"} ",
    ] {
        let line = format!("plugnode_emitter_{counted}");
        let value = metrics.lines().find_map(|text| text.strip_prefix(&line));
        assert!(value.is_some_and(|value| value != "0"), "{counted}: {metrics}");
    }
    assert!(
        nodes[0].log().contains("message of an emitter ignored"),
        "{}",
        nodes[0].log()
    );
}

#[tokio::test]
async fn emitter_needs_only_channel_rights() {
    let publishes = "+publish +info resetchannels &socket.io#* &socket.io-request#*";
    let redis = Redis::new()
        .user("plugnode", "secret", RIGHTS)
        .user("emitter", "secret", publishes);
    let redis = redis.start().await;
    let cluster = apps(&redis.url_for("plugnode", "secret")).transport(EMITTER);
    assert_emits(&redis.url_for("emitter", "secret"), &cluster).await;
}

#[tokio::test]
async fn official_emitter_reaches_clients_over_valkey() {
    let valkey = RedisServer::valkey().await;
    assert_emits(&valkey.url(), &apps(&valkey.url()).transport(EMITTER)).await;
}

#[tokio::test]
async fn official_emitter_reaches_clients_over_cluster() {
    let redis = RedisCluster::start().await;
    let cluster = apps(&redis.url()).transport("shards = 3").transport(EMITTER);
    // A message to one server of the Cluster reaches the subscribers of all.
    assert_emits(&redis.servers()[1].url(), &cluster).await;
}

#[tokio::test]
async fn emitter_is_subscribed_again_after_failover() {
    let mut sentinels = Sentinels::start().await;
    let nodes = start(&apps(&sentinels.url()).transport(EMITTER)).await;
    sentinels.kill_master().await;
    sentinels.await_promotion().await;
    for node in &nodes[..2] {
        node.logged_times("subscribed to the channels of emitters", 2).await;
    }
    node_script("emitter.mjs", &[&urls(&nodes), &sentinels.master().url()]).await;
}

#[tokio::test]
async fn emitter_is_subscribed_again_after_restart_of_redis() {
    let mut redis = Redis::new().aof("always").start().await;
    let nodes = start(&apps(&redis.url()).transport(EMITTER)).await;
    redis.kill().await;
    redis.restart().await;
    let again = async {
        while redis.command(&["PUBSUB", "NUMPAT"]).await != "2"
            || redis.command(&["PUBLISH", "socket.io#/#", "x"]).await != "2"
        {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    within("both io-nodes are subscribed again", again).await;
    node_script("emitter.mjs", &[&urls(&nodes), &redis.url()]).await;
}
