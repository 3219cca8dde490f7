//! The official Socket.IO client against the handlers `echo` and `faulty`.

use plugnode_tests::{KEY_VALUE, Node, app, component, node_script};

#[tokio::test]
async fn official_client_echoes_over_every_transport() {
    let node = Node::app(&component("echo"), "").await;
    node_script("echo.mjs", &[&node.url()]).await;
}

#[tokio::test]
async fn official_client_joins_two_namespaces_on_one_connection() {
    let echo = component("echo");
    let node = Node::run(&[app("/", &echo, ""), app("/second", &echo, "")].concat()).await;
    node_script("namespaces.mjs", &[&node.url()]).await;
}

#[tokio::test]
async fn official_client_acknowledges_handler() {
    let node = Node::app(&component("faulty"), KEY_VALUE).await;
    node_script("requests.mjs", &[&node.url()]).await;
}
