//! plugnode embedded in a Rust program, `examples/embedded`: hooks of the io-node, and a native handler beside a component.

use std::collections::BTreeSet;

use plugnode_tests::{Client, Heard, Node, component};
use serde_json::json;

async fn program() -> Node {
    let component = component("echo").display().to_string();
    Node::program("embedded", &["127.0.0.1:0", &component]).await
}

async fn solver(node: &Node, puzzle: &str) -> Client {
    let query = format!("puzzleId={puzzle}");
    let opened = Client::open_with(node.port(), &query, "/", json!({})).await;
    opened
        .expect("the program speaks Socket.IO")
        .expect("the client is accepted")
}

#[tokio::test]
async fn handler_sees_attributes_set_at_handshake() {
    let node = program().await;
    let mut ada = solver(&node, "7").await;
    let mut bob = solver(&node, "7").await;
    let mut eve = solver(&node, "8").await;
    bob.ask("where", &[]).await;
    eve.ask("where", &[]).await;
    ada.emit("piece", &[json!({ "x": 1 })]).await;
    assert_eq!(
        bob.event().await,
        ("piece".into(), vec![json!(null), json!({ "x": 1 })])
    );
    ada.emit("sign-in", &[json!("Ada")]).await;
    assert_eq!(ada.event().await, ("welcome".into(), vec![json!("Ada")]));
    ada.emit("piece", &[json!({ "x": 2 })]).await;
    assert_eq!(
        bob.event().await,
        ("piece".into(), vec![json!("Ada"), json!({ "x": 2 })])
    );
    ada.emit("solved", &[]).await;
    for client in [&mut ada, &mut bob, &mut eve] {
        assert_eq!(client.event().await, ("applause".into(), vec![json!("7")]));
    }
}

#[tokio::test]
async fn refuses_handshake_without_required_query() {
    let node = program().await;
    let refused = Client::connect_to(&node, "/", json!({})).await;
    let message = refused.err().expect("the handshake names no puzzle").0["message"].to_string();
    assert!(message.contains("which puzzle?"), "{message}");
}

#[tokio::test]
async fn native_handler_runs_beside_component() {
    let node = program().await;
    let mut native = solver(&node, "7").await;
    let mut plugin = Client::connect_to(&node, "/plugin", json!({}))
        .await
        .expect("the client is accepted");
    let mut instances = BTreeSet::new();
    for number in 0..8 {
        let there = native.ask("where", &[]).await;
        instances.insert(there[0]["instance"].as_u64().expect("a number"));
        assert_eq!(plugin.ask("echo", &[json!(number)]).await, [json!(number)]);
        assert_eq!(plugin.event().await, ("echo".into(), vec![json!(number)]));
    }
    assert_eq!(instances.len(), 4, "all instances are used");
}

#[tokio::test]
async fn panic_in_native_handler_costs_one_event() {
    let node = program().await;
    let mut ada = solver(&node, "7").await;
    let mut bob = solver(&node, "7").await;
    ada.emit("slip", &[]).await;
    bob.ask("where", &[]).await;
    ada.ask("where", &[]).await;
    node.logged("a piece fell down").await;
    ada.emit("piece", &[json!("still here")]).await;
    assert_eq!(
        bob.next().await,
        Heard::Event("piece".into(), vec![json!(null), json!("still here")], None)
    );
}

#[tokio::test]
async fn frontend_lists_embedded_io_node() {
    let node = program().await;
    let port = node.port();
    let answer = plugnode_tests::within("the io-node is listed", async {
        loop {
            let answer = node.get("/config.js").await;
            if answer.contains(&format!("\"port\":{port}")) {
                return answer;
            }
            tokio::task::yield_now().await;
        }
    });
    assert!(answer.await.contains("SOCKET_SERVERS"));
    assert!(node.get("/readyz").await.contains("200 OK"));
}
