//! Conformance to Socket.IO: drivers made of official clients and of raw packets, against the handler `conformance`. Each runs against
//! one process, against three io-nodes over Redis, and against the official server on Node.js, which shows that the driver is correct.

use std::path::PathBuf;

use plugnode_tests::{Node, RedisServer, Reference, component, node_script, python_client, repository, rust_client};

const SOCKET_IO_2: (&str, &str) = ("PLUGNODE_IO_NODE__SOCKET_IO_2", "true");
const MSGPACK: (&str, &str) = ("PLUGNODE_IO_NODE__PARSER", "msgpack");

#[tokio::test]
async fn one_process_conforms_to_protocol() {
    let node = alone("main", &[]).await;
    node_script("protocol.mjs", &[&node.url()]).await;
}

#[tokio::test]
async fn one_process_serves_v4_client() {
    let node = alone("client", &[]).await;
    node_script("client.mjs", &[&node.url()]).await;
}

#[tokio::test]
async fn one_process_serves_v4_msgpack_client() {
    let node = alone("client", &[MSGPACK]).await;
    node_script("client.mjs", &[&node.url(), "msgpack"]).await;
}

#[tokio::test]
async fn values_round_trip_as_through_official_parsers() {
    let client = Reference::start(&["client"]).await;
    node_script("parsers.mjs", &[client.urls()]).await;
    let client = Reference::start(&["client", "msgpack"]).await;
    node_script("parsers.mjs", &[client.urls(), "msgpack"]).await;

    let node = alone("client", &[]).await;
    node_script("parsers.mjs", &[&node.url()]).await;
    let node = alone("client", &[MSGPACK]).await;
    node_script("parsers.mjs", &[&node.url(), "msgpack"]).await;
}

#[tokio::test]
async fn one_process_serves_v2_client() {
    let client = alone("client", &[SOCKET_IO_2]).await;
    let main = alone("main", &[SOCKET_IO_2]).await;
    node_script("client2.mjs", &[&client.url(), &main.url()]).await;
}

#[tokio::test]
async fn one_process_passes_cluster_driver() {
    let node = alone("cluster", &[]).await;
    node_script("cluster.mjs", &[&node.url()]).await;
}

#[tokio::test]
async fn one_process_serves_python_client() {
    let node = alone("main", &[]).await;
    python_client(&[&node.url()]).await;
}

#[tokio::test]
async fn one_process_serves_rust_client() {
    let node = alone("main", &[]).await;
    rust_client(&[&node.url()]).await;
}

#[tokio::test]
async fn node_of_three_conforms_to_protocol() {
    let nodes = ThreeNodes::start("main", &[]).await;
    node_script("protocol.mjs", &[&nodes.first()]).await;
}

#[tokio::test]
async fn node_of_three_serves_v4_client() {
    let nodes = ThreeNodes::start("client", &[]).await;
    node_script("client.mjs", &[&nodes.first()]).await;
}

#[tokio::test]
async fn three_nodes_serve_v2_client() {
    let client = ThreeNodes::start("client", &[SOCKET_IO_2]).await;
    let main = ThreeNodes::start("main", &[SOCKET_IO_2]).await;
    node_script("client2.mjs", &[&client.first(), &main.urls()]).await;
}

#[tokio::test]
async fn three_nodes_pass_cluster_driver() {
    let nodes = ThreeNodes::start("cluster", &[]).await;
    node_script("cluster.mjs", &[&nodes.urls()]).await;
}

#[tokio::test]
async fn three_nodes_pass_msgpack_cluster_driver() {
    let nodes = ThreeNodes::start("cluster", &[MSGPACK]).await;
    node_script("cluster.mjs", &[&nodes.urls(), "msgpack"]).await;
}

#[tokio::test]
async fn three_nodes_serve_python_client() {
    let nodes = ThreeNodes::start("main", &[]).await;
    python_client(&[&nodes.urls()]).await;
}

#[tokio::test]
async fn three_nodes_serve_rust_client() {
    let nodes = ThreeNodes::start("main", &[]).await;
    rust_client(&[&nodes.urls()]).await;
}

#[tokio::test]
async fn reference_server_passes_every_driver() {
    let main = Reference::start(&["main"]).await;
    node_script("protocol.mjs", &[main.urls()]).await;
    python_client(&[main.urls()]).await;
    rust_client(&[main.urls()]).await;

    let client = Reference::start(&["client"]).await;
    node_script("client.mjs", &[client.urls()]).await;
    let cluster = Reference::start(&["cluster"]).await;
    node_script("cluster.mjs", &[cluster.urls()]).await;
}

#[tokio::test]
async fn reference_server_passes_v2_and_msgpack_drivers() {
    let (client, main) = (
        Reference::start(&["client", "v2"]).await,
        Reference::start(&["main", "v2"]).await,
    );
    node_script("client2.mjs", &[client.urls(), main.urls()]).await;

    let client = Reference::start(&["client", "msgpack"]).await;
    node_script("client.mjs", &[client.urls(), "msgpack"]).await;
    let cluster = Reference::start(&["cluster", "msgpack"]).await;
    node_script("cluster.mjs", &[cluster.urls(), "msgpack"]).await;
}

/// All roles in one process, on the memory transport.
async fn alone(configuration: &str, variables: &[(&str, &str)]) -> Node {
    Node::configured(&file(configuration), variables).await
}

/// Three io-nodes and two app-nodes, over Redis.
struct ThreeNodes {
    io_nodes: Vec<Node>,
    _app_nodes: Vec<Node>,
    _redis: RedisServer,
}

impl ThreeNodes {
    async fn start(configuration: &str, variables: &[(&str, &str)]) -> Self {
        let redis = RedisServer::start().await;
        let url = redis.url();
        let (mut io_nodes, mut app_nodes) = (Vec::new(), Vec::new());
        for (role, count, nodes) in [("app-node", 2, &mut app_nodes), ("io-node", 3, &mut io_nodes)] {
            for number in 1..=count {
                let name = format!("{role}-{number}");
                let own = [
                    ("PLUGNODE_ROLES", role),
                    ("PLUGNODE_TRANSPORT__URL", &url),
                    ("PLUGNODE_IO_NODE__NAME", &name),
                    ("PLUGNODE_APP_NODE__NAME", &name),
                ];
                nodes.push(Node::configured(&file(configuration), &[&own, variables].concat()).await);
            }
        }
        Self {
            io_nodes,
            _app_nodes: app_nodes,
            _redis: redis,
        }
    }

    fn first(&self) -> String {
        self.io_nodes[0].url()
    }

    /// The URLs of the io-nodes, comma-separated.
    fn urls(&self) -> String {
        let urls: Vec<String> = self.io_nodes.iter().map(Node::url).collect();
        urls.join(",")
    }
}

/// A configuration file of the example `conformance`, whose component must be built.
fn file(configuration: &str) -> PathBuf {
    component("conformance");
    repository().join(format!("examples/conformance/plugnode-{configuration}.toml"))
}
