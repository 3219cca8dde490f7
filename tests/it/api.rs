//! The server API: what a program outside of the cluster can do, over each transport, through kills, and what it is refused.

use std::path::Path;
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use plugnode_tests::{
    Client, Cluster, Heard, Node, RedisServer, component, repository, temp_folder, verb, within, within_minutes,
};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const SETTINGS: &str = "grants = { keyvalue = [\"default\"] }";
pub(crate) const KEY: &str = "0123456789abcdef0123456789abcdef";
const WEAK_KEY: &str = "fedcba9876543210fedcba9876543210";
const API: &str = r#"
[api]
listen = "127.0.0.1:0"
max-body = 20000
max-batch = 5

[[api.key]]
name = "office"
key = "0123456789abcdef0123456789abcdef"
namespaces = ["*"]
permissions = ["publish", "join", "leave", "disconnect", "find", "event"]

[[api.key]]
name = "weak"
key = "fedcba9876543210fedcba9876543210"
namespaces = ["/shop/{id}"]
permissions = ["publish"]
calls-per-second = 1
burst-seconds = 3
"#;

/// [`API`] with both keys for all namespaces.
fn with_keys_for_all_namespaces() -> String {
    API.replace("\"/shop/{id}\"", "\"*\"")
}

/// The section of an API with one key, for all namespaces, with these permissions and further lines.
pub(crate) fn api_section(permissions: &[&str], key_lines: &str) -> String {
    format!(
        "[api]\nlisten = \"127.0.0.1:0\"\n\n[[api.key]]\nname = \"office\"\nkey = \"{KEY}\"\nnamespaces = [\"*\"]\npermissions = \
         {permissions:?}\n{key_lines}\n"
    )
}

/// A caller of the API of one node.
pub(crate) struct Api {
    pub(crate) port: u16,
}

/// An answer: status, head and JSON body.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Value,
}

impl Api {
    pub(crate) async fn of(node: &Node) -> Self {
        let line = node.logged("server API on http://").await;
        node.logged("API node joined").await;
        let port = line.rsplit(':').next().and_then(|port| port.trim().parse().ok());
        Self {
            port: port.expect("the line ends with the port"),
        }
    }

    pub(crate) async fn post(&self, operation: &str, body: &Value) -> Answer {
        self.post_with(operation, "", body).await
    }

    async fn post_with(&self, operation: &str, headers: &str, body: &Value) -> Answer {
        self.post_as(KEY, operation, headers, body).await
    }

    async fn post_as(&self, key: &str, operation: &str, headers: &str, body: &Value) -> Answer {
        let headers = format!("Authorization: Bearer {key}\r\nContent-Type: application/json\r\n{headers}");
        let path = format!("/api/v1/{operation}");
        let body = body.to_string();
        let sent = self.send("POST", &path, &headers, body.as_bytes());
        within("the API answers", sent).await.expect("it listens")
    }

    pub(crate) async fn send(&self, method: &str, path: &str, headers: &str, body: &[u8]) -> std::io::Result<Answer> {
        let (head, body) = self.send_raw(method, path, headers, body).await?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        Ok(Answer {
            status: status.unwrap_or_default(),
            body: serde_json::from_slice(&body).unwrap_or_default(),
            head,
        })
    }

    /// The head of the answer, in lower case, and its body. Both are empty if there was none.
    pub(crate) async fn send_raw(
        &self,
        method: &str,
        path: &str,
        headers: &str,
        body: &[u8],
    ) -> std::io::Result<(String, Vec<u8>)> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).await?;
        let size = body.len();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\nContent-Length: {size}\r\n{headers}\r\n"
        );
        stream.write_all(head.as_bytes()).await?;
        // A body that is too long is answered before it is read.
        let _ = stream.write_all(body).await;
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer).await;
        let end = answer.windows(4).position(|bytes| bytes == b"\r\n\r\n");
        let (head, body) = answer.split_at(end.unwrap_or(answer.len()));
        Ok((
            String::from_utf8_lossy(head).to_ascii_lowercase(),
            body.get(4..).unwrap_or_default().to_vec(),
        ))
    }
}

/// Everything that the API does, seen by two clients.
async fn assert_api_works(io: &Node, api: &Api) {
    let (mut ada, mut bob) = tokio::join!(Client::connect(io), Client::connect(io));
    let publish = json!({ "all": true, "event": "news", "args": [1, { "a": [null] }] });
    let answer = api.post("publish", &publish).await;
    assert_eq!(
        (answer.status, &answer.body["repeated"]),
        (200, &json!(false)),
        "{answer:?}"
    );
    let news = ("news".to_owned(), vec![json!(1), json!({ "a": [null] })]);
    assert_eq!(ada.event().await, news);
    assert_eq!(bob.event().await, news);

    // A batch is carried out in order.
    let id = ada.id().to_owned();
    let joined = api
        .post("join", &json!({ "clients": [id], "channels": ["red", "blue"] }))
        .await;
    assert_eq!(joined.status, 200, "{joined:?}");
    // With several shards, what is for a channel may overtake what was for a client, unless that was waited for.
    let joined = api.post("find", &json!({ "clients": [id] })).await;
    assert_eq!(joined.body["count"], json!(1), "{joined:?}");
    let batch = json!([
        { "clients": [id], "event": "one" },
        { "to": ["red"], "event": "two", "except": { "clients": [bob.id()] } },
        { "to": ["red", "blue"], "clients": [id], "event": "three" },
    ]);
    assert_eq!(api.post("publish", &batch).await.status, 200);
    for name in ["one", "two", "three"] {
        assert_eq!(ada.event().await.0, name);
    }

    let found = api.post("find", &json!({ "to": ["red"] })).await;
    assert_eq!((found.status, &found.body["count"]), (200, &json!(1)), "{found:?}");
    let client = &found.body["clients"][0];
    assert_eq!(client["id"], json!(id));
    assert!(
        client["channels"]
            .as_array()
            .is_some_and(|channels| channels.contains(&json!("blue"))),
        "{found:?}"
    );
    assert_eq!(found.body["silent"], json!([]), "{found:?}");
    let all = api.post("find", &json!({ "all": true, "most": 0 })).await;
    assert_eq!(
        (&all.body["count"], &all.body["clients"]),
        (&json!(2), &json!([])),
        "{all:?}"
    );

    let leave = json!({ "clients": [id], "channels": ["red"] });
    assert_eq!(api.post("leave", &leave).await.status, 200);
    let left = api.post("find", &json!({ "clients": [id] })).await;
    assert_eq!(left.body["clients"][0]["channels"], json!(["blue"]), "{left:?}");

    assert_events_are_acknowledged(api, &mut ada).await;

    let gone = api.post("disconnect", &json!({ "clients": [bob.id()] })).await;
    assert_eq!(gone.status, 200, "{gone:?}");
    within("the client is disconnected", async {
        while bob.next().await != Heard::Disconnected {}
    })
    .await;
}

async fn assert_events_are_acknowledged(api: &Api, ada: &mut Client) {
    let count = |data: Value| json!({ "kind": "faulty.count/1", "data": data });
    let first = api.post("event", &count(json!({ "x": 1 }))).await;
    assert_eq!(
        (first.status, &first.body["args"]),
        (200, &json!([1, { "x": 1 }])),
        "{first:?}"
    );
    assert_eq!(ada.event().await, ("counted".into(), vec![json!(1)]));

    // Once, and the same answer, with the same key.
    let key = "Idempotency-Key: order-1\r\n";
    let second = api.post_with("event", key, &count(json!(2))).await;
    assert_eq!(
        (second.status, &second.body["args"]),
        (200, &json!([2, 2])),
        "{second:?}"
    );
    let again = api.post_with("event", key, &count(json!(2))).await;
    assert_eq!(
        (&again.body["args"], &again.body["repeated"]),
        (&json!([2, 2]), &json!(true)),
        "{again:?}"
    );
    assert_eq!(again.body["event"], second.body["event"]);
    let other = api.post_with("event", key, &count(json!(3))).await;
    assert_eq!(
        (other.status, &other.body["field"]),
        (422, &json!("Idempotency-Key")),
        "{other:?}"
    );
    let third = api.post("event", &count(json!(null))).await;
    assert_eq!(third.body["args"], json!([3, null]), "{third:?}");

    let quiet = api.post("event", &json!({ "kind": "faulty.quiet/1" })).await;
    assert_eq!((quiet.status, quiet.body.get("args")), (200, None), "{quiet:?}");
    let late = json!({ "kind": "faulty.late/1", "wait": "acknowledged" });
    let late = api.post("event", &late).await;
    assert_eq!((late.status, &late.body["args"]), (200, &json!(["late"])), "{late:?}");
    let accepted = api
        .post("event", &json!({ "kind": "faulty.quiet/1", "wait": "accepted" }))
        .await;
    assert_eq!(accepted.status, 202, "{accepted:?}");
    let never = json!({ "kind": "faulty.quiet/1", "wait": "acknowledged", "timeout-ms": 100 });
    assert_eq!(api.post("event", &never).await.status, 504);
    let rejected = api.post("event", &json!({ "kind": "faulty.reject/1" })).await;
    assert_eq!(rejected.status, 502, "{rejected:?}");
}

#[tokio::test]
async fn api_works_in_memory() {
    let node = Node::run(&format!("{API}{}", app("/", &component("faulty")))).await;
    assert_api_works(&node, &Api::of(&node).await).await;
}

#[tokio::test]
async fn api_works_over_redis() {
    for shards in [1, 3] {
        let redis = RedisServer::start().await;
        let cluster = cluster(&redis.url(), shards);
        let (io, _one, two) = tokio::join!(cluster.start_io(), cluster.start_app(), cluster.start_app());
        assert_api_works(&io, &Api::of(&two).await).await;
    }
}

/// A caller whose calls take long leaves room for those of others.
#[tokio::test]
async fn key_cannot_take_all_calls() {
    let settings = with_keys_for_all_namespaces().replace("max-body", "max-calls = 4\nmax-body");
    let node = Node::run(&format!("{settings}{}", app("/", &component("faulty")))).await;
    let api = Api::of(&node).await;
    let long = json!({ "kind": "faulty.quiet/1", "wait": "acknowledged", "timeout-ms": 60_000 });
    let mut running = FuturesUnordered::from_iter((0..4).map(|_| api.post("event", &long)));
    // The key of the others has one of four for itself; two are for any.
    let refused = running.next().await.expect("one is refused");
    assert_eq!((refused.status, running.len()), (503, 3), "{refused:?}");
    let other = api
        .post_as(WEAK_KEY, "publish", "", &json!({ "all": true, "event": "e" }))
        .await;
    assert_eq!(other.status, 200, "{other:?}");
}

/// Events that their caller does not wait for fill its share of the queue, and nothing else.
#[tokio::test]
async fn events_of_one_key_leave_room_for_others() {
    let keys = with_keys_for_all_namespaces().replace("[\"publish\"]", "[\"publish\", \"event\"]");
    let transport = "[transport]\npartitions = 1\nbacklog = 64\nclient-backlog = 4\n";
    let one = "instances = 1\n";
    let node = Node::run(&format!("{transport}{keys}{}{one}", app("/", &component("faulty")))).await;
    let api = Api::of(&node).await;
    let (mut busy, mut bob) = tokio::join!(Client::connect(&node), Client::connect(&node));
    let slow = busy.emit_with_ack("slow", &[json!(2_000)]).await;
    let event = json!({ "kind": "faulty.quiet/1", "wait": "accepted" });
    let mut accepted = 0;
    let refused = loop {
        match api.post("event", &event).await {
            answer if answer.status == 202 => accepted += 1,
            answer => break answer,
        }
        assert!(accepted < 64, "they fill the whole queue");
    };
    assert_eq!(refused.status, 503, "{refused:?}");
    let other = api.post_as(WEAK_KEY, "event", "", &event).await;
    assert_eq!(other.status, 202, "{other:?}");
    let asked = bob.emit_with_ack("where", &[]).await;
    for (client, number) in [(&mut busy, slow), (&mut bob, asked)] {
        assert!(matches!(client.next().await, Heard::Ack(of, _) if of == number));
    }
    assert_eq!(api.post("event", &event).await.status, 202, "they are handled");
}

/// A full bucket of idempotency keys refuses calls of its caller with a key, and nobody else.
#[tokio::test]
async fn keys_of_one_caller_fill_its_own_bucket() {
    let keys = with_keys_for_all_namespaces().replace("calls-per-second = 1\nburst-seconds = 3\n", "");
    let transport = "[transport]\nbucket-bytes = 2000\n";
    let node = Node::run(&format!("{transport}{keys}{}", app("/", &component("faulty")))).await;
    let api = Api::of(&node).await;
    let publish = json!({ "all": true, "event": "e" });
    let event = json!({ "kind": "faulty.quiet/1" });
    let long = "k".repeat(200);
    let mut number = 0;
    let refused = loop {
        number += 1;
        let key = format!("Idempotency-Key: {long}{number}\r\n");
        let answer = api.post_with("publish", &key, &publish).await;
        if answer.status != 200 {
            break answer;
        }
        assert!(number < 20, "the bucket is full by now");
    };
    assert_eq!(refused.status, 503, "{refused:?}");
    let key = format!("Idempotency-Key: {long}0\r\n");
    let refused = api.post_with("event", &key, &event).await;
    assert_eq!(refused.status, 503, "{refused:?}");
    // What was answered before is not lost either.
    let unheard = json!({ "kind": "faulty.count/1", "wait": "accepted" });
    assert_eq!(
        api.post_with("event", &format!("Idempotency-Key: {long}x\r\n"), &unheard)
            .await
            .status,
        202
    );
    let (folder, port) = (temp_folder(), node.port().to_string());
    let dead = async |args: &[&str]| verb(&[&["dead"], args, &["--port", &port]].concat(), folder.path()).await;
    let letters = async || -> Vec<Value> {
        let list = dead(&["list", "--json"]).await.json();
        let letters = list.as_array().expect("it is a list").iter();
        letters.map(|letter| letter["id"].clone()).collect()
    };
    within("all become dead letters", async { while letters().await.len() < 3 {} }).await;
    let before = letters().await;
    let retried = dead(&["retry", "--all"]).await;
    assert!(retried.status.success(), "{retried:?}");
    let are_back = async || {
        let now = letters().await;
        now.len() == before.len() && !now.iter().any(|id| before.contains(id))
    };
    within("none is lost by a retry", async { while !are_back().await {} }).await;
    assert_eq!(api.post("event", &event).await.status, 200, "without a key");
    let other = api.post_as(WEAK_KEY, "publish", &key, &publish).await;
    assert_eq!(other.status, 200, "{other:?}");
}

/// Scripts answer custom events with what their listeners return, and later by the id.
#[tokio::test]
async fn scripts_answer_custom_events() {
    for script in ["tests/js/handlers/customs.js", "tests/py/handlers/customs.py"] {
        let (component, _folder) = crate::scripts::built(script).await;
        let node = Node::run(&format!("{API}{}", app("/", &component))).await;
        let api = Api::of(&node).await;
        let mut ada = Client::connect(&node).await;
        assert_events_are_acknowledged(&api, &mut ada).await;
        for data in [
            json!(null),
            json!({ "é": ["🦀", 1.5, { "_placeholder": true, "num": 0 }] }),
        ] {
            let answer = api.post("event", &json!({ "kind": "test.echo/1", "data": data })).await;
            assert_eq!(
                (answer.status, &answer.body["args"]),
                (200, &json!([[data]])),
                "{answer:?}"
            );
        }
        // {kind: "test.echo/1", data: bin 00 ff}
        let headers =
            format!("Authorization: Bearer {KEY}\r\nContent-Type: application/msgpack\r\nAccept: application/json\r\n");
        let body = b"\x82\xa4kind\xabtest.echo/1\xa4data\xc4\x02\x00\xff";
        let answer = api.send("POST", "/api/v1/event", &headers, body).await;
        let answer = answer.expect("it listens");
        let expected = json!([[{ "_placeholder": true, "num": 0 }]]);
        assert_eq!(
            (&answer.body["args"], &answer.body["attachments"]),
            (&expected, &json!(["AP8="])),
            "{answer:?}"
        );
        // As deep as handlers can read, and one level deeper.
        for (depth, status) in [(900, 200), (901, 422)] {
            let (open, close) = ("[".repeat(depth), "]".repeat(depth));
            let body = format!(r#"{{"kind":"test.echo/1","data":{open}{close}}}"#);
            let headers = format!("Authorization: Bearer {KEY}\r\nContent-Type: application/json\r\n");
            let answer = api.send_raw("POST", "/api/v1/event", &headers, body.as_bytes()).await;
            let (head, body) = answer.expect("it listens");
            assert!(head.contains(&format!(" {status} ")), "{head}");
            let has_data = body
                .windows(2 * depth)
                .any(|part| part == (open.clone() + &close).as_bytes());
            assert_eq!(has_data, status == 200, "{script} {depth}");
        }
        let quiet = api.post("event", &json!({ "kind": "faulty.quiet/1" })).await;
        assert_eq!(quiet.status, 200, "{quiet:?}");
    }
}

/// Calls with idempotency keys, repeated while app-nodes and API nodes are killed, take effect once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repeated_calls_take_effect_once_through_kills() {
    const CALLS: usize = 60;
    let redis = RedisServer::start().await;
    let cluster = cluster(&redis.url(), 3);
    let (io, mut one, mut two) = tokio::join!(cluster.start_io(), cluster.start_app(), cluster.start_app());
    let mut hears = Client::connect(&io).await;
    let api = Api::of(&io).await;
    let calling = async {
        for number in 0..CALLS {
            let headers = format!("Idempotency-Key: call-{number}\r\n");
            let body = json!({ "all": true, "event": "call", "args": [number] });
            let mut times = 0;
            // Each call is made at least twice.
            while times < 2 {
                let answer = api.post_with("publish", &headers, &body).await;
                assert!([200, 202, 503].contains(&answer.status), "{answer:?}");
                times += usize::from(answer.status == 200);
            }
        }
    };
    let killing = async {
        for _ in 0..2 {
            tokio::time::sleep(Duration::from_millis(300)).await;
            one.kill9().await;
            one = cluster.start_app().await;
            two.kill9().await;
            two = cluster.start_app().await;
        }
    };
    within_minutes(3, "all calls are made", async { tokio::join!(calling, killing) }).await;
    // Another node, which has no memory of them, repeats no call either.
    let other = Api::of(&one).await;
    for number in [0, CALLS - 1] {
        let headers = format!("Idempotency-Key: call-{number}\r\n");
        let body = json!({ "all": true, "event": "call", "args": [number] });
        let answer = other.post_with("publish", &headers, &body).await;
        assert_eq!(
            (answer.status, &answer.body["repeated"]),
            (200, &json!(true)),
            "{answer:?}"
        );
    }
    for number in 0..CALLS {
        assert_eq!(hears.event().await, ("call".into(), vec![json!(number)]));
    }
    assert_eq!(
        api.post("publish", &json!({ "all": true, "event": "end" }))
            .await
            .status,
        200
    );
    assert_eq!(hears.event().await.0, "end");
}

/// Method, path, headers and body of a request; status and a part of the head of its answer.
type Case<'a> = (&'a str, &'a str, String, &'a [u8], u16, &'a str);

#[tokio::test]
async fn hostile_requests_are_problems() {
    let apps = app("/", &component("faulty")) + &app("/shop/{id}", &component("faulty"));
    let node = Node::run(&format!("{API}{apps}")).await;
    let api = Api::of(&node).await;
    let good = br#"{"all":true,"event":"e"}"#;
    let json = "Content-Type: application/json\r\n";
    let bearer = |key: &str| format!("Authorization: Bearer {key}\r\n");
    let with_key = format!("{}{json}", bearer(KEY));
    let deep = format!(
        r#"{{"all":true,"event":"e","args":{}{}}}"#,
        "[".repeat(5_000),
        "]".repeat(5_000)
    );
    let deep_data = format!(r#"{{"kind":"a/1","data":{}{}}}"#, "[".repeat(5_000), "]".repeat(5_000));
    let item = r#"{"all":true,"event":"e"}"#;
    let long = format!("[{}]", [item; 6].join(","));
    let cases: Vec<Case<'_>> = vec![
        (
            "POST",
            "/api/v1/publish",
            json.into(),
            good,
            401,
            "www-authenticate: bearer",
        ),
        (
            "POST",
            "/api/v1/publish",
            bearer("hunter2") + json,
            good,
            401,
            "problem+json",
        ),
        (
            "POST",
            "/api/v1/publish",
            bearer(KEY) + &bearer(KEY) + json,
            good,
            401,
            "",
        ),
        (
            "POST",
            "/api/v1/event",
            bearer(WEAK_KEY) + json,
            br#"{"kind":"a/1"}"#,
            403,
            "",
        ),
        ("POST", "/api/v1/publish", bearer(WEAK_KEY) + json, good, 403, ""),
        ("POST", "/api/v1/nothing", with_key.clone(), good, 404, ""),
        (
            "POST",
            "/api/v1/publish",
            with_key.clone(),
            br#"{"namespace":"/none","all":true,"event":"e"}"#,
            404,
            "",
        ),
        ("GET", "/api/v1/publish", with_key.clone(), b"", 405, "allow: post"),
        ("POST", "/api/v1/openapi.json", with_key.clone(), b"", 405, "allow: get"),
        (
            "POST",
            "/api/v1/publish",
            with_key.clone() + "Accept: text/html\r\n",
            good,
            406,
            "",
        ),
        ("POST", "/api/v1/publish", bearer(KEY), good, 415, ""),
        ("POST", "/api/v1/publish", with_key.clone(), &[b' '; 30_000], 413, ""),
        ("POST", "/api/v1/publish", with_key.clone(), long.as_bytes(), 413, ""),
        ("POST", "/api/v1/publish", with_key.clone(), deep.as_bytes(), 422, ""),
        ("POST", "/api/v1/event", with_key.clone(), deep_data.as_bytes(), 422, ""),
        ("POST", "/api/v1/publish", with_key.clone(), b"{", 400, ""),
        (
            "POST",
            "/api/v1/publish",
            with_key.clone(),
            br#"{"all":1,"event":"e"}"#,
            422,
            "",
        ),
        (
            "POST",
            "/api/v1/publish",
            with_key.clone(),
            br#"{"all":true,"event":"e","x":1}"#,
            422,
            "",
        ),
        (
            "POST",
            "/api/v1/publish",
            with_key.clone() + "Idempotency-Key:\r\n",
            good,
            422,
            "",
        ),
        (
            "POST",
            "/api/v1/publish",
            with_key.clone(),
            good,
            200,
            "application/json",
        ),
        (
            "GET",
            "/api/v1/openapi.json",
            String::new(),
            b"",
            200,
            "application/json",
        ),
    ];
    for (method, path, headers, body, status, part) in cases {
        let answer = within("the API answers", api.send(method, path, &headers, body))
            .await
            .expect("it listens");
        assert_eq!(answer.status, status, "{method} {path} {headers} {answer:?}");
        assert!(answer.head.contains(part), "{part:?} is not in {answer:?}");
        if status >= 400 {
            assert_eq!(answer.body["status"], status, "{answer:?}");
            assert!(
                answer.body["detail"].as_str().is_some_and(|detail| !detail.is_empty()),
                "{answer:?}"
            );
        }
    }
    let weak = bearer(WEAK_KEY) + json;
    let body = br#"{"namespace":"/shop/7","all":true,"event":"e"}"#;
    let mut last = api
        .send("POST", "/api/v1/publish", &weak, body)
        .await
        .expect("it listens");
    for _ in 0..5 {
        last = api
            .send("POST", "/api/v1/publish", &weak, body)
            .await
            .expect("it listens");
    }
    assert_eq!(last.status, 429, "{last:?}");
    assert!(last.head.contains("retry-after: "), "{last:?}");
    assert!(!node.log().contains(KEY) && !node.log().contains(WEAK_KEY));
}

#[tokio::test]
async fn verbs_make_requests() {
    let node = Node::run(&format!("{API}{}", app("/", &component("faulty")))).await;
    let api = Api::of(&node).await;
    let mut ada = Client::connect(&node).await;
    let folder = temp_folder();
    std::fs::write(folder.path().join("office.secret"), format!("{KEY}\n")).expect("the file can be written");
    let address = format!("127.0.0.1:{}", api.port);
    let ask = async |args: &[&str]| {
        let of_api = ["--api", &address, "--key-file", "office.secret"];
        verb(&[args, &of_api].concat(), folder.path()).await
    };
    let said = ask(&["publish", "/", "news", "[1]", "text", "--client", ada.id()]).await;
    assert!(said.status.success(), "{said:?}");
    assert_eq!(ada.event().await, ("news".into(), vec![json!([1]), json!("text")]));
    let said = ask(&["event", "/", "faulty.count/1", "7"]).await;
    assert_eq!(said.json()["args"], json!([1, 7]), "{said:?}");
    let said = ask(&["event", "/none", "faulty.count/1"]).await;
    assert!(!said.status.success(), "{said:?}");
    assert!(format!("{said:?}").contains("no app serves the namespace"), "{said:?}");
}

/// The commands of docs/server-api.md.
#[tokio::test]
async fn documented_requests_work() {
    let page = std::fs::read_to_string(repository().join("docs/server-api.md")).expect("the page can be read");
    let node = Node::run(&format!("{API}{}", app("/", &component("faulty")))).await;
    let api = Api::of(&node).await;
    let blocks: Vec<&str> = page
        .split("\n```sh\n")
        .skip(1)
        .filter_map(|rest| rest.split("\n```").next())
        .collect();
    assert!(blocks.len() >= 3, "{blocks:?}");
    for block in blocks {
        let mut shell = tokio::process::Command::new("bash");
        shell.args(["-euo", "pipefail", "-c", block]);
        shell
            .env("API", format!("http://127.0.0.1:{}", api.port))
            .env("KEY", KEY);
        let ran = within("the commands end", shell.output()).await.expect("bash is there");
        assert!(ran.status.success(), "{block}\n{ran:?}");
        let lines = String::from_utf8_lossy(&ran.stdout);
        assert!(!lines.is_empty() && !lines.contains("\"status\""), "{lines}");
    }
}

fn app(namespace: &str, component: &Path) -> String {
    format!("[[app]]\nnamespace = {namespace:?}\ncomponent = {component:?}\n{SETTINGS}\n")
}

fn cluster(url: &str, shards: u16) -> Cluster {
    Cluster::new(url)
        .transport(&format!("shards = {shards}\nlease-ms = 1500"))
        .settings(API)
        .app("/", &component("faulty"), SETTINGS)
}
