//! Webhooks: another program is told of events, signed and at least once each.

use std::collections::HashSet;
use std::fs;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, Mac};
use plugnode_tests::{
    Client, Cluster, KEY_VALUE, Node, RedisServer, WebhookAnswer, WebhookReceiver, WebhookRequest, app, component,
    make_certificates, temp_folder, within,
};
use serde_json::json;
use sha2::Sha256;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

const KEY: &[u8] = b"a key of more than 24 bytes";

/// `[[webhook]]` with these further lines.
fn webhook(name: &str, url: &str, lines: &str) -> String {
    let secret = STANDARD.encode(KEY);
    format!("[[webhook]]\nname = {name:?}\nurl = {url:?}\nsecret = \"whsec_{secret}\"\n{lines}\n")
}

/// A process with all roles and the app `faulty`.
async fn alone(webhooks: &str) -> Node {
    let app = app("/", &component("faulty"), KEY_VALUE);
    Node::run(&format!("[admin]\nlisten = \"127.0.0.1:0\"\n{app}\n{webhooks}")).await
}

/// The signature of a request by `KEY`.
fn signature(request: &WebhookRequest) -> String {
    let (id, timestamp) = (request.header("webhook-id"), request.header("webhook-timestamp"));
    let mut mac = Hmac::<Sha256>::new_from_slice(KEY).expect("any key");
    mac.update(format!("{id}.{timestamp}.").as_bytes());
    mac.update(&request.body);
    format!("v1,{}", STANDARD.encode(mac.finalize().into_bytes()))
}

/// The id and type of a request, whose signature must be right.
fn checked(request: &WebhookRequest) -> (String, String) {
    let id = request.header("webhook-id");
    assert_eq!(request.header("webhook-signature"), signature(request));
    assert_eq!(request.header("content-type"), "application/json");
    let kind = request.json()["type"].as_str().expect("it has a type").to_owned();
    (id.to_owned(), kind)
}

/// A counter of `/metrics`; 0 if it is missing.
async fn counter(node: &Node, name: &str) -> u64 {
    let metrics = node.get_at(node.admin_port().await, "/metrics").await;
    let value = metrics
        .lines()
        .find_map(|line| line.strip_prefix(&format!("plugnode_{name} ")));
    value.and_then(|value| value.parse().ok()).unwrap_or(0)
}

/// Waits until this many deliveries are counted as arrived. Their connections are idle then.
async fn delivered(node: &Node, count: u64) {
    let arrived = async {
        while counter(node, "webhooks_delivered_total").await < count {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("deliveries are counted", arrived).await;
}

#[tokio::test]
async fn tells_of_connection_dead_letter_and_disconnect() {
    let mut receiver = WebhookReceiver::start().await;
    let node = alone(&webhook("crm", &receiver.url(), "")).await;
    let mut client = Client::connect(&node).await;
    let request = receiver.next().await;
    let (id, kind) = checked(&request);
    let body = request.json();
    assert_eq!(kind, "connection");
    assert_eq!(body["data"]["client"]["id"], client.id());
    assert_eq!(body["data"]["namespace"], "/");
    assert_eq!(body["data"]["connection"]["transport"], "websocket");
    let event = body["data"]["event"].as_str().expect("it has an id");
    assert!(id.starts_with(event) && id.ends_with("-connection"), "{id}: {body}");

    delivered(&node, 1).await;
    client.emit("fail-reject", &[]).await;
    let request = receiver.next().await;
    assert_eq!(checked(&request).1, "dead-letter");
    let letter = &request.json()["data"]["deadLetter"];
    assert_eq!(
        (&letter["kind"], &letter["name"]),
        (&json!("message"), &json!("fail-reject"))
    );
    assert!(
        letter["reason"]
            .as_str()
            .is_some_and(|reason| reason.contains("asked to reject")),
        "{letter}"
    );

    delivered(&node, 2).await;
    drop(client);
    let request = receiver.next().await;
    assert_eq!(checked(&request).1, "disconnect");
    assert_eq!(request.json()["data"]["disconnect"]["reason"], "transport-close");
    assert_eq!(receiver.connections(), 1, "the connection is used again");
    delivered(&node, 3).await;
    assert!(!node.log().contains(&STANDARD.encode(KEY)), "{}", node.log());
}

#[tokio::test]
async fn events_and_namespaces_are_selected() {
    let (mut leaving, mut elsewhere) = (WebhookReceiver::start().await, WebhookReceiver::start().await);
    let webhooks = [
        webhook("leaving", &leaving.url(), "events = [\"disconnect\"]"),
        webhook("elsewhere", &elsewhere.url(), "namespaces = [\"/{room}\"]"),
    ];
    let rooms = app("/{room}", &component("faulty"), KEY_VALUE);
    let node = alone(&(rooms + &webhooks.concat())).await;
    drop(Client::connect(&node).await);
    assert_eq!(checked(&leaving.next().await).1, "disconnect");
    let _client = Client::connect_to(&node, "/kitchen", json!({}))
        .await
        .expect("it is admitted");
    assert_eq!(elsewhere.next().await.json()["data"]["namespace"], "/kitchen");
}

#[tokio::test]
async fn messages_of_handlers_are_passed_on_by_kind() {
    for script in ["tests/js/handlers/presence.js", "tests/py/handlers/presence.py"] {
        let (component, _folder) = crate::scripts::built(script).await;
        let mut receiver = WebhookReceiver::start().await;
        let orders = webhook("orders", &receiver.url(), "events = []\nkinds = [\"acme.*\"]");
        let node = Node::run(&(app("/", &component, KEY_VALUE) + &orders)).await;
        let mut client = Client::connect(&node).await;
        client.ask("order", &[json!({ "sku": 7 })]).await;
        let mut found = Vec::new();
        for _ in 0..2 {
            let request = receiver.next().await;
            assert_eq!(checked(&request).1, "custom");
            found.push(request.json()["data"]["custom"].clone());
        }
        found.sort_by_key(|custom| custom["kind"].to_string());
        let order = json!({ "kind": "acme.order/1", "data": { "sku": 7 } });
        assert_eq!(
            found,
            [json!({ "kind": "acme.bytes/1", "base64": "AP8=" }), order],
            "{script}"
        );
    }
}

#[tokio::test]
async fn failed_delivery_is_repeated_with_its_id() {
    let mut receiver = WebhookReceiver::start().await;
    receiver.answer(WebhookAnswer::Status(500));
    let node = alone(&webhook("crm", &receiver.url(), "events = [\"connection\"]")).await;
    let _client = Client::connect(&node).await;
    let (id, _) = checked(&receiver.next().await);
    receiver.answer(WebhookAnswer::Status(302));
    assert_eq!(checked(&receiver.next().await).0, id);
    receiver.answer(WebhookAnswer::Status(200));
    assert_eq!(checked(&receiver.next().await).0, id);
    assert!(node.log().contains("webhook not delivered"), "{}", node.log());
    assert_eq!(counter(&node, "webhook_attempts_failed_total").await, 2);
}

#[tokio::test]
async fn delivery_is_dropped_after_its_attempts() {
    let mut receiver = WebhookReceiver::start().await;
    receiver.answer(WebhookAnswer::Status(500));
    let node = alone(&webhook(
        "crm",
        &receiver.url(),
        "events = [\"connection\"]\nattempts = 2",
    ))
    .await;
    let _client = Client::connect(&node).await;
    let (id, _) = checked(&receiver.next().await);
    assert_eq!(checked(&receiver.next().await).0, id);
    let given_up = "webhooks_dropped_total{reason=\"given_up\"}";
    let dropped = async {
        while counter(&node, given_up).await == 0 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the delivery is dropped", dropped).await;
}

#[tokio::test]
async fn delivery_survives_kill_of_app_node() {
    let redis = RedisServer::start().await;
    let mut receiver = WebhookReceiver::start().await;
    let webhook = webhook("crm", &receiver.url(), "events = [\"connection\"]\ntimeout-ms = 60000");
    let cluster = Cluster::new(redis.url())
        .app("/", &component("faulty"), KEY_VALUE)
        .settings(&webhook);
    let (io, mut first) = tokio::join!(cluster.start_io(), cluster.start_app());
    // One is killed while it waits for an answer, and one while the delivery waits for its next attempt.
    receiver.answer(WebhookAnswer::Never);
    let _client = Client::connect(&io).await;
    let (id, _) = checked(&receiver.next().await);
    first.kill9().await;
    receiver.answer(WebhookAnswer::Status(503));
    let mut second = cluster.start_app().await;
    assert_eq!(checked(&receiver.next_of(&id).await).0, id);
    second.logged("webhook not delivered").await;
    second.kill9().await;
    receiver.answer(WebhookAnswer::Status(204));
    let _third = cluster.start_app().await;
    assert_eq!(checked(&receiver.next_of(&id).await).0, id);
}

#[tokio::test]
async fn slow_receiver_delays_neither_others_nor_the_app() {
    let (slow, mut fast) = (WebhookReceiver::start().await, WebhookReceiver::start().await);
    slow.answer(WebhookAnswer::Never);
    let lines = "events = [\"connection\"]";
    let webhooks =
        webhook("slow", &slow.url(), &format!("{lines}\nconcurrency = 1")) + &webhook("fast", &fast.url(), lines);
    let node = alone(&webhooks).await;
    let mut clients = Vec::new();
    for _ in 0..20 {
        clients.push(Client::connect(&node).await);
    }
    let mut ids = HashSet::new();
    while ids.len() < clients.len() {
        ids.insert(checked(&fast.next().await).0);
    }
    assert!(clients[0].ask("slow", &[json!(1)]).await.is_empty());
}

#[tokio::test]
async fn full_webhook_takes_nothing_from_another() {
    let (full, mut other) = (WebhookReceiver::start().await, WebhookReceiver::start().await);
    full.answer(WebhookAnswer::Status(500));
    let limit = "[transport]\ntimers = 4\nclient-timers = 1\n";
    let webhooks = webhook("full", &full.url(), "events = [\"connection\"]")
        + &webhook("other", &other.url(), "events = [\"connection\"]");
    let node = alone(&(limit.to_owned() + &webhooks)).await;
    let mut clients = Vec::new();
    let filling = async {
        while counter(&node, "webhooks_dropped_total{reason=\"full\"}").await < 5 {
            clients.push(Client::connect(&node).await);
            assert_eq!(checked(&other.next().await).1, "connection");
        }
    };
    within("deliveries are dropped", filling).await;
}

#[tokio::test]
async fn events_are_handled_while_no_delivery_can_be_stored() {
    let mut receiver = WebhookReceiver::start().await;
    receiver.answer(WebhookAnswer::Status(500));
    let limit = "[transport]\ntimers = 1\nclient-timers = 1\n";
    let node = alone(&(limit.to_owned() + &webhook("crm", &receiver.url(), "events = [\"connection\"]"))).await;
    let mut clients = Vec::new();
    for _ in 0..3 {
        clients.push(Client::connect(&node).await);
    }
    for client in &mut clients {
        assert!(client.ask("slow", &[json!(1)]).await.is_empty());
    }
    receiver.next().await;
    let full = async {
        while counter(&node, "webhooks_dropped_total{reason=\"full\"}").await == 0 {
            clients.push(Client::connect(&node).await);
        }
    };
    within("a delivery is dropped", full).await;
    assert!(!node.log().contains("dead=true"), "{}", node.log());
}

/// Starts a receiver whose answer begins with `head`, and goes on with `part` again and again, a thousand times as often without a pause.
/// Returns its URL.
async fn endless_receiver(head: &'static str, part: &'static str, pause: Duration) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("it is bound"));
    let part = part.repeat(if pause.is_zero() { 1_000 } else { 1 });
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let part = part.clone();
            tokio::spawn(async move {
                let _ = stream.read_u8().await;
                let _ = stream.write_all(head.as_bytes()).await;
                while stream.write_all(part.as_bytes()).await.is_ok() {
                    tokio::time::sleep(pause).await;
                }
            });
        }
    });
    url
}

#[tokio::test]
async fn endless_answers_end_in_bytes_and_in_time() {
    const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n";
    const PATIENT: &str = "timeout-ms = 60000";
    const SOON: &str = "timeout-ms = 500";
    let (at_once, slowly) = (Duration::ZERO, Duration::from_millis(10));
    let mut webhooks = String::new();
    for (name, head, part, pause, lines) in [
        ("continues", "", "HTTP/1.1 100 Continue\r\n\r\n", at_once, PATIENT),
        ("drips-continues", "", "HTTP/1.1 100 Continue\r\n\r\n", slowly, SOON),
        ("drips-headers", "HTTP/1.1 200 OK\r\n", "a: b\r\n", slowly, SOON),
        ("body", OK, "body of an answer", at_once, PATIENT),
        ("drips-body", OK, "b", slowly, PATIENT),
    ] {
        let url = endless_receiver(head, part, pause).await;
        let lines = format!("events = [\"connection\"]\nattempts = 1\nconcurrency = 1\n{lines}");
        webhooks += &webhook(name, &url, &lines);
    }
    let node = alone(&webhooks).await;
    let mut client = Client::connect(&node).await;
    // The status has arrived before an endless body.
    delivered(&node, 2).await;
    for failure in ["too many bytes", "no answer within 500 ms"] {
        node.logged(failure).await;
    }
    assert!(client.ask("slow", &[json!(1)]).await.is_empty());
    let given_up = async {
        while counter(&node, "webhooks_dropped_total{reason=\"given_up\"}").await < 3 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("the others are given up", given_up).await;
}

#[tokio::test]
async fn receiver_by_https_is_trusted_by_its_authority() {
    let (ours, others) = (temp_folder(), temp_folder());
    tokio::join!(make_certificates(ours.path()), make_certificates(others.path()));
    let mut receiver = WebhookReceiver::with_tls(ours.path(), "server").await;
    let misnamed = WebhookReceiver::with_tls(ours.path(), "client").await;
    let unknown = WebhookReceiver::with_tls(others.path(), "server").await;
    let lines = format!(
        "events = [\"connection\"]\nattempts = 1\nca = {:?}",
        ours.path().join("ca.crt")
    );
    let webhooks = [
        webhook("crm", &receiver.url(), &lines),
        webhook("misnamed", &misnamed.url(), &lines),
        webhook("unknown", &unknown.url(), &lines),
        // No authority that browsers trust has signed it.
        webhook("unset", &receiver.url(), "attempts = 1"),
    ];
    let node = alone(&webhooks.concat()).await;
    let _client = Client::connect(&node).await;
    assert_eq!(checked(&receiver.next().await).1, "connection");
    for (name, reason) in [
        ("misnamed", "not valid for name"),
        // The authorities have the same name.
        ("unknown", "BadSignature"),
        ("unset", "UnknownIssuer"),
    ] {
        let line = node.logged(reason).await;
        for part in ["webhook not delivered", name, "TLS handshake failed"] {
            assert!(line.contains(part), "{line}");
        }
    }
    assert!(receiver.is_empty() && misnamed.is_empty() && unknown.is_empty());
}

#[tokio::test]
async fn webhooks_are_replaced_by_sighup() {
    const CHANGED: &str = "configuration reloaded changed=the webhooks";
    let folder = temp_folder();
    let (file, secret) = (folder.path().join("plugnode.toml"), folder.path().join("crm.secret"));
    let (mut one, mut other) = (WebhookReceiver::start().await, WebhookReceiver::start().await);
    let apps = app("/", &component("faulty"), KEY_VALUE);
    let write = |webhooks: &str| fs::write(&file, format!("{apps}{webhooks}")).expect("the file can be written");
    let crm = |receiver: &WebhookReceiver| {
        let url = receiver.url();
        format!("[[webhook]]\nname = \"crm\"\nurl = {url:?}\nsecret-file = {secret:?}\nevents = [\"connection\"]\n")
    };
    write("");
    let node = Node::configured(&file, &[]).await;

    // The first one.
    fs::write(&secret, format!("whsec_{}", STANDARD.encode(KEY))).expect("the file can be written");
    write(&crm(&one));
    node.send_sighup();
    node.logged(CHANGED).await;
    let _first = Client::connect(&node).await;
    assert_eq!(checked(&one.next().await).1, "connection");

    // An invalid secret changes nothing.
    fs::write(&secret, "whsec_short").expect("the file can be written");
    write(&crm(&other));
    node.send_sighup();
    let line = node.logged("configuration not reloaded").await;
    assert!(line.contains("webhook \"crm\"") && !line.contains("short"), "{line}");
    let _second = Client::connect(&node).await;
    assert_eq!(checked(&one.next().await).1, "connection");

    // Another secret in the same file, then another receiver.
    fs::write(&secret, format!("whsec_{}", STANDARD.encode([7; 32]))).expect("the file can be written");
    write(&crm(&one));
    node.send_sighup();
    node.logged_times(CHANGED, 2).await;
    let _third = Client::connect(&node).await;
    let request = one.next().await;
    assert_ne!(request.header("webhook-signature"), signature(&request));
    fs::write(&secret, format!("whsec_{}", STANDARD.encode(KEY))).expect("the file can be written");
    write(&crm(&other));
    node.send_sighup();
    node.logged_times(CHANGED, 3).await;
    let _fourth = Client::connect(&node).await;
    assert_eq!(checked(&other.next().await).1, "connection");

    // None.
    write("");
    node.send_sighup();
    node.logged_times(CHANGED, 4).await;
    let (_, log) = node.stop_with_log().await;
    assert!(
        !log.contains("restart the process") && !log.contains(&STANDARD.encode(KEY)),
        "{log}"
    );
    assert!(one.is_empty() && other.is_empty());
}
