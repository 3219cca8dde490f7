//! Timers: they fire once and in order, in each language, also through kills, deploys and restarts.

use std::collections::HashMap;
use std::path::Path;

use plugnode_tests::{
    Client, Cluster, Node, Redis, RedisServer, component, rebuilt, temp_folder, verb, within_minutes,
};
use serde_json::{Value, json};

const SETTINGS: &str = "instances = 3\ngrants = { keyvalue = [\"default\"] }";

async fn due(client: &mut Client) -> (String, Value, u64) {
    let (event, args) = client.event().await;
    assert_eq!(event, "due", "{args:?}");
    let missed = args[2].as_u64().expect("a number");
    (args[0].as_str().expect("a key").into(), args[1].clone(), missed)
}

async fn assert_timers_fire(node: &Node) {
    let (mut ada, mut bob) = tokio::join!(Client::connect(node), Client::connect(node));
    let after = |owner: &str, key: &str, ms: u64| [json!(owner), json!(key), json!(ms), json!({ "of": key })];
    // A timer set again fires once; a cancelled one never.
    ada.ask("timer-after", &after("client", "cancelled", 100)).await;
    ada.ask("timer-after", &after("client", "late", 100)).await;
    ada.ask("timer-cancel", &[json!("client"), json!("cancelled")]).await;
    ada.ask("timer-after", &after("client", "late", 300)).await;
    ada.ask("timer-after", &after("client", "later", 500)).await;
    assert_eq!(due(&mut ada).await, ("late".into(), json!({ "of": "late" }), 0));
    assert_eq!(due(&mut ada).await.0, "later");
    assert_eq!(ada.ask("get", &[json!("due:late")]).await, [json!(1)]);
    assert_eq!(ada.ask("get", &[json!("due:cancelled")]).await, [json!(null)]);

    // A timer of the app reaches all clients.
    bob.ask("timer-after", &after("app", "ours", 50)).await;
    assert_eq!(due(&mut ada).await.0, "ours");
    assert_eq!(due(&mut bob).await.0, "ours");

    // A periodic timer fires until it is cancelled.
    bob.ask("timer-every", &[json!("client"), json!("tick"), json!(60), json!(1)])
        .await;
    let mut times = 0;
    while times < 4 {
        let (key, _, missed) = due(&mut bob).await;
        assert_eq!(key, "tick");
        times += 1 + missed;
    }
    bob.ask("timer-cancel", &[json!("client"), json!("tick")]).await;

    // A client's timers end with its connection.
    ada.ask("timer-after", &after("client", "gone", 400)).await;
    drop(ada);
    bob.ask("timer-after", &after("app", "after it", 600)).await;
    while due(&mut bob).await.0 != "after it" {}
    assert_eq!(bob.ask("get", &[json!("due:gone")]).await, [json!(null)]);
}

#[tokio::test]
async fn timers_fire_once_in_memory() {
    assert_timers_fire(&Node::app(&component("faulty"), SETTINGS).await).await;
}

#[tokio::test]
async fn timers_fire_once_over_redis() {
    for shards in [1, 3] {
        let redis = RedisServer::start().await;
        let cluster = cluster(&redis.url(), shards, &component("faulty"));
        let (io, _one, _two) = tokio::join!(cluster.start_io(), cluster.start_app(), cluster.start_app());
        assert_timers_fire(&io).await;
    }
}

#[tokio::test]
async fn timers_work_from_javascript_and_python() {
    for script in ["tests/js/handlers/timers.js", "tests/py/handlers/timers.py"] {
        let (component, _folder) = crate::scripts::built(script).await;
        assert_timers_fire(&Node::app(&component, SETTINGS).await).await;
    }
}

fn cluster(url: &str, shards: u16, component: &Path) -> Cluster {
    Cluster::new(url)
        .transport(&format!("shards = {shards}\nlease-ms = 1500"))
        .app("/", component, SETTINGS)
}

/// Timers of the app, while app-nodes are killed, a release is deployed and Redis restarts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn timers_survive_kills_deploys_and_redis_restart() {
    const TIMERS: usize = 120;
    let mut redis = Redis::new().aof("always").start().await;
    let cluster = cluster(&redis.url(), 3, &component("faulty"));
    let folder = temp_folder();
    std::fs::write(folder.path().join("plugnode.toml"), cluster.config("app-node")).expect("the file can be written");
    let (io, mut one, mut two) = tokio::join!(cluster.start_io(), cluster.start_app(), cluster.start_app());
    let (mut setter, mut hears) = tokio::join!(Client::connect(&io), Client::connect(&io));
    for number in 0..TIMERS {
        // Spread over the time of the faults.
        let args = [
            json!("app"),
            json!(format!("timer-{number}")),
            json!(1_000 + 50 * number),
            json!(number),
        ];
        setter.ask("timer-after", &args).await;
    }
    let disturbing = async {
        one.kill9().await;
        one = cluster.start_app().await;
        let newer = folder.path().join("newer.wasm");
        std::fs::write(&newer, rebuilt(&component("faulty"), 2)).expect("the file can be written");
        let said = verb(&["deploy", newer.to_str().expect("the path is UTF-8")], folder.path()).await;
        assert!(said.status.success(), "{said:?}");
        redis.restart().await;
        two.kill9().await;
        two = cluster.start_app().await;
    };
    let hearing = async {
        let mut heard: HashMap<String, usize> = HashMap::new();
        while heard.len() < TIMERS {
            *heard.entry(due(&mut hears).await.0).or_default() += 1;
        }
        heard
    };
    let (heard, ()) = within_minutes(2, "all timers fire", async { tokio::join!(hearing, disturbing) }).await;
    assert!(heard.values().all(|times| *times == 1), "{heard:?}");
    for number in (0..TIMERS).step_by(7) {
        let key = json!(format!("due:timer-{number}"));
        assert_eq!(setter.ask("get", &[key]).await, [json!(1)], "{number}");
    }
    let status = verb(&["status", "--json"], folder.path()).await.json();
    assert_eq!(status["timers"], 0, "{status}");
}
