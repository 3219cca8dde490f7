//! What comes from the network and is not what it should be: an error to that client, and nothing else.

use std::time::Duration;

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
async fn malformed_packets_end_their_connection_alone() {
    let mut node = node("").await;
    let mut bystander = Client::connect(&node).await;
    let deep = format!("42[\"deep\",{}1{}]", "[".repeat(100), "]".repeat(100));
    let bottomless = format!("42[\"deep\",{}", "[".repeat(100_000));
    for packet in [
        "42",
        "42[",
        "42{}",
        "42[]",
        "42[1]",
        "42[\"a\",]",
        "42[\"a\"]garbage",
        "42/nowhere,[\"a\"]",
        "4299999999999999999999[\"a\"]",
        "43-1[]",
        "43[",
        "451-[\"a\",{\"_placeholder\":true,\"num\":0}]",
        "45999999999-[\"a\"]",
        "45[\"a\"]",
        "4",
        "9",
        "",
        "x",
        "\u{0}",
        "2probe",
        "40",
        "44{}",
        "47",
        &deep,
        &bottomless,
    ] {
        let mut client = Client::connect(&node).await;
        client.send(packet.to_owned()).await;
        client.emit("after", &[]).await;
        // Some are closed and some ignored; in either case something is heard, and nothing hangs.
        loop {
            match client.next().await {
                Heard::Closed | Heard::Disconnected => break,
                Heard::Event(event, _, _) if event == "after" => break,
                // Odd, and yet an event.
                Heard::Event(event, _, _) => assert!(["a", "deep", "1"].contains(&&*event), "{packet:.80}: {event}"),
                Heard::Ack(number, _) => assert_eq!(number, u64::MAX, "{packet:.80}"),
            }
        }
    }
    assert_eq!(bystander.ask("still", &[json!(1)]).await, [json!(1)]);
    assert!(node.is_running());
}

#[tokio::test]
async fn what_is_too_large_ends_its_connection_alone() {
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
async fn malformed_requests_are_answered_with_an_error() {
    let node = node("").await;
    for request in [
        "GET /socket.io/?EIO=4",
        "GET /socket.io/?EIO=9&transport=polling",
        "GET /socket.io/?EIO=4&transport=pigeon",
        "GET /socket.io/?EIO=4&transport=websocket",
        "GET /socket.io/?EIO=4&transport=polling&sid=nonsense",
        "GET /socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA",
        "POST /socket.io/?EIO=4&transport=polling",
        "POST /socket.io/?EIO=4&transport=polling&sid=AAAAAAAAAAAAAAAA",
        "DELETE /socket.io/?EIO=4&transport=polling",
    ] {
        let answer = http(&node, request, "").await;
        let status: u16 = answer[9..12].parse().expect("a status");
        assert!((400..500).contains(&status), "{request}: {answer:.100}");
    }
    let answer = raw(&node, b"\x16\x03\x01 this is not HTTP\r\n\r\n").await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer:.100}");
}

#[tokio::test]
async fn malformed_polling_payloads_end_their_session_alone() {
    let mut node = node("").await;
    let mut bystander = Client::connect(&node).await;
    for body in [
        "",
        "4",
        "x",
        "42[\"a\"",
        "\u{1e}",
        "40\u{1e}42[",
        "b!!!not base64",
        "\u{fffd}",
        "3:abc",
    ] {
        let sid = session(&node).await;
        let answer = http(&node, &format!("POST {POLLING}&sid={sid}"), body).await;
        assert!(answer.starts_with("HTTP/1.1 "), "{body:?}: {answer:.100}");
    }
    assert_eq!(bystander.ask("still", &[]).await, Vec::<serde_json::Value>::new());
    assert!(node.is_running());
}

#[tokio::test]
async fn a_slow_handshake_is_ended() {
    let node = node("[http]\nheader-timeout-ms = 300").await;
    let mut tcp = TcpStream::connect(("127.0.0.1", node.port()))
        .await
        .expect("it listens");
    tcp.write_all(b"GET /socket.io/?EIO=4&transport=websocket HTTP/1.1\r\nHost: localhost\r\nUpgr")
        .await
        .expect("it is open");
    let mut answer = Vec::new();
    within("the connection is ended", tcp.read_to_end(&mut answer))
        .await
        .expect("it ends in order");
}

#[tokio::test]
async fn who_joins_no_namespace_is_ended() {
    let node = node("[io-node]\nconnect-timeout-ms = 300").await;
    let sid = session(&node).await;
    within("the session is closed", async {
        while http(&node, &format!("GET {POLLING}&sid={sid}"), "")
            .await
            .starts_with("HTTP/1.1 200")
        {}
    })
    .await;
}

#[tokio::test]
async fn who_does_not_answer_pings_is_ended() {
    let node = node("[io-node]\nping-interval-ms = 200\nping-timeout-ms = 200").await;
    let mut silent = Client::connect(&node).await;
    // It does not listen, and so it answers nothing.
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(silent.next().await, Heard::Closed);
}

#[tokio::test]
async fn a_flood_is_slowed_and_loses_nothing() {
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

/// PLUGNODE_FUZZ_SEED has the same input again, PLUGNODE_FUZZ_INPUTS more of it.
fn fuzz() -> Fuzz {
    let number = |name: &str| {
        std::env::var(name)
            .ok()
            .map(|text| text.parse().expect("it is a whole number"))
    };
    let clock = std::time::UNIX_EPOCH.elapsed().map_or(1, |since| since.as_secs());
    Fuzz {
        seed: number("PLUGNODE_FUZZ_SEED").unwrap_or(clock),
        inputs: number("PLUGNODE_FUZZ_INPUTS").unwrap_or(3_000) as usize,
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_odd_inputs_disturb_nobody_and_leave_nothing() {
    fuzz().run("").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_do_they_in_messagepack() {
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
        .expect("it listens");
    // The node may answer and close before it has read all.
    let _ = tcp.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = within("an answer comes", tcp.read_to_end(&mut answer)).await;
    String::from_utf8_lossy(&answer).into_owned()
}
