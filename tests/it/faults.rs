//! Faulty handlers: a panic, an endless loop, exhausted memory or an error costs only its own event.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use futures_util::future::join_all;
use plugnode_tests::{Client, Heard, Node, component};
use serde_json::json;

/// Short limits, so that tests end soon.
const SETTINGS: &str =
    "instances = 4\nlimits = { memory = \"32MB\", time-ms = 600 }\ngrants = { keyvalue = [\"default\"] }";
const ATTEMPTS: &str = "[app-node]\nattempts = 2\nretry-delay-ms = 20\n";

async fn node() -> Node {
    let app = plugnode_tests::app("/", &component("faulty"), SETTINGS);
    Node::run(&format!("{ATTEMPTS}{app}")).await
}

/// Asserts that fifty clients get their messages once and in order while another client triggers this fault.
async fn others_go_on_while(fault: &str) -> Node {
    let mut node = node().await;
    let before = node.memory();
    let mut victim = Client::connect(&node).await;
    let over = Arc::new(AtomicBool::new(false));
    let others = (0..50).map(|_| {
        let (node, over) = (&node, over.clone());
        async move {
            let mut client = Client::connect(node).await;
            let mut number = 0u64;
            while !over.load(Ordering::Relaxed) || number < 50 {
                client.emit("n", &[json!(number)]).await;
                assert_eq!(client.event().await, ("n".to_owned(), vec![json!(number)]));
                number += 1;
            }
        }
    });
    let fail = async {
        victim.emit(fault, &[]).await;
        // The client's next event waits until the faulty one has failed, and is then handled.
        victim.ask("stderr", &[json!("alive again")]).await;
        over.store(true, Ordering::Relaxed);
    };
    tokio::join!(join_all(others), fail);
    let report = node.logged("event failed").await;
    assert!(
        report.contains(&format!("message {fault:?}")),
        "the report names the event: {report}"
    );
    node.logged("messaging.message.id").await;
    assert!(node.is_running());
    let grown = node.memory().saturating_sub(before);
    assert!(grown < 300 << 20, "memory grew by {} MB", grown >> 20);
    node
}

#[tokio::test]
async fn panic_costs_only_its_event() {
    let node = others_go_on_while("panic").await;
    let log = node.log();
    assert!(log.contains("nested_panic"), "the report names the function:\n{log}");
    assert!(
        log.contains("panicked on request"),
        "the report has what the guest printed:\n{log}"
    );
}

#[tokio::test]
async fn endless_loop_costs_only_its_event() {
    let node = others_go_on_while("loop").await;
    assert!(
        node.log().contains("loop_forever"),
        "the report names the function:\n{}",
        node.log()
    );
}

#[tokio::test]
async fn memory_exhaustion_costs_only_its_event() {
    let node = others_go_on_while("eat").await;
    let log = node.log();
    assert!(
        log.contains("memory") && log.contains("exhaust_memory"),
        "the report says what ran out, and where:\n{log}"
    );
}

#[tokio::test]
async fn failed_event_leaves_no_effects() {
    let node = node().await;
    let mut other = Client::connect(&node).await;
    other.ask("where", &[]).await;
    let mut client = Client::connect(&node).await;
    client.emit("half", &[]).await;
    assert_eq!(client.ask("get", &[json!("half")]).await, [json!(null)]);
    assert_eq!(client.ask("who", &[]).await[0]["attributes"]["half"], json!(null));
    other.ask("say", &[json!("half"), json!("said"), json!(1)]).await;
    client.emit("last", &[]).await;
    assert_eq!(
        client.event().await.0,
        "last",
        "neither the emitted event nor the channel join took effect"
    );
    other.emit("last", &[]).await;
    assert_eq!(other.event().await.0, "last");
}

#[tokio::test]
async fn retry_carries_attempt_number() {
    let node = node().await;
    let mut client = Client::connect(&node).await;
    assert_eq!(client.ask("fail-retry", &[json!(1)]).await, [json!(2)]);
}

#[tokio::test]
async fn rejected_event_is_not_retried_and_order_holds() {
    let node = node().await;
    let mut client = Client::connect(&node).await;
    client.emit("a", &[]).await;
    client.emit("fail-reject", &[]).await;
    client.emit("fail-retry", &[]).await;
    client.emit("b", &[]).await;
    assert_eq!(client.event().await.0, "a");
    assert_eq!(client.event().await.0, "b");
    node.logged("asked to reject").await;
    node.logged_times("asked to fail attempt", 2).await;
    let log = node.log();
    assert_eq!(log.matches("asked to reject").count(), 1, "{log}");
    assert_eq!(log.matches("asked to fail attempt").count(), 2, "{log}");
}

#[tokio::test]
async fn failed_event_is_acknowledged_with_error_and_id() {
    let node = node().await;
    let mut client = Client::connect(&node).await;
    for fault in ["fail-reject", "fail-retry", "panic"] {
        let answer = client.ask(fault, &[]).await;
        let event = answer[0]["error"]["event"].as_str().unwrap_or_default();
        assert_eq!(answer, [json!({"error": {"code": "failed", "event": event}})]);
        node.logged(&format!("messaging.message.id={event}")).await;
    }
}

#[tokio::test]
async fn slow_event_delays_only_its_client() {
    let node = node().await;
    let mut slow = Client::connect(&node).await;
    let mut quick = Client::connect(&node).await;
    quick.ask("where", &[]).await;
    let slow_ack = slow.emit_with_ack("slow", &[json!(250)]).await;
    slow.emit("after", &[]).await;
    let mut answers = 0;
    let heard = loop {
        tokio::select! {
            biased;
            heard = slow.next() => break heard,
            _ = quick.ask("where", &[]) => answers += 1,
        }
    };
    assert_eq!(heard, Heard::Ack(slow_ack, Vec::new()), "the client's next event waits");
    assert!(answers > 1, "other clients are answered meanwhile");
    assert_eq!(slow.event().await.0, "after");
}

#[tokio::test]
async fn guest_output_and_logs_reach_node_log() {
    let node = node().await;
    let mut client = Client::connect(&node).await;
    client.ask("stdout", &[json!("printed to standard output")]).await;
    client.ask("stderr", &[json!("printed to standard error")]).await;
    client.ask("log", &[json!("written to the log")]).await;
    for line in [
        "printed to standard output",
        "printed to standard error",
        "written to the log",
    ] {
        assert!(
            node.logged(line).await.contains("instance"),
            "each line names the instance"
        );
    }
}
