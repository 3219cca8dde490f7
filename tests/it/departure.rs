//! The disconnect event: once for each client, with the reason and the client's channels.

use std::time::Duration;

use plugnode_tests::{Client, Cluster, KEY_VALUE, Node, Redis, component, within};
use serde_json::{Value, json};

/// A client that receives the disconnects of all others.
async fn watcher(node: &Node) -> Client {
    let mut watcher = Client::connect(node).await;
    watcher.ask("watch", &[]).await;
    watcher
}

/// The channels in the next disconnect, which must be of this client.
async fn channels_of(watcher: &mut Client, id: &str) -> Value {
    let (event, mut args) = watcher.event().await;
    assert_eq!((event.as_str(), &args[0]), ("gone", &json!(id)));
    args.remove(2)
}

/// Asserts that every kind of disconnect lists the channels that the client was in, not those that it had left.
async fn assert_channels_listed(node: &Node, watcher: &mut Client) {
    for (way, argument) in [("leaves", None), ("kick", Some(false)), ("kick", Some(true))] {
        let mut client = Client::connect(node).await;
        for channel in ["a", "of \"b\"", "left"] {
            client.ask("join", &[json!(channel)]).await;
        }
        client.ask("leave", &[json!("left")]).await;
        let id = client.id().to_owned();
        match argument {
            None => client.send("41".to_owned()).await,
            Some(close) => client.emit(way, &[json!(close)]).await,
        }
        assert_eq!(channels_of(watcher, &id).await, json!(["a", "of \"b\""]), "{way}");
    }
    let client = Client::connect(node).await;
    let id = client.id().to_owned();
    drop(client);
    assert_eq!(
        channels_of(watcher, &id).await,
        json!([]),
        "the client was in no channel"
    );
}

#[tokio::test]
async fn disconnect_event_lists_channels_in_memory() {
    let node = Node::app(&component("faulty"), KEY_VALUE).await;
    assert_channels_listed(&node, &mut watcher(&node).await).await;
}

#[tokio::test]
async fn disconnect_event_lists_channels_over_redis_unless_node_is_lost() {
    let redis = Redis::new().start().await;
    let cluster = Cluster::new(redis.url()).transport("lease-ms = 2000");
    let cluster = cluster.app("/", &component("faulty"), KEY_VALUE);
    let (mut lost, other, _app_node) = (
        cluster.start_io().await,
        cluster.start_io().await,
        cluster.start_app().await,
    );
    let mut watcher = watcher(&other).await;
    assert_channels_listed(&lost, &mut watcher).await;

    let mut client = Client::connect(&lost).await;
    client.ask("join", &[json!("a")]).await;
    lost.kill9().await;
    let told = tokio::time::timeout(Duration::from_secs(20), channels_of(&mut watcher, client.id())).await;
    assert_eq!(told.expect("the disconnect arrives"), Value::Null);
    within("the other io-node keeps serving", watcher.ask("join", &[json!("b")])).await;
}
