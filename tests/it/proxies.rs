//! Nodes behind HAProxy and nginx, with the configurations of `docs/proxies.md`.

use std::fs;

use plugnode_tests::{Balancer, Cluster, KEY_VALUE, Node, RedisServer, component, node_script, temp_folder, within};
use tempfile::TempDir;

/// Two io-nodes and an app-node.
struct Setup {
    io_nodes: [Node; 2],
    _app_node: Node,
    _redis: RedisServer,
    _folder: TempDir,
}

impl Setup {
    /// Starts nodes with these lines in `[http]`. They trust the balancer's address; clients use another one.
    async fn new(http: &str) -> Self {
        let redis = RedisServer::start().await;
        let folder = temp_folder();
        let settings = format!("[http]\ntrusted-proxies = [\"127.0.0.1\"]\n{http}\n");
        let cluster = Cluster::new(redis.url()).app("/", &component("faulty"), KEY_VALUE);
        let app_node = cluster.start_app().await;
        let file = folder.path().join("plugnode.toml");
        fs::write(&file, cluster.settings(&settings).config("io-node")).expect("the file can be written");
        let start = async |name| {
            let variables = [
                ("PLUGNODE_SHUTDOWN__LAME_DUCK_MS", "2000"),
                ("PLUGNODE_IO_NODE__NAME", name),
            ];
            Node::configured(&file, &variables).await
        };
        Self {
            io_nodes: [start("io-1").await, start("io-2").await],
            _app_node: app_node,
            _redis: redis,
            _folder: folder,
        }
    }

    fn ports(&self) -> [u16; 2] {
        [self.io_nodes[0].port(), self.io_nodes[1].port()]
    }
}

#[tokio::test]
async fn haproxy_passes_addresses_and_drains_without_errors() {
    let mut setup = Setup::new("proxy-protocol = true").await;
    let balancer = Balancer::haproxy(setup.ports()).await;
    node_script("behind.mjs", &[&balancer.url()]).await;
    let [ending, _] = &mut setup.io_nodes;
    let pid = ending.pid().to_string();
    let url = balancer.url();
    let arguments = [url.as_str(), &pid];
    let (status, ()) = tokio::join!(
        within("the io-node ends", ending.ended()),
        node_script("drain.mjs", &arguments)
    );
    assert!(status.success(), "{}", ending.log());
}

#[tokio::test]
async fn nginx_passes_addresses_and_every_transport() {
    let setup = Setup::new("").await;
    let balancer = Balancer::nginx(setup.ports()).await;
    node_script("behind.mjs", &[&balancer.url()]).await;
}
