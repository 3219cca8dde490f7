//! Parsing, keys and refusals, without a transport.

use serde_json::{Value, json};

use super::keys::{KeyRing, Permission};
use super::media::Media;
use super::plan::{MAX_DEPTH, Plan, Work, plan};
use super::problem::Problem;
use super::settings::{ApiKey, ApiSettings};
use super::{openapi, request};
use bytes::Bytes;
use hyper::header::{ACCEPT, CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderValue};
use plugnode_message::{CallAction, Command, Scope};
use plugnode_settings::Secret;

fn planned(operation: Permission, body: &Value) -> Result<Plan, Problem> {
    let body = Media::Json.read(&Bytes::from(body.to_string())).unwrap();
    plan(operation, &body, 3)
}

fn refused(operation: Permission, body: &Value) -> (u16, String) {
    let problem = planned(operation, body).unwrap_err();
    (problem.status.as_u16(), problem.body.field.unwrap_or_default())
}

#[test]
fn publish_becomes_a_command() {
    let body = json!({ "namespace": "/chat", "to": ["a"], "except": { "clients": ["x"] }, "event": "hi", "args": [1, { "b": null }] });
    let plan = planned(Permission::Publish, &body).unwrap();
    assert_eq!(plan.namespaces, ["/chat"]);
    let Work::Commands(commands) = plan.work else {
        panic!("commands")
    };
    let [Command::Publish { to, event, args, .. }] = &commands[..] else {
        panic!("one publish")
    };
    assert!(matches!(&to.to, Scope::Only(some) if some.channels == ["a".into()] && some.clients.is_empty()));
    assert_eq!((&**event, &*args.json), ("hi", r#"[1,{"b":null}]"#));
}

#[test]
fn call_for_one_client_is_in_its_order() {
    let order = |body: Value| planned(Permission::Publish, &body).unwrap().order.unwrap();
    assert_eq!(order(json!({ "clients": ["x"], "event": "e" })).as_str(), "x");
    let batch = json!([{ "clients": ["x"], "event": "e" }, { "clients": ["x"], "event": "f" }]);
    assert_eq!(order(batch).as_str(), "x");
    let mixed = json!([{ "clients": ["x"], "event": "e" }, { "all": true, "event": "f" }]);
    assert_eq!(order(mixed).as_str(), "#/#");
}

#[test]
fn problems_name_the_field() {
    use Permission::{Disconnect, Event, Find, Join, Publish};
    let long = "x".repeat(1_025);
    for (operation, body, expected) in [
        (Publish, json!({ "all": true }), (422, "")),
        (Publish, json!({ "all": true, "event": 1 }), (422, "event")),
        (Publish, json!({ "all": true, "event": "connect" }), (422, "event")),
        (Publish, json!({ "event": "e" }), (422, "all")),
        (Publish, json!({ "all": true, "to": ["a"], "event": "e" }), (422, "all")),
        (Publish, json!({ "to": [7], "event": "e" }), (422, "to[0]")),
        (Publish, json!({ "to": ["a", long], "event": "e" }), (422, "to[1]")),
        (Publish, json!({ "all": true, "event": "e", "args": {} }), (422, "args")),
        (Publish, json!({ "all": true, "event": "e", "more": 1 }), (422, "more")),
        (
            Publish,
            json!([{ "all": true, "event": "e" }, { "all": true, "event": "e", "args": 1 }]),
            (422, "[1].args"),
        ),
        (Publish, json!([]), (422, "")),
        (Publish, json!([1, 2, 3, 4]), (422, "[0]")),
        (Publish, json!("text"), (422, "")),
        (Join, json!({ "clients": ["x"], "channels": [] }), (422, "channels")),
        (
            Join,
            json!({ "clients": ["x"], "channels": [""] }),
            (422, "channels[0]"),
        ),
        (
            Disconnect,
            json!({ "namespace": "chat", "all": true }),
            (422, "namespace"),
        ),
        (Find, json!({ "all": true, "timeout-ms": 0 }), (422, "timeout-ms")),
        (Find, json!({ "all": true, "most": 10_001 }), (422, "most")),
        (Event, json!({ "kind": "plugnode.x/1" }), (422, "kind")),
        (Event, json!({ "kind": "a/1", "wait": "long" }), (422, "wait")),
    ] {
        let (status, field) = refused(operation, &body);
        assert_eq!((status, &*field), expected, "{operation:?} {body}");
    }
    let item = json!({ "all": true, "event": "e" });
    assert_eq!(refused(Publish, &json!([item, item, item, item])).0, 413);
}

#[test]
fn arguments_and_data_have_a_depth_that_handlers_can_read() {
    for (operation, before, field) in [
        (Permission::Publish, r#""all":true,"event":"e","args""#, "args"),
        (Permission::Event, r#""kind":"a/1","data""#, "data"),
    ] {
        let planned = |depth| {
            let body = format!("{{{before}:{}{}}}", "[".repeat(depth), "]".repeat(depth));
            plan(operation, &Media::Json.read(&body.into()).unwrap(), 3)
        };
        planned(MAX_DEPTH).unwrap();
        let problem = planned(MAX_DEPTH + 1).unwrap_err();
        assert_eq!(
            (problem.status.as_u16(), problem.body.field.as_deref()),
            (422, Some(field))
        );
        assert!(problem.body.detail.contains("900 levels"), "{problem:?}");
    }
}

#[test]
fn deep_or_broken_json_is_refused() {
    for (text, status) in [
        (
            format!(
                r#"{{"all":true,"event":"e","args":{}{}}}"#,
                "[".repeat(5_000),
                "]".repeat(5_000)
            ),
            422,
        ),
        ("[".repeat(100_000), 422),
        ("{\"a\":".repeat(100_000), 422),
        ("{\"all\":true,\"event\":\"e\"} x".to_owned(), 400),
        (String::new(), 400),
    ] {
        let body = Media::Json.read(&Bytes::from(text.clone())).unwrap();
        let problem = plan(Permission::Publish, &body, 3).unwrap_err();
        assert_eq!(problem.status.as_u16(), status, "{}", &text[..text.len().min(40)]);
    }
    assert_eq!(Media::Json.read(&Bytes::from_static(b"\xff")).unwrap_err().status, 400);
    assert_eq!(
        Media::MessagePack
            .read(&Bytes::from_static(b"\xc1"))
            .unwrap_err()
            .status,
        400
    );
}

#[test]
fn message_pack_carries_binary_values() {
    // [{all: true, event: "e", args: [bin "ab"]}, {all: true, event: "f", args: [1, bin "cd"]}]
    let body = b"\x92\x83\xa3all\xc3\xa5event\xa1e\xa4args\x91\xc4\x02ab\x83\xa3all\xc3\xa5event\xa1f\xa4args\x92\x01\xc4\x02cd";
    let body = Media::MessagePack.read(&Bytes::from_static(body)).unwrap();
    let Work::Commands(commands) = plan(Permission::Publish, &body, 3).unwrap().work else {
        panic!("commands")
    };
    let args = commands.iter().map(|command| match command {
        Command::Publish { args, .. } => (args.json.to_string(), args.attachments.clone()),
        other => panic!("{other:?}"),
    });
    let placed = r#"{"_placeholder":true,"num":0}"#;
    let expected = [
        (format!("[{placed}]"), vec![Bytes::from("ab")]),
        (format!("[1,{placed}]"), vec![Bytes::from("cd")]),
    ];
    assert_eq!(args.collect::<Vec<_>>(), expected);

    let body = Media::MessagePack
        .read(&Bytes::from_static(b"\x82\xa4kind\xa3a/1\xa4data\xc4\x02ab"))
        .unwrap();
    let Work::Event {
        action: CallAction::Event { data, content_type, .. },
        ..
    } = plan(Permission::Event, &body, 3).unwrap().work
    else {
        panic!("an event")
    };
    assert_eq!(
        (&data[..], content_type.as_deref()),
        (&b"ab"[..], Some("application/octet-stream"))
    );
}

#[test]
fn media_types_are_negotiated() {
    let headers = |name, value| HeaderMap::from_iter([(name, HeaderValue::from_static(value))]);
    let body = |value| Media::of_body(&headers(CONTENT_TYPE, value)).map_err(|problem| problem.status.as_u16());
    assert_eq!(body("application/json; charset=utf-8"), Ok(Media::Json));
    assert_eq!(body("application/x-msgpack"), Ok(Media::MessagePack));
    assert_eq!(body("application/json; charset=\"UTF-8\""), Ok(Media::Json));
    for refused in [
        "text/plain",
        "application/json; charset=latin1",
        "application/json, text/html",
    ] {
        assert_eq!(body(refused), Err(415), "{refused}");
    }
    let mut two = headers(CONTENT_TYPE, "application/json");
    two.append(CONTENT_TYPE, HeaderValue::from_static("application/msgpack"));
    assert!(Media::of_body(&two).is_err());
    let mut packed = headers(CONTENT_TYPE, "application/json");
    packed.insert(CONTENT_ENCODING, HeaderValue::from_static("identity"));
    assert!(Media::of_body(&packed).is_ok());
    packed.append(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    let problem = Media::of_body(&packed).unwrap_err();
    assert_eq!(problem.status.as_u16(), 415);
    let answer =
        |value| Media::for_answer(&headers(ACCEPT, value), Media::Json).map_err(|problem| problem.status.as_u16());
    assert_eq!(answer("application/msgpack, */*"), Ok(Media::MessagePack));
    assert_eq!(answer("text/html, */*;q=0.1"), Ok(Media::Json));
    assert_eq!(answer("application/json;q=0, text/html"), Err(406));
}

fn key(secret: &str) -> ApiKey {
    ApiKey {
        name: "office".into(),
        key: Some(Secret::from(secret)),
        key_file: None,
        namespaces: vec!["/shop/{id}".into()],
        permissions: vec![Permission::Publish],
        calls_per_second: 2,
        burst_seconds: 1,
    }
}

fn ring(keys: Vec<ApiKey>) -> anyhow::Result<KeyRing> {
    KeyRing::read(&ApiSettings {
        keys,
        max_calls: 9,
        ..ApiSettings::default()
    })
}

#[test]
fn key_leaves_room_for_calls_of_others() {
    let ring = ring(vec![key(&"a".repeat(32)), key(&"b".repeat(32))]).unwrap();
    let all_of = |number| -> Vec<_> { std::iter::from_fn(|| ring.room(ring.get(number))).collect() };
    let (one, other) = (all_of(0), all_of(1));
    assert_eq!((one.len(), other.len()), (7, 2));
    drop(one);
    assert_eq!(all_of(1).len(), 5);
}

#[test]
fn key_has_its_permissions_namespaces_and_rate() {
    let secret = "0123456789abcdef0123456789abcdef";
    let ring = ring(vec![key(secret)]).unwrap();
    assert_eq!(ring.find(b"0123456789abcdef0123456789abcdeF"), None);
    let key = ring.get(ring.find(secret.as_bytes()).unwrap());
    assert!(key.may(Permission::Publish) && !key.may(Permission::Event));
    assert!(key.may_use("/shop/7") && !key.may_use("/") && !key.may_use("/shop/7/8"));
    let now = std::time::Instant::now();
    assert_eq!((0..10).take_while(|_| key.count(now).is_ok()).count(), 2);
    assert!(key.count(now + std::time::Duration::from_secs(1)).is_ok());
}

#[test]
fn weak_or_shared_secret_is_refused_without_being_shown() {
    let secret = "0123456789abcdef0123456789abcdef";
    for keys in [
        vec![key("hunter2")],
        vec![key(secret), key(secret)],
        vec![key("0123456789abcdef 0123456789abcdef")],
    ] {
        let error = format!("{:#}", ring(keys).unwrap_err());
        assert!(
            error.contains("[[api.key]]") && !error.contains("hunter2") && !error.contains("0123"),
            "{error}"
        );
    }
}

#[test]
fn openapi_document_describes_each_operation() {
    let document: Value = serde_json::from_str(openapi::document()).unwrap();
    for operation in ["publish", "join", "leave", "disconnect", "find", "presence", "event"] {
        assert!(
            document["paths"][format!("/api/v1/{operation}")]["post"]["responses"]["200"].is_object(),
            "{operation}"
        );
    }
    let publish = &document["components"]["schemas"]["Publish"];
    assert_eq!(publish["additionalProperties"], false);
    assert!(publish["properties"]["args"]["items"].is_boolean() || publish["properties"]["args"]["items"].is_object());
    let _ = std::any::type_name::<request::Handled>();
}

#[test]
fn openapi_file_is_up_to_date() {
    const RENEW: &str = "UPDATE=1 cargo test -p plugnode-server --lib openapi_file";
    let file = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/openapi.json");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&file, openapi::document()).unwrap();
    }
    let current = std::fs::read_to_string(&file).unwrap_or_default();
    assert!(
        current == openapi::document(),
        "{} is stale; renew it: {RENEW}",
        file.display()
    );
}
