//! Many clients: nothing is lost or doubled, each client's order is kept, and resources are released.

use futures_util::future::join_all;
use plugnode_tests::leaks::{ClientChurn, LargeMessages};
use plugnode_tests::{Client, Heard, KEY_VALUE, Node, component, within_minutes};
use serde_json::json;

const CLIENTS: usize = 200;
const MESSAGES: u64 = 500;
/// Messages of one client in flight.
const WINDOW: u64 = 16;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_clients_get_messages_once_in_order() {
    let node = Node::app(&component("echo"), "instances = 4").await;
    let clients = (0..CLIENTS).map(|n| {
        let node = &node;
        async move { echo_in_order(Client::connect(node).await, n).await }
    });
    within_minutes(5, "100,000 messages are echoed", join_all(clients)).await;
}

/// Sends numbered messages and expects each echo once, in order.
async fn echo_in_order(mut client: Client, n: usize) {
    for number in 0..WINDOW {
        client.emit("n", &[json!([n, number])]).await;
    }
    for number in 0..MESSAGES {
        assert_eq!(client.event().await, ("n".to_owned(), vec![json!([n, number])]));
        if number + WINDOW < MESSAGES {
            client.emit("n", &[json!([n, number + WINDOW])]).await;
        }
    }
    // Its echo would come after any surplus ones.
    client.emit("end", &[]).await;
    assert_eq!(client.next().await, Heard::Event("end".to_owned(), Vec::new(), None));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn broadcast_reaches_every_client_once_in_order() {
    let node = Node::app(&component("echo"), "instances = 4").await;
    let mut clients = join_all((0..100).map(|_| Client::connect(&node))).await;
    // A client has joined the channel once an event after its connection is handled.
    for client in &mut clients {
        client.ask("here", &[]).await;
        client.event().await;
    }
    for number in 0..100 {
        clients[0].emit("all", &[json!(number)]).await;
    }
    for client in &mut clients {
        for number in 0..100 {
            assert_eq!(client.event().await, ("chat".to_owned(), vec![json!(number)]));
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn serves_two_thousand_simultaneous_connects() {
    let mut node = Node::app(&component("echo"), "").await;
    let clients = (0..2_000).map(|n| {
        let node = &node;
        async move {
            let mut client = Client::connect(node).await;
            assert_eq!(client.ask("hello", &[json!(n)]).await, [json!(n)]);
            client
        }
    });
    let clients = within_minutes(3, "2,000 clients are answered", join_all(clients)).await;
    assert_eq!(clients.len(), 2_000);
    drop(clients);
    let mut client = Client::connect(&node).await;
    assert_eq!(client.ask("still there", &[]).await, Vec::<serde_json::Value>::new());
    assert!(node.is_running());
}

#[tokio::test]
async fn disconnects_client_that_does_not_read() {
    let node = Node::app(&component("faulty"), KEY_VALUE).await;
    let mut watcher = Client::connect(&node).await;
    watcher.ask("watch", &[]).await;
    let mut slow = Client::connect(&node).await;
    // Far more than the kernel's and the node's buffers hold.
    for _ in 0..100 {
        slow.emit("big", &[json!(900_000)]).await;
    }
    let (event, args) = watcher.event().await;
    assert_eq!((event.as_str(), &args[0]), ("gone", &json!(slow.id())));
    assert!(args[1].as_str().expect("a reason").contains("slow reader"), "{args:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn departed_clients_leave_no_memory_or_files() {
    ClientChurn::SHORT.run().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn memory_recovers_after_large_messages() {
    LargeMessages::SHORT.run().await;
}
