//! Clusters of separate processes over each kind of Redis.

use std::time::Duration;

use futures_util::future::join_all;
use plugnode_tests::{Client, Cluster, Node, Redis, RedisCluster, RedisServer, Sentinels, component, within};
use serde_json::{Value, json};

/// The least ACL rules that plugnode needs; its error at the start lists the same.
const RIGHTS: &str = "~{plugnode:* +@connection +@hash +@set +@sortedset +@stream +@string +del +exists +expire +eval +evalsha \
    +time +info +role +cluster|slots +cluster|nodes +config|get";

/// A cluster with `echo` in namespace `/`.
fn echo(url: &str) -> Cluster {
    Cluster::new(url).app("/", &component("echo"), "")
}

/// Processes of a cluster: two io-nodes, an app-node and a frontend.
struct Running {
    io_nodes: [Node; 2],
    app_node: Node,
    frontend: Node,
}

async fn run(cluster: &Cluster) -> Running {
    let (one, two, app_node, frontend) = tokio::join!(
        cluster.start_io(),
        cluster.start_io(),
        cluster.start_app(),
        cluster.start_frontend()
    );
    Running {
        io_nodes: [one, two],
        app_node,
        frontend,
    }
}

/// Asserts that clients of both io-nodes are answered, that a broadcast reaches all, and that the frontend lists both io-nodes.
async fn assert_serves(cluster: &Cluster) -> Running {
    let running = run(cluster).await;
    running.await_frontend_list().await;
    let mut clients = running.clients().await;
    join_all(clients.iter_mut().map(echo_in_order)).await;
    clients[0].emit("all", &[json!("to everybody")]).await;
    for client in &mut clients {
        assert_eq!(client.event().await, ("chat".to_owned(), vec![json!("to everybody")]));
    }
    running
}

/// Sends twenty events at once and expects their echoes in order.
async fn echo_in_order(client: &mut Client) {
    for number in 0..20 {
        client.emit("n", &[json!(number)]).await;
    }
    for number in 0..20 {
        assert_eq!(client.event().await, ("n".to_owned(), vec![json!(number)]));
    }
    assert_eq!(client.ask("last", &[json!("?")]).await, [json!("?")]);
    assert_eq!(client.event().await.0, "last");
}

impl Running {
    /// Connects three clients to each io-node.
    async fn clients(&self) -> Vec<Client> {
        let nodes = self.io_nodes.iter().chain(&self.io_nodes).chain(&self.io_nodes);
        join_all(nodes.map(Client::connect)).await
    }

    async fn await_frontend_list(&self) {
        let mut expected: Vec<_> = self.io_nodes.iter().map(|node| json!(node.port())).collect();
        expected.sort_by_key(Value::as_u64);
        let told = async {
            while ports(&self.frontend).await != expected {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        within("the frontend lists both io-nodes", told).await;
    }
}

/// The ports of `SOCKET_SERVERS`, in order.
async fn ports(frontend: &Node) -> Vec<Value> {
    let script = frontend.get("/config.js").await;
    let list = script.split("SOCKET_SERVERS = ").nth(1).expect("it sets the list");
    let list: Value = serde_json::from_str(list.trim().trim_end_matches(';')).expect("the list is JSON");
    let list = list.as_array().expect("it is a list");
    let mut ports: Vec<_> = list.iter().map(|server| server["port"].clone()).collect();
    ports.sort_by_key(Value::as_u64);
    ports
}

/// Number of keys with this prefix.
async fn keys(redis: &RedisServer, prefix: &str) -> usize {
    let keys = redis.command(&["KEYS", &format!("{prefix}*")]).await;
    keys.lines().count()
}

#[tokio::test]
async fn serves_over_single_redis() {
    let redis = RedisServer::start().await;
    let running = assert_serves(&echo(&redis.url())).await;
    let all = redis.command(&["DBSIZE"]).await;
    assert_eq!(
        all,
        keys(&redis, "{plugnode:").await.to_string(),
        "every key has the prefix"
    );
    // An io-node that has ended is not listed.
    let Running {
        io_nodes: [one, two],
        frontend,
        ..
    } = running;
    assert!(one.stop().await.success());
    let told = async {
        while ports(&frontend).await != [json!(two.port())] {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    within("the frontend lists only the remaining io-node", told).await;
}

#[tokio::test]
async fn serves_over_redis_with_password() {
    let redis = Redis::new().password("p@ss/w:rd #1?%").start().await;
    let running = assert_serves(&echo(&redis.url())).await;
    assert!(!running.app_node.log().contains("p@ss"), "{}", running.app_node.log());
}

#[tokio::test]
async fn serves_with_least_privileged_user() {
    let redis = Redis::new().user("plugnode", "secret", RIGHTS).start().await;
    assert_serves(&echo(&redis.url_for("plugnode", "secret"))).await;
    let denied = redis.command(&["ACL", "LOG"]).await;
    assert_eq!(denied, "", "plugnode used a command without permission");
}

#[tokio::test]
async fn serves_over_another_database() {
    let redis = RedisServer::start().await;
    assert_serves(&echo(&format!("{}/3", redis.url()))).await;
    assert_eq!(redis.command(&["DBSIZE"]).await, "0");
    let keyspace = redis.command(&["INFO", "keyspace"]).await;
    assert!(keyspace.contains("db3:"), "{keyspace}");
}

#[tokio::test]
async fn serves_over_tls() {
    let redis = Redis::new().tls().password("secret").start().await;
    assert!(redis.url().starts_with("rediss://"));
    let (trust, _) = redis.tls_settings();
    assert_serves(&echo(&redis.url()).transport(&trust)).await;
}

#[tokio::test]
async fn serves_over_tls_with_client_certificate() {
    let redis = Redis::new().tls().setting("tls-auth-clients yes").start().await;
    let (trust, show) = redis.tls_settings();
    assert_serves(&echo(&redis.url()).transport(&trust).transport(&show)).await;
}

#[tokio::test]
async fn serves_over_sentinel() {
    let sentinels = Sentinels::of(Redis::new().password("secret")).await;
    assert_serves(&echo(&sentinels.url())).await;
    assert!(keys(sentinels.master(), "{plugnode:").await > 0);
}

#[tokio::test]
async fn serves_over_cluster_with_three_shards() {
    let redis = RedisCluster::start().await;
    assert_serves(&echo(&redis.url()).transport("shards = 3")).await;
    for shard in 0..3 {
        let tag = format!("{{plugnode:{shard}}}");
        let owner = redis.owner_of(redis.slot_of(&tag).await).await;
        assert!(keys(&redis.servers()[owner], &tag).await > 0, "shard {shard} is empty");
    }
}

#[tokio::test]
async fn serves_over_valkey() {
    let valkey = RedisServer::valkey().await;
    assert_serves(&echo(&valkey.url())).await;
}

#[tokio::test]
async fn two_clusters_share_redis_by_prefix() {
    let redis = RedisServer::start().await;
    let (red, blue) = (echo(&redis.url()), echo(&redis.url()));
    let (red, blue) = (red.transport("prefix = \"red\""), blue.transport("prefix = \"blue\""));
    // Both clusters use the same node names and must not receive each other's events.
    let (red, blue) = tokio::join!(assert_serves(&red), assert_serves(&blue));
    let (mut reds, mut blues) = (red.clients().await, blue.clients().await);
    join_all(reds.iter_mut().chain(&mut blues).map(echo_in_order)).await;
    reds[0].emit("all", &[json!("red")]).await;
    blues[0].emit("all", &[json!("blue")]).await;
    for (clients, color) in [(&mut reds, "red"), (&mut blues, "blue")] {
        for client in clients {
            assert_eq!(client.event().await, ("chat".to_owned(), vec![json!(color)]));
            // An event of the other cluster would arrive before this echo.
            client.emit("after", &[]).await;
            assert_eq!(client.event().await.0, "after");
        }
    }
    assert_eq!(keys(&redis, "{plugnode:").await, 0);
}
