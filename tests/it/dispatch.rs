//! Dispatch of events to instances, and the no-client event for clients that an instance has not seen.

use std::collections::BTreeMap;

use plugnode_tests::{Client, KEY_VALUE, Node, app, component};
use serde_json::json;

#[tokio::test]
async fn round_robin_spreads_one_client_evenly() {
    let node = Node::app(&component("faulty"), &format!("instances = 4\n{KEY_VALUE}")).await;
    let mut client = Client::connect(&node).await;
    let mut counts = BTreeMap::new();
    for _ in 0..1_000 {
        let answer = client.ask("where", &[]).await;
        *counts
            .entry(answer[0]["instance"].as_u64().expect("a number"))
            .or_insert(0) += 1;
    }
    assert_eq!(counts, BTreeMap::from([(0, 250), (1, 250), (2, 250), (3, 250)]));
}

#[tokio::test]
async fn round_robin_spreads_many_clients_fairly() {
    let node = Node::app(&component("faulty"), &format!("instances = 4\n{KEY_VALUE}")).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::connect(&node).await);
    }
    let answers = clients.iter_mut().map(|client| async {
        let mut instances = Vec::new();
        for _ in 0..50 {
            instances.push(
                client.ask("where", &[]).await[0]["instance"]
                    .as_u64()
                    .expect("a number"),
            );
        }
        instances
    });
    let mut counts = [0; 4];
    for instances in futures_util::future::join_all(answers).await {
        instances
            .into_iter()
            .for_each(|instance| counts[instance as usize] += 1);
    }
    assert!(counts.iter().all(|count| (150..=350).contains(count)), "{counts:?}");
}

#[tokio::test]
async fn sticky_keeps_each_client_on_one_instance() {
    let settings = format!("instances = 4\ndispatch = \"sticky\"\n{KEY_VALUE}");
    let node = Node::app(&component("faulty"), &settings).await;
    let mut used = std::collections::BTreeSet::new();
    for n in 0..32 {
        let mut client = Client::connect(&node).await;
        client.ask("remember", &[json!(n)]).await;
        let first = client.ask("where", &[]).await[0]["instance"].clone();
        for _ in 0..5 {
            assert_eq!(client.ask("where", &[]).await[0]["instance"], first);
        }
        assert_eq!(
            client.ask("recall", &[]).await,
            [json!(n)],
            "the instance's memory has the value"
        );
        used.insert(first.as_u64());
    }
    assert_eq!(used.len(), 4, "32 clients use every instance");
}

#[tokio::test]
async fn new_instance_gets_no_client_event_once() {
    let node = Node::app(&component("faulty"), &format!("instances = 2\n{KEY_VALUE}")).await;
    let mut client = Client::connect(&node).await;
    // Instance 0 saw the connection. Instance 1 gets no-client before its first event; neither gets it again.
    let mut counts = Vec::new();
    for _ in 0..6 {
        let instance = client.ask("where", &[]).await[0]["instance"].clone();
        counts.push((instance, client.ask("no-clients", &[]).await[0].clone()));
    }
    for (_, count) in &counts {
        assert!(count.as_u64() <= Some(1), "{counts:?}");
    }
    let mut sticky = Client::connect(&node).await;
    assert!(sticky.ask("no-clients", &[]).await[0].is_number());
}

#[tokio::test]
async fn two_namespaces_run_two_components() {
    let config = [
        app("/", &component("echo"), ""),
        app("/faulty", &component("faulty"), KEY_VALUE),
    ]
    .concat();
    let node = Node::run(&config).await;
    let mut echo = Client::connect(&node).await;
    let mut faulty = Client::connect_to(&node, "/faulty", json!({ "token": 7 }))
        .await
        .expect("the namespace is bound");
    assert_eq!(echo.ask("where", &[json!("here")]).await, [json!("here")]);
    assert_eq!(echo.event().await.0, "where");
    let who = faulty.ask("who", &[]).await;
    assert_eq!(
        (&who[0]["namespace"], &who[0]["id"]),
        (&json!("/faulty"), &json!(faulty.id()))
    );
    let refused = Client::connect_to(&node, "/nobody", json!({}))
        .await
        .err()
        .expect("the namespace is not bound");
    assert_eq!(refused.0["message"], "Invalid namespace");
}

#[tokio::test]
async fn attributes_follow_client_across_instances() {
    let node = Node::app(&component("faulty"), &format!("instances = 4\n{KEY_VALUE}")).await;
    let mut client = Client::connect_to(&node, "/", json!({ "user": "ada" }))
        .await
        .expect("the client is accepted");
    client.ask("patch", &[json!({ "score": 1, "gone": 1 })]).await;
    client.ask("patch", &[json!({ "score": 2, "gone": null })]).await;
    for _ in 0..8 {
        let who = client.ask("who", &[]).await;
        assert_eq!(who[0]["attributes"], json!({ "auth": { "user": "ada" }, "score": 2 }));
    }
}

#[tokio::test]
async fn reply_is_handled_before_clients_next_event() {
    let node = Node::app(&component("faulty"), &format!("instances = 4\n{KEY_VALUE}")).await;
    let mut client = Client::connect(&node).await;
    for number in 0..300 {
        client
            .emit("request", &[json!("question"), json!(number), json!(10_000)])
            .await;
        let plugnode_tests::Heard::Event(_, args, Some(ack)) = client.next().await else {
            panic!("not a request")
        };
        assert_eq!(args, [json!(number)]);
        client.acknowledge(ack, &[json!(number)]).await;
        client.emit("after", &[json!(number)]).await;
        assert_eq!(
            client.event().await,
            ("replied".to_owned(), vec![json!("question"), json!(number)])
        );
        assert_eq!(client.event().await, ("after".to_owned(), vec![json!(number)]));
    }
}
