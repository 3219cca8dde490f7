//! Backpressure: with a full backlog events wait or are refused, and connections stay.

use std::time::Duration;

use futures_util::future::join_all;
use plugnode_tests::{Client, Cluster, Heard, Node, Redis, RedisServer, app, component, node_script, within};
use serde_json::json;

/// A node with one instance and a small backlog.
async fn node(io_node: &str) -> Node {
    let settings = "instances = 1\nlimits = { time-ms = 10000 }\ngrants = { keyvalue = [\"default\"] }";
    let app = app("/", &component("faulty"), settings);
    Node::run(&format!(
        "[io-node]\n{io_node}\n[transport]\npartitions = 1\nbacklog = 4\n{app}"
    ))
    .await
}

/// Keeps the instance busy for this time, with a full backlog behind it.
async fn fill(client: &mut Client, busy: Duration) -> u64 {
    let number = client.emit_with_ack("slow", &[json!(busy.as_millis() as u64)]).await;
    for _ in 0..3 {
        client.emit("behind", &[]).await;
    }
    number
}

#[tokio::test]
async fn paused_client_stays_connected_and_loses_nothing() {
    const MESSAGES: u64 = 300;
    let node = node("ping-interval-ms = 300\nping-timeout-ms = 1000").await;
    let mut busy = Client::connect(&node).await;
    let mut paused = Client::connect(&node).await;
    paused.ask("where", &[]).await;
    let number = fill(&mut busy, Duration::from_secs(3)).await;
    let padding = "x".repeat(2_000);
    for number in 0..MESSAGES {
        paused.emit("n", &[json!(number), json!(padding)]).await;
    }
    let hear_all = async {
        for number in 0..MESSAGES {
            let (event, args) = paused.event().await;
            assert_eq!((event.as_str(), &args[0]), ("n", &json!(number)));
        }
    };
    let (heard, ()) = tokio::join!(busy.next(), hear_all);
    assert_eq!(heard, Heard::Ack(number, Vec::new()));
    assert_eq!(paused.ask("where", &[]).await[0]["attempt"], json!(1));
}

#[tokio::test]
async fn overdue_events_are_refused_and_counted() {
    let node = node("refuse-after-ms = 300").await;
    let mut client = Client::connect(&node).await;
    client.ask("where", &[]).await;
    let busy = client.emit_with_ack("slow", &[json!(2_000)]).await;
    // More events than the backlog holds.
    let mut last = busy;
    for _ in 0..10 {
        last = client.emit_with_ack("said", &[]).await;
    }
    client.emit("waits", &[]).await;
    let mut refused = 0;
    loop {
        let heard = client.next().await;
        let Heard::Ack(number, args) = heard else {
            panic!("{heard:?} arrived while the instance was busy")
        };
        assert_eq!(args[0]["error"]["code"], json!("overloaded"));
        assert!(args[0]["error"]["message"].is_string());
        refused += 1;
        if number == last {
            break;
        }
    }
    assert_eq!(client.next().await, Heard::Ack(busy, Vec::new()));
    // The accepted events are handled, then the waiting event, which asked for no acknowledgement.
    let mut said = 0;
    loop {
        match client.next().await {
            Heard::Event(event, ..) if event == "waits" => break,
            Heard::Event(..) => said += 1,
            Heard::Ack(_, args) => assert_eq!(args, Vec::<serde_json::Value>::new()),
            ended => panic!("{ended:?}"),
        }
    }
    assert_eq!((said, refused), (3, 7));
    client.ask("then", &[]).await;

    let (status, log) = node.stop_with_log().await;
    assert!(status.success(), "{log}");
    let counts = log
        .lines()
        .rfind(|line| line.contains("counts "))
        .expect("counts are logged");
    for count in ["events_overloaded=7", "events_put_off=", "events_accepted="] {
        assert!(counts.contains(count), "{count}: {counts}");
    }
}

#[tokio::test]
async fn official_client_survives_full_backlog_on_every_transport() {
    let node = node("ping-interval-ms = 300\nping-timeout-ms = 1000").await;
    node_script("paused.mjs", &[&node.url()]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_client_is_served_under_pressure_of_sixty() {
    const GREEDY: usize = 60;
    const EVENTS: usize = 300;
    let redis = Redis::new().start().await;
    let settings = "instances = 2\nlimits = { time-ms = 10000 }\ngrants = { keyvalue = [\"default\"] }";
    let cluster = Cluster::new(redis.url())
        .app("/", &component("faulty"), settings)
        .transport("partitions = 1");
    let (io, _app) = tokio::join!(cluster.start_io(), cluster.start_app());
    let mut greedy = join_all((0..GREEDY).map(|_| Client::connect(&io))).await;
    // In total three minutes of work for both instances, and more events than the backlog holds.
    for client in &mut greedy {
        for _ in 0..EVENTS {
            client.emit("slow", &[json!(20)]).await;
        }
    }
    within("the partition is under pressure", async {
        while open_events(&redis).await < 6_000 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    let mut newcomer = Client::connect(&io).await;
    newcomer.ask("where", &[]).await;
    let open = open_events(&redis).await;
    assert!(open >= 4_000, "the backlog is no longer full: {open}");
}

/// Number of accepted, uncommitted events of the only partition.
async fn open_events(redis: &RedisServer) -> u64 {
    let taken = redis.command(&["HGET", "{plugnode:0}:in", "0"]).await;
    let done = redis.command(&["HGET", "{plugnode:0}:done", "0"]).await;
    let number = |text: &str| text.split(' ').next().unwrap_or_default().parse().unwrap_or(0u64);
    number(&taken).saturating_sub(number(&done))
}
