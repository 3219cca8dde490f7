//! Malformed input from the network: its client gets an error, and nothing else happens.

use plugnode_tests::{Client, Fuzz, Heard, Node, component, within};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

async fn node(settings: &str) -> Node {
    Node::run(&format!(
        "{settings}\n{}",
        plugnode_tests::app("/", &component("echo"), "")
    ))
    .await
}

#[tokio::test]
async fn refuses_message_over_max_payload() {
    let mut node = node("[io-node]\nmax-payload = \"10KB\"").await;
    let mut bystander = Client::connect(&node).await;
    let mut client = Client::connect(&node).await;
    client.emit("fits", &[json!("x".repeat(9_000))]).await;
    assert_eq!(client.event().await.0, "fits");
    client.emit("too large", &[json!("x".repeat(20_000))]).await;
    assert_eq!(client.next().await, Heard::Closed);

    let body = "4".repeat(20_000);
    let answer = http(&node, &format!("POST {}&sid={}", POLLING, session(&node).await), &body).await;
    assert!(answer.starts_with("HTTP/1.1 4"), "{answer:.100}");
    assert_eq!(bystander.ask("still", &[]).await, Vec::<serde_json::Value>::new());
    assert!(node.is_running());
}

#[tokio::test]
async fn flood_is_slowed_without_loss() {
    let mut node = node("").await;
    let before = node.memory();
    let mut client = Client::connect(&node).await;
    for number in 0..20_000 {
        client.emit("n", &[json!(number), json!("x".repeat(100))]).await;
        if number % 1_000 == 999 {
            for number in number - 999..=number {
                assert_eq!(client.event().await.1[0], json!(number));
            }
        }
    }
    assert!(node.is_running());
    let grown = node.memory().saturating_sub(before);
    assert!(grown < 100 << 20, "memory grew by {} MB", grown >> 20);
}

/// PLUGNODE_FUZZ_SEED repeats a run, PLUGNODE_FUZZ_INPUTS sets the number of inputs.
fn fuzz() -> Fuzz {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse().expect("a whole number"))
    };
    let clock = std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs());
    Fuzz {
        seed: number("PLUGNODE_FUZZ_SEED").unwrap_or(clock),
        inputs: number("PLUGNODE_FUZZ_INPUTS").unwrap_or(3_000) as usize,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fuzzed_json_disturbs_no_client_and_leaks_nothing() {
    fuzz().run("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fuzzed_messagepack_disturbs_no_client_and_leaks_nothing() {
    fuzz().run("parser = \"msgpack\"").await;
}

const POLLING: &str = "/socket.io/?EIO=4&transport=polling";

/// Opens a polling session and returns its id.
async fn session(node: &Node) -> String {
    let answer = http(node, &format!("GET {POLLING}"), "").await;
    let from = answer.find("\"sid\":\"").expect("an open packet") + "\"sid\":\"".len();
    answer[from..].split('"').next().expect("it is closed").to_owned()
}

async fn http(node: &Node, request: &str, body: &str) -> String {
    let length = body.len();
    let head =
        format!("{request} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n");
    raw(node, [head.as_bytes(), body.as_bytes()].concat().as_slice()).await
}

async fn raw(node: &Node, bytes: &[u8]) -> String {
    let mut tcp = TcpStream::connect(("127.0.0.1", node.port()))
        .await
        .expect("the node listens");
    // The node may answer and close before reading everything.
    let _ = tcp.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = within("an answer comes", tcp.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}
