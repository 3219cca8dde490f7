//! The official Socket.IO client, against handlers.

use plugnode_tests::{Node, app, component, node_script};

const KEY_VALUE: &str = "grants = { keyvalue = [\"default\"] }";

#[tokio::test]
async fn the_official_client_is_echoed_by_every_transport() {
    let node = Node::app(&component("echo"), "").await;
    node_script("echo.mjs", &[&node.url()]).await;
}

#[tokio::test]
async fn the_official_client_is_in_two_namespaces_over_one_connection() {
    let echo = component("echo");
    let node = Node::run(&[app("/", &echo, ""), app("/second", &echo, "")].concat()).await;
    node_script("namespaces.mjs", &[&node.url()]).await;
}

#[tokio::test]
async fn a_handler_is_acknowledged_by_the_official_client() {
    let node = Node::app(&component("faulty"), KEY_VALUE).await;
    node_script("requests.mjs", &[&node.url()]).await;
}
