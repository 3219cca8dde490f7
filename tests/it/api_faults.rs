//! The server API through faults: nodes that are killed, Redis that is away, full backlogs, keys that are replaced, generated requests.

use std::collections::HashMap;
use std::fs;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use plugnode_tests::{
    Client, Cluster, Node, Redis, RedisServer, app, component, installed_tool, temp_folder, within, within_minutes,
};
use serde_json::{Value, json};
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::api::{Answer, Api, KEY};

const SETTINGS: &str = "grants = { keyvalue = [\"default\"] }";
const API: &str = r#"
[api]
listen = "127.0.0.1:0"
accept-timeout-ms = 1000
commit-timeout-ms = 2000

[[api.key]]
name = "office"
key = "0123456789abcdef0123456789abcdef"
namespaces = ["*"]
permissions = ["publish", "join", "leave", "disconnect", "find", "presence", "event"]
calls-per-second = 100000
"#;

/// A publish to all clients; its answer, if there was one.
async fn publish(api: &Api, key: &str, event: &str, number: usize) -> Option<Answer> {
    let body = json!({ "all": true, "event": event, "args": [number] }).to_string();
    let headers =
        format!("Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\nIdempotency-Key: {key}\r\n");
    let sent = api.send("POST", "/api/v1/publish", &headers, body.as_bytes());
    let answer = tokio::time::timeout(Duration::from_secs(10), sent).await;
    answer.ok()?.ok().filter(|answer| answer.status != 0)
}

/// Publishes until it is done, at one node after the other, with one key.
async fn publish_surely(ports: &Mutex<Vec<u16>>, key: &str, event: &str, number: usize) {
    for attempt in 0.. {
        let port = {
            let ports = ports.lock().expect("no holder of this lock panics");
            ports[(number + attempt) % ports.len()]
        };
        match publish(&Api { port }, key, event, number).await {
            Some(answer) if answer.status == 200 || answer.status == 202 => return,
            Some(answer) => assert_eq!(answer.status, 503, "{answer:?}"),
            None => {}
        }
        sleep(Duration::from_millis(20)).await;
    }
}

/// Hears this many publishes of each caller, and asserts that each is heard once and in order.
async fn assert_heard_in_order(hears: &mut Client, counts: &HashMap<String, usize>) {
    let mut heard: HashMap<String, Vec<Value>> = HashMap::new();
    while !counts
        .iter()
        .all(|(event, count)| heard.get(event).map_or(0, Vec::len) >= *count)
    {
        let (event, args) = hears.event().await;
        heard.entry(event).or_default().extend(args);
    }
    for (event, count) in counts {
        let expected: Vec<_> = (0..*count).map(|number| json!(number)).collect();
        assert_eq!(heard[event], expected, "{event}");
    }
}

/// Nodes that serve the API are killed with calls in flight; the callers repeat them at another.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_in_flight_at_killed_node_take_effect_once_and_in_order() {
    const CALLERS: usize = 6;
    const KILLS: usize = 6;
    let redis = RedisServer::start().await;
    let cluster = Cluster::new(redis.url())
        .transport("shards = 3\nlease-ms = 1500")
        .settings(API)
        .app("/", &component("faulty"), SETTINGS);
    let (io, _app) = tokio::join!(cluster.start_io(), cluster.start_app());
    let mut serving = Vec::from(<[Node; 2]>::from(tokio::join!(
        cluster.start_frontend(),
        cluster.start_frontend()
    )));
    let mut hears = Client::connect(&io).await;
    let mut ports = Vec::new();
    for node in &serving {
        ports.push(Api::of(node).await.port);
    }
    let ports = Arc::new(Mutex::new(ports));
    let is_over = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut callers = JoinSet::new();
    for caller in 0..CALLERS {
        let (ports, is_over) = (ports.clone(), is_over.clone());
        callers.spawn(async move {
            let event = format!("caller-{caller}");
            let mut number = 0;
            while !is_over.load(std::sync::atomic::Ordering::Relaxed) {
                publish_surely(&ports, &format!("{event}-{number}"), &event, number).await;
                number += 1;
            }
            (event, number)
        });
    }
    let killing = async {
        for kill in 0..KILLS {
            sleep(Duration::from_millis(250)).await;
            let victim = kill % 2;
            serving[victim].kill9().await;
            serving[victim] = cluster.start_frontend().await;
            let port = Api::of(&serving[victim]).await.port;
            ports.lock().expect("no holder of this lock panics")[victim] = port;
        }
        is_over.store(true, std::sync::atomic::Ordering::Relaxed);
    };
    within_minutes(2, "the nodes are killed", killing).await;
    let counts: HashMap<_, _> = within("the callers end", callers.join_all())
        .await
        .into_iter()
        .collect();
    assert!(counts.values().all(|count| *count > KILLS), "{counts:?}");
    within_minutes(1, "all is heard", assert_heard_in_order(&mut hears, &counts)).await;
    // Nothing is heard twice.
    publish_surely(&ports, "the end", "end", 0).await;
    assert_eq!(hears.event().await.0, "end");
}

#[tokio::test]
async fn refuses_calls_while_redis_is_away_and_goes_on_afterwards() {
    let mut redis = Redis::new().aof("always").start().await;
    let cluster = Cluster::new(redis.url())
        .transport("lease-ms = 3000")
        .settings(API)
        .app("/", &component("faulty"), SETTINGS);
    let (io, _app) = tokio::join!(cluster.start_io(), cluster.start_app());
    let mut hears = Client::connect(&io).await;
    let api = Api::of(&io).await;
    redis.kill().await;
    for number in 0..3 {
        let started = Instant::now();
        let answer = publish(&api, &format!("away-{number}"), "away", number).await;
        let answer = answer.expect("the node answers");
        assert_eq!(
            (answer.status, &answer.body["type"]),
            (503, &json!("urn:plugnode:api:unavailable")),
            "{answer:?}"
        );
        assert!(answer.head.contains("retry-after: 1"), "{answer:?}");
        assert!(started.elapsed() < Duration::from_secs(5), "it is refused in time");
    }
    redis.restart().await;
    let ports = Mutex::new(vec![api.port]);
    for number in 0..3 {
        let key = format!("away-{number}");
        within("the call is made", publish_surely(&ports, &key, "away", number)).await;
    }
    assert_heard_in_order(&mut hears, &HashMap::from([("away".to_owned(), 3)])).await;
    within("the call is made", publish_surely(&ports, "the end", "end", 0)).await;
    assert_eq!(hears.event().await.0, "end");
}

/// Without an app-node, calls fill the backlog. What was accepted takes effect when there is one.
#[tokio::test]
async fn refuses_calls_beyond_backlog_and_goes_on_afterwards() {
    let redis = RedisServer::start().await;
    let cluster = Cluster::new(redis.url())
        .transport("backlog = 20\nclient-backlog = 20")
        .settings(&API.replace("commit-timeout-ms = 2000", "commit-timeout-ms = 50"))
        .app("/", &component("faulty"), SETTINGS);
    let io = cluster.start_io().await;
    let api = Api::of(&io).await;
    let mut hears = Client::connect(&io).await;
    let mut accepted = 0;
    let refused = loop {
        let answer = publish(&api, &format!("full-{accepted}"), "full", accepted).await;
        let answer = answer.expect("the node answers");
        if answer.status != 202 {
            break answer;
        }
        accepted += 1;
        assert!(accepted <= 20, "the backlog has a limit");
    };
    assert!(accepted > 0, "{refused:?}");
    assert_eq!(
        (refused.status, &refused.body["type"]),
        (503, &json!("urn:plugnode:api:unavailable")),
        "{refused:?}"
    );
    assert!(refused.head.contains("retry-after: 1"), "{refused:?}");
    let _app = cluster.start_app().await;
    let ports = Mutex::new(vec![api.port]);
    assert_heard_in_order(&mut hears, &HashMap::from([("full".to_owned(), accepted)])).await;
    for number in 0..accepted {
        let repeated = async {
            loop {
                let answer = publish(&api, &format!("full-{number}"), "full", number).await;
                let answer = answer.expect("the node answers");
                if answer.status == 200 {
                    return answer;
                }
                assert_eq!(answer.status, 202, "{answer:?}");
            }
        };
        let answer = within("the outcome is known", repeated).await;
        assert_eq!(answer.body["repeated"], json!(true), "{answer:?}");
    }
    within("the call is made", publish_surely(&ports, "the end", "end", 0)).await;
    // Nothing is repeated.
    assert_eq!(hears.event().await.0, "end");
}

#[tokio::test]
async fn keys_are_replaced_by_sighup() {
    let [old, new] = ["a".repeat(40), "b".repeat(40)];
    let folder = temp_folder();
    let (file, secret) = (folder.path().join("plugnode.toml"), folder.path().join("office.secret"));
    let app = app("/", &component("echo"), "");
    let write = |keys: &str| {
        fs::write(&file, format!("[api]\nlisten = \"127.0.0.1:0\"\n{keys}\n{app}")).expect("the file can be written");
    };
    let office = format!(
        "[[api.key]]\nname = \"office\"\nkey-file = {secret:?}\nnamespaces = [\"*\"]\npermissions = [\"publish\"]\n"
    );
    fs::write(&secret, &old).expect("the file can be written");
    write(&office);
    let node = Node::configured(&file, &[]).await;
    let api = Api::of(&node).await;
    let status = async |key: &str| {
        let headers = format!("Authorization: Bearer {key}\r\nContent-Type: application/json\r\n");
        let sent = api.send("POST", "/api/v1/publish", &headers, br#"{"all":true,"event":"e"}"#);
        within("the API answers", sent).await.expect("it listens").status
    };
    assert_eq!((status(&old).await, status(&new).await), (200, 401));

    // Another secret in the same file.
    fs::write(&secret, &new).expect("the file can be written");
    node.send_sighup();
    node.logged("configuration reloaded changed=the keys of the server API")
        .await;
    assert_eq!((status(&old).await, status(&new).await), (401, 200));

    // Both, while callers change.
    write(&(office.clone() + &format!("key = \"{old}\"\n")));
    node.send_sighup();
    node.logged_times("changed=the keys of the server API", 2).await;
    assert_eq!((status(&old).await, status(&new).await), (200, 200));

    // An invalid key changes nothing.
    fs::write(&secret, "short").expect("the file can be written");
    node.send_sighup();
    let line = node.logged("configuration not reloaded").await;
    assert!(line.contains("[[api.key]]") && !line.contains("short"), "{line}");
    assert_eq!((status(&old).await, status(&new).await), (200, 200));

    // Room for two calls, which callers take that send their bodies slowly.
    fs::write(&secret, &new).expect("the file can be written");
    let both = office.clone() + &format!("key = \"{old}\"\n");
    write(&format!("max-calls = 2\n{both}"));
    node.send_sighup();
    node.logged("api.max-calls: 256 → 2").await;
    let head = format!(
        "POST /api/v1/publish HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {old}\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n"
    );
    let mut slow = Vec::new();
    while status(&old).await != 503 {
        let mut caller = TcpStream::connect(("127.0.0.1", api.port)).await.expect("it listens");
        caller.write_all(head.as_bytes()).await.expect("it is read");
        slow.push(caller);
        assert!(slow.len() < 100, "calls beyond the limit run");
    }
    write(&both);
    node.send_sighup();
    node.logged("api.max-calls: 2 → 256").await;
    assert_eq!(status(&old).await, 200);

    // Without permission.
    fs::write(&secret, &new).expect("the file can be written");
    write(&office.replace("publish", "find"));
    node.send_sighup();
    node.logged_times("changed=the keys of the server API", 3).await;
    assert_eq!((status(&old).await, status(&new).await), (401, 403));
    let (_, log) = node.stop_with_log().await;
    assert!(!log.contains(&old) && !log.contains(&new), "{log}");
}

#[tokio::test]
async fn message_pack_goes_both_ways() {
    let node = Node::run(&format!("{API}{}", app("/", &component("faulty"), SETTINGS))).await;
    let api = Api::of(&node).await;
    let mut hears = Client::connect(&node).await;
    let headers = format!("Authorization: Bearer {KEY}\r\nContent-Type: application/msgpack\r\n");
    let post = async |operation: &str, body: &[u8]| {
        let answer = api
            .send_raw("POST", &format!("/api/v1/{operation}"), &headers, body)
            .await;
        answer.expect("it listens")
    };
    // {all: true, event: "n", args: [-1, {"ü": 1.5}]}. Binary values are among what tests/js/api-client.mjs sends.
    let body = b"\x83\xa3all\xc3\xa5event\xa1n\xa4args\x92\xff\x81\xa2\xc3\xbc\xcb\x3f\xf8\0\0\0\0\0\0";
    let (head, answer) = post("publish", body).await;
    assert!(
        head.contains("200 ok") && head.contains("application/msgpack"),
        "{head}"
    );
    // {event: "…", repeated: false}
    assert!(
        answer.starts_with(b"\x82\xa5event") && answer.ends_with(b"\xa8repeated\xc2"),
        "{answer:?}"
    );
    assert_eq!(hears.event().await, ("n".into(), vec![json!(-1), json!({ "ü": 1.5 })]));
    // {kind: "faulty.count/1", data: [nil, 7]}: answered by {event, repeated, args: [1, [nil, 7]]}.
    let (head, answer) = post("event", b"\x82\xa4kind\xaefaulty.count/1\xa4data\x92\xc0\x07").await;
    assert!(head.contains("200 ok"), "{head}");
    assert!(answer.ends_with(b"\xa4args\x92\x01\x92\xc0\x07"), "{answer:?}");
    for wrong in [
        &b""[..],
        b"\xc1",
        b"\x83\xa3all",
        b"\x81\xa3all\xc3\x00",
        b"\xdd\xff\xff\xff\xff",
        b"\xc6\xff\xff\xff\xff",
    ] {
        let (head, answer) = post("publish", wrong).await;
        let answer: Value = serde_json::from_slice(&answer).unwrap_or_default();
        assert!(head.contains("problem+json"), "{head}");
        assert!(
            [400, 422].contains(&answer["status"].as_u64().unwrap_or_default()),
            "{wrong:?} {answer}"
        );
    }
}

/// What schemathesis makes of the document that a node serves: each answer is one that the document has. Some checks do not apply: an
/// event that nobody acknowledges is answered 504 in the end, and a schema cannot say that names are limited in bytes and idempotency
/// keys used once.
#[tokio::test]
async fn generated_requests_are_answered_as_documented() {
    let node = Node::run(&format!("{API}{}", app("/", &component("faulty"), SETTINGS))).await;
    let api = Api::of(&node).await;
    let tool = installed_tool("schemathesis/bin/schemathesis");
    assert!(
        tool.exists(),
        "{} does not exist; create it with `.ci/setup-tests schemathesis`",
        tool.display()
    );
    let folder = temp_folder();
    let mut run = tokio::process::Command::new(tool);
    run.arg("run")
        .arg(format!("http://127.0.0.1:{}/api/v1/openapi.json", api.port))
        .args(["--header", &format!("Authorization: Bearer {KEY}")])
        .args(["--checks", "all", "--phases", "coverage,fuzzing"])
        .args(["--exclude-checks", "not_a_server_error,positive_data_acceptance"])
        .args(["--max-examples", "10", "--seed", "1", "--no-color"])
        .args(["--request-timeout", "70", "--max-response-time", "70"])
        .current_dir(folder.path())
        .kill_on_drop(true);
    let ran = within_minutes(3, "schemathesis ends", run.output()).await;
    let ran = ran.expect("it can be run");
    let said = String::from_utf8_lossy(&ran.stdout);
    let error = String::from_utf8_lossy(&ran.stderr);
    let document = api.send("GET", "/api/v1/openapi.json", "", b"").await;
    let document = document.expect("it listens").body;
    let operations = document["paths"].as_object().map_or(0, serde_json::Map::len);
    let tested = format!("Tested: {operations}");
    assert!(ran.status.success() && said.contains(&tested), "{said}{error}");
    let answer = api.post("publish", &json!({ "all": true, "event": "e" })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert!(!node.log().contains("panicked"), "{}", node.log());
}
