//! Presence: who is in a channel is kept, through kills of io-nodes and app-nodes.

use std::collections::BTreeSet;
use std::path::Path;

use futures_util::future::join_all;
use plugnode_tests::{Client, Cluster, Node, RedisServer, app, component, within};
use serde_json::{Value, json};

use crate::api::{Api, api_section};

const SETTINGS: &str =
    "instances = 3\ngrants = { keyvalue = [\"default\"] }\npresence = { channels = [\"room/*\"], events = true }";

/// The count of a channel, and its members with their names.
async fn present(client: &mut Client, channel: &str) -> (u64, BTreeSet<(String, String)>) {
    let answer = client.ask("present", &[json!(channel)]).await;
    let (count, members): (u64, Vec<(String, Option<String>)>) =
        serde_json::from_value(answer[0].clone()).expect("a count and members");
    let members = members.into_iter().map(|(id, name)| (id, name.unwrap_or_default()));
    (count, members.collect())
}

/// Asks until these clients are in the channel, and no other.
async fn becomes(client: &mut Client, channel: &str, expected: &[(&str, &str)]) {
    let expected: BTreeSet<(String, String)> = expected
        .iter()
        .map(|(id, name)| (id.to_string(), name.to_string()))
        .collect();
    let mut last = None;
    let waiting = async {
        while last.as_ref() != Some(&(expected.len() as u64, expected.clone())) {
            last = Some(present(client, channel).await);
        }
    };
    within("presence is as expected", waiting).await;
}

/// The next change that the app tells of.
async fn change(client: &mut Client) -> Value {
    let (event, mut args) = client.event().await;
    assert_eq!(event, "presence", "{args:?}");
    args.remove(0)
}

/// Clients of two nodes, which may be the same.
async fn assert_presence_is_kept(one: &Node, other: &Node) {
    let (mut ada, mut bob) = tokio::join!(Client::connect(one), Client::connect(other));
    let mut watcher = Client::connect(one).await;
    let (ada_id, bob_id) = (ada.id().to_owned(), bob.id().to_owned());
    ada.ask("name", &[json!("Ada")]).await;
    ada.ask("join", &[json!("room/1")]).await;
    let joined = json!({ "client": ada_id, "joined": ["room/1"], "left": [] });
    assert_eq!(change(&mut watcher).await, joined);
    bob.ask("join", &[json!("room/1")]).await;
    bob.ask("join", &[json!("elsewhere")]).await;
    assert_eq!(change(&mut watcher).await["client"], json!(bob_id));
    becomes(&mut watcher, "room/1", &[(&ada_id, "Ada"), (&bob_id, "")]).await;

    // Joining again changes nothing; leaving by another's command does.
    ada.ask("join", &[json!("room/1")]).await;
    ada.ask("join", &[json!("room/2")]).await;
    let joined = json!({ "client": ada_id, "joined": ["room/2"], "left": [] });
    assert_eq!(change(&mut watcher).await, joined);
    watcher.ask("empty", &[json!("room/2")]).await;
    let left = json!({ "client": ada_id, "joined": [], "left": ["room/2"] });
    assert_eq!(change(&mut watcher).await, left);
    becomes(&mut watcher, "room/2", &[]).await;

    bob.send("41".to_owned()).await;
    let left = json!({ "client": bob_id, "joined": [], "left": ["room/1"] });
    assert_eq!(change(&mut watcher).await, left);
    becomes(&mut watcher, "room/1", &[(&ada_id, "Ada")]).await;
    drop(ada);
    assert_eq!(change(&mut watcher).await["client"], json!(ada_id));
    becomes(&mut watcher, "room/1", &[]).await;
}

#[tokio::test]
async fn presence_is_kept_in_memory() {
    let node = Node::app(&component("faulty"), SETTINGS).await;
    assert_presence_is_kept(&node, &node).await;
}

#[tokio::test]
async fn presence_is_kept_over_redis() {
    for shards in [1, 3] {
        let redis = RedisServer::start().await;
        let cluster = cluster(&redis.url(), shards, &component("faulty"));
        let (one, other) = tokio::join!(cluster.start_io(), cluster.start_io());
        let _apps = tokio::join!(cluster.start_app(), cluster.start_app());
        assert_presence_is_kept(&one, &other).await;
    }
}

#[tokio::test]
async fn server_api_reads_presence_in_pages() {
    let node = Node::run(&format!(
        "{}{}",
        api_section(&["presence"], ""),
        app("/", &component("faulty"), SETTINGS)
    ))
    .await;
    let api = Api::of(&node).await;
    const CLIENTS: usize = 1_200;
    let mut clients = Vec::new();
    for _ in 0..CLIENTS / 100 {
        clients.extend(join_all((0..100).map(|_| Client::connect(&node))).await);
    }
    join_all(clients.iter_mut().map(async |client| {
        client.emit("name", &[json!("Ada")]).await;
        client.ask("join", &[json!("room/1")]).await;
    }))
    .await;
    let mut watcher = Client::connect(&node).await;
    let waiting = async { while present(&mut watcher, "room/1").await.0 < CLIENTS as u64 {} };
    within("all clients are in the channel", waiting).await;
    let (mut found, mut cursor) = (BTreeSet::new(), Value::Null);
    loop {
        let page = api
            .post("presence", &json!({ "channel": "room/1", "cursor": cursor }))
            .await;
        assert_eq!((page.status, &page.body["count"]), (200, &json!(CLIENTS)), "{page:?}");
        for member in page.body["members"].as_array().expect("a list") {
            assert_eq!(member["attributes"]["name"], "Ada", "{member}");
            found.insert(member["id"].as_str().expect("an id").to_owned());
        }
        cursor = page.body["next"].clone();
        if cursor.is_null() {
            break;
        }
    }
    let ids: BTreeSet<String> = clients.iter().map(|client| client.id().to_owned()).collect();
    assert_eq!(found, ids);
    let other = api.post("presence", &json!({ "channel": "elsewhere" })).await;
    assert_eq!(
        (other.status, &other.body["field"]),
        (404, &json!("channel")),
        "{other:?}"
    );
}

#[tokio::test]
async fn full_channel_takes_nothing_from_other_channels() {
    let limit = "[transport]\nbucket-bytes = 600\n";
    let apps = app("/", &component("faulty"), SETTINGS);
    let node = Node::run(&format!("{limit}{}{apps}", api_section(&["join", "presence"], ""))).await;
    let api = Api::of(&node).await;
    let mut watcher = Client::connect(&node).await;
    let mut clients = Vec::new();
    for number in 0..8 {
        let mut client = Client::connect(&node).await;
        // A client is found by its id once the transport has accepted its connection, which an answer of the handler shows.
        client.ask("name", &[json!("")]).await;
        // The first channel is full at last; each client has one of its own.
        let channels = json!(["room/full", format!("room/{number}")]);
        let joined = api
            .post("join", &json!({ "clients": [client.id()], "channels": channels }))
            .await;
        assert_eq!(joined.status, 200, "{joined:?}");
        // The index, which has the same limit, has room for four.
        if number < 4 {
            becomes(&mut watcher, &format!("room/{number}"), &[(client.id(), "")]).await;
        }
        clients.push(client);
    }
    let (count, members) = present(&mut watcher, "room/full").await;
    assert!(count < 8, "{members:?}");
}

#[tokio::test]
async fn presence_works_from_javascript_and_python() {
    for script in ["tests/js/handlers/presence.js", "tests/py/handlers/presence.py"] {
        let (component, _folder) = crate::scripts::built(script).await;
        let node = Node::app(&component, SETTINGS).await;
        assert_presence_is_kept(&node, &node).await;
    }
}

#[tokio::test]
async fn presence_is_right_after_kills_of_nodes() {
    let redis = RedisServer::start().await;
    let cluster = cluster(&redis.url(), 2, &component("faulty"));
    let (mut lost, stays) = tokio::join!(cluster.start_io(), cluster.start_io());
    let (mut app, _other) = tokio::join!(cluster.start_app(), cluster.start_app());
    let mut here = Vec::new();
    let mut gone = Vec::new();
    for number in 0..20 {
        let node = if number % 2 == 0 { &lost } else { &stays };
        let mut client = Client::connect(node).await;
        client.ask("join", &[json!("room/1")]).await;
        if number % 2 == 0 {
            gone.push(client)
        } else {
            here.push(client)
        }
    }
    let ids: Vec<String> = here.iter().chain(&gone).map(|client| client.id().to_owned()).collect();
    let mut watcher = Client::connect(&stays).await;
    let all: Vec<(&str, &str)> = ids.iter().map(|id| (id.as_str(), "")).collect();
    becomes(&mut watcher, "room/1", &all).await;
    tokio::join!(lost.kill9(), app.kill9());
    becomes(&mut watcher, "room/1", &all[..here.len()]).await;
}

#[tokio::test]
async fn app_node_that_keeps_other_channels_says_so() {
    let redis = RedisServer::start().await;
    let component = component("faulty");
    let with = cluster(&redis.url(), 1, &component);
    let without = Cluster::new(redis.url()).app("/", &component, crate::api::SETTINGS);
    let (io, app) = tokio::join!(with.start_io(), without.start_app());
    let mut ada = Client::connect(&io).await;
    ada.ask("join", &[json!("room/1")]).await;
    let line = app.logged("give all nodes the same presence.channels").await;
    assert!(line.contains("room/1"), "{line}");
}

fn cluster(url: &str, shards: u16, component: &Path) -> Cluster {
    Cluster::new(url)
        .transport(&format!("shards = {shards}\nlease-ms = 1500"))
        .app("/", component, SETTINGS)
}
