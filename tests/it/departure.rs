//! What a handler is told of a client that is gone: once, why, and in which channels it was.

use std::time::Duration;

use plugnode_tests::{Client, Cluster, Node, Redis, component, within};
use serde_json::{Value, json};

const KEY_VALUE: &str = "grants = { keyvalue = [\"default\"] }";

/// A client that hears of all that go.
async fn watcher(node: &Node) -> Client {
    let mut watcher = Client::connect(node).await;
    watcher.ask("watch", &[]).await;
    watcher
}

/// The channels of the next that goes, who must be this one.
async fn channels_of(watcher: &mut Client, id: &str) -> Value {
    let (event, mut args) = watcher.event().await;
    assert_eq!((event.as_str(), &args[0]), ("gone", &json!(id)));
    args.remove(2)
}

/// However a client goes, its handler is told in which channels it was, and not in which it had been.
async fn tells_channels(node: &Node, watcher: &mut Client) {
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
    assert_eq!(channels_of(watcher, &id).await, json!([]), "it was in none");
}

#[tokio::test]
async fn disconnect_event_lists_channels_in_memory() {
    let node = Node::app(&component("faulty"), KEY_VALUE).await;
    tells_channels(&node, &mut watcher(&node).await).await;
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
    tells_channels(&lost, &mut watcher).await;

    let mut client = Client::connect(&lost).await;
    client.ask("join", &[json!("a")]).await;
    lost.kill9().await;
    let told = tokio::time::timeout(Duration::from_secs(20), channels_of(&mut watcher, client.id())).await;
    assert_eq!(told.expect("its end is told"), Value::Null);
    within("the other goes on", watcher.ask("join", &[json!("b")])).await;
}
