//! Packets that clients send and receive.

use super::*;
use plugnode_message::{Audience, Payload, QueryOrigin, Question, Scope, Selection};

async fn raw(fixture: &Fixture, query: &str) -> Client {
    let url = format!("ws://{}/socket.io/?transport=websocket&{query}", fixture.address);
    let (socket, _) = connect_async(url).await.unwrap();
    let id = String::new();
    let mut client = Client { socket, id };
    assert!(client.hear().await.unwrap().starts_with('0'));
    client
}

async fn more_apps() -> Fixture {
    Fixture::with(TransportSettings::default(), |setup| {
        for namespace in ["/chat", "/shop/{id}"] {
            setup.apps.push(AppNamespace {
                namespace: namespace.into(),
                admission: None,
                presence: Default::default(),
            });
        }
        setup.settings.engine.protocol_3 = true;
    })
    .await
}

fn message(event: &Event) -> (&str, &Payload) {
    match &event.kind {
        EventKind::Message { event, args, .. } => (event, args),
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn namespaces_have_separate_clients_and_unknown_are_refused() {
    let fixture = more_apps().await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    let mut ids = vec![client.id.clone()];
    for namespace in ["/chat", "/shop/7", "/shop/8"] {
        client.say(&format!("40{namespace},")).await;
        let answer = client.hear().await.unwrap();
        let connected = answer.strip_prefix(&format!("40{namespace},")).unwrap();
        let connected: serde_json::Value = serde_json::from_str(connected).unwrap();
        ids.push(connected["sid"].as_str().unwrap().to_owned());
    }
    client.say("40/nowhere,{}").await;
    assert_eq!(
        client.hear().await.unwrap(),
        r#"44/nowhere,{"message":"Invalid namespace"}"#
    );
    let connections = app.read_some(4).await;
    let expected: Vec<_> = ids.iter().map(|id| format!("{id} connection")).collect();
    assert_eq!(connections, expected);
    ids.dedup();
    assert_eq!(ids.len(), 4, "each has an id of its own");
    // Disconnecting from one namespace leaves the others connected.
    client.say("41/chat,").await;
    client.say("42/shop/8,[\"still\"]").await;
    let heard = app.read_some(2).await;
    assert_eq!(heard, [format!("{} disconnect", ids[1]), format!("{} still", ids[3])]);
    fixture.stop().await;
    assert_eq!(app.read_some(3).await.len(), 3);
}

#[tokio::test]
async fn event_names_may_be_any_text() {
    let fixture = more_apps().await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    app.read().await;
    for name in ["we\"ird\n\\", "", "é😀", "\u{1}", "12"] {
        let packet = format!("42{}", serde_json::json!([name, {"a": [null]}]));
        client.say(&packet).await;
        let events = app
            .handle(|event| {
                let (name, args) = message(event);
                vec![Command::Publish {
                    to: Audience {
                        namespace: event.namespace.clone(),
                        to: Scope::All,
                        except: Selection::default(),
                    },
                    event: name.into(),
                    args: args.clone(),
                    volatile: false,
                    local: false,
                }]
            })
            .await;
        assert_eq!(message(&events[0]).0, name);
        assert_eq!(client.hear().await.unwrap(), packet);
    }
    client.say("42[12]").await;
    assert_eq!(message(&app.handle(|_| Vec::new()).await[0]).0, "12");
    fixture.stop().await;
}

#[tokio::test]
async fn malformed_packets_close_the_connection() {
    let fixture = more_apps().await;
    let mut app = fixture.app().await;
    for packet in [
        "4abc",
        "42{}",
        "42[]",
        "42abc[\"a\"]",
        "42[\"disconnect\"]",
        "44{}",
        "9",
        "450-[\"a\"]",
        "4511-[\"a\"]",
        "451-[\"a\",{\"_placeholder\":true,\"num\":1}]",
        "42/chat,[\"a\"]",
        "41/chat,",
        "43/nowhere,1[]",
    ] {
        let mut client = Client::connect(fixture.address).await;
        client.say(packet).await;
        if packet.starts_with("451-") {
            client.socket.send(Message::binary(vec![1])).await.unwrap();
        }
        assert_eq!(client.hear().await, None, "{packet}");
        let heard = app.read_some(2).await;
        assert_eq!(
            heard,
            ["connection", "disconnect"].map(|word| format!("{} {word}", client.id))
        );
    }
    let mut early = raw(&fixture, "EIO=4").await;
    early.say("42[\"in no namespace\"]").await;
    assert_eq!(early.hear().await, None);
    let mut wrong = raw(&fixture, "EIO=4").await;
    wrong.say("40[]").await;
    assert_eq!(wrong.hear().await, None);
    app.reads_nothing().await;
    fixture.stop().await;
}

#[tokio::test]
async fn ignores_packets_for_a_namespace_that_was_left() {
    let fixture = more_apps().await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    client.say("40/chat,").await;
    assert!(client.hear().await.unwrap().starts_with("40/chat,"));
    for packet in [
        "41/chat,",
        "42/chat,[\"late\"]",
        "43/chat,1[]",
        "41/chat,",
        "42[\"still\"]",
    ] {
        client.say(packet).await;
    }
    let heard = app.read_some(4).await;
    assert!(
        heard[2].ends_with("disconnect") && heard[3].ends_with("still"),
        "{heard:?}"
    );
    fixture.stop().await;
}

#[tokio::test]
async fn passes_on_or_replaces_values_that_only_javascript_parses() {
    let fixture = more_apps().await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    app.read().await;
    let deep = format!("{}{}", "[".repeat(1_000), "]".repeat(1_000));
    for (sent, args) in [
        (r#"{"t":"\ud83d"}"#.to_owned(), r#"[{"t":"\ud83d"}]"#.to_owned()),
        ("1e999,-1e999".to_owned(), "[null,null]".to_owned()),
        (format!("{},0.1", "9".repeat(5_000)), "[null,0.1]".to_owned()),
        (deep.clone(), format!("[{deep}]")),
    ] {
        client.say(&format!("42[\"a\\ud83d\",{sent}]")).await;
        let events = app.handle(|_| Vec::new()).await;
        let (name, payload) = message(&events[0]);
        assert_eq!((name, &*payload.json), ("a\u{fffd}", &*args));
    }
    fixture.stop().await;
}

#[tokio::test]
async fn closes_connection_that_joins_no_namespace_in_time() {
    let fixture = Fixture::with(TransportSettings::default(), |setup| {
        setup.settings.connect_timeout = Duration::from_millis(100);
    })
    .await;
    let mut idle = raw(&fixture, "EIO=4").await;
    let mut client = Client::connect(fixture.address).await;
    assert_eq!(idle.hear().await, None);
    let mut app = fixture.app().await;
    client.say("42[\"still\"]").await;
    assert!(app.read_some(2).await[1].ends_with("still"));
    fixture.stop().await;
}

#[tokio::test]
async fn socket_io_2_client_joins_at_once_with_query_as_auth() {
    let fixture = more_apps().await;
    let mut app = fixture.app().await;
    let mut old = raw(&fixture, "EIO=3").await;
    assert_eq!(old.hear().await.unwrap(), "40");
    app.read().await;
    old.say("40/chat?token=a%20b").await;
    assert!(old.hear().await.unwrap().starts_with("40/chat"));
    let events = app.handle(|_| Vec::new()).await;
    let EventKind::Connection(handshake) = &events[0].kind else {
        panic!("{events:?}")
    };
    assert_eq!(handshake.auth.as_deref(), Some(r#"{"token":"a b"}"#));
    old.say("40/nowhere").await;
    assert_eq!(
        old.hear().await.unwrap(),
        r#"44/nowhere,{"message":"Invalid namespace"}"#
    );
    fixture.stop().await;
    assert_eq!(app.read_some(2).await.len(), 2);

    let fixture = Fixture::start(TransportSettings::default()).await;
    let url = format!("ws://{}/socket.io/?transport=websocket&EIO=3", fixture.address);
    assert!(
        connect_async(url).await.is_err(),
        "Socket.IO 2 is refused unless enabled"
    );
    fixture.app().await.reads_nothing().await;
    fixture.stop().await;
}

#[tokio::test]
async fn question_is_answered_after_earlier_commands() {
    let fixture = more_apps().await;
    let mut app = fixture.app().await;
    let mut asking = Client::connect(fixture.address).await;
    let mut other = Client::connect(fixture.address).await;
    app.read_some(2).await;
    let everybody = || Audience {
        namespace: "/".into(),
        to: Scope::All,
        except: Selection::default(),
    };
    let question = |event: &Event, question| {
        let client = event.client.as_ref().unwrap();
        Command::Ask {
            origin: QueryOrigin {
                id: "1-1.0".into(),
                namespace: event.namespace.clone(),
                client: client.id.clone(),
                io_node: client.io_node.clone(),
            },
            question,
            timeout_ms: 5_000,
            token: Bytes::from_static(b"token"),
        }
    };
    let reply = async |app: &mut App| loop {
        for event in app.handle(|_| Vec::new()).await {
            if let EventKind::Reply { token, answer } = &event.kind {
                assert_eq!(token, "token");
                return serde_json::from_str::<serde_json::Value>(&answer.as_ref().unwrap().json).unwrap();
            }
        }
    };

    asking.say("42[\"join\"]").await;
    app.handle(|event| {
        let who = everybody();
        let channels = vec!["room".into()];
        vec![
            Command::Subscribe { who, channels },
            question(
                event,
                Question::Clients {
                    who: everybody(),
                    most: 1,
                },
            ),
        ]
    })
    .await;
    let answer = reply(&mut app).await;
    assert_eq!(answer[0]["count"], 2);
    assert_eq!(answer[0]["clients"][0]["channels"], serde_json::json!(["room"]));
    assert_eq!(answer[0]["nodes"], serde_json::json!(["io"]));

    asking.say("42[\"ask\"]").await;
    app.handle(|event| {
        let args = Payload {
            json: "[1]".into(),
            attachments: Vec::new(),
        };
        let (to, event_name) = (everybody(), "question".into());
        vec![question(
            event,
            Question::Acks {
                to,
                event: event_name,
                args,
            },
        )]
    })
    .await;
    assert_eq!(asking.hear().await.unwrap(), "421[\"question\",1]");
    assert_eq!(other.hear().await.unwrap(), "421[\"question\",1]");
    asking.say("431[\"yes\"]").await;
    // A client that leaves is not waited for.
    other.socket.close(None).await.unwrap();
    let answer = reply(&mut app).await;
    assert_eq!(
        answer[0]["answers"],
        serde_json::json!([{"id": asking.id, "args": ["yes"]}])
    );
    assert_eq!(answer[0]["missing"], serde_json::json!([other.id]));

    let channels = |event: &Event| {
        let namespace = "/".into();
        vec![question(event, Question::Channels { namespace, most: 10 })]
    };
    asking.say("42[\"channels\"]").await;
    app.handle(channels).await;
    let answer = reply(&mut app).await;
    assert_eq!(
        answer[0]["channels"],
        serde_json::json!({"room": 1}),
        "the client that left is not counted"
    );
    fixture.stop().await;
}

#[tokio::test]
async fn reply_to_departed_client_is_an_event_without_client() {
    let fixture = more_apps().await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    app.read_some(1).await;
    client.socket.close(None).await.unwrap();
    let asked = app
        .handle(|event| {
            assert!(matches!(event.kind, EventKind::Disconnect(_)));
            let client = event.client.as_ref().unwrap();
            vec![Command::Ask {
                origin: QueryOrigin {
                    id: "1-1.0".into(),
                    namespace: event.namespace.clone(),
                    client: client.id.clone(),
                    io_node: client.io_node.clone(),
                },
                question: Question::Settled,
                timeout_ms: 5_000,
                token: Bytes::from_static(b"token"),
            }]
        })
        .await;
    let reply = app.handle(|_| Vec::new()).await.remove(0);
    assert_eq!(reply.client, None);
    let EventKind::LateReply { client, token, answer } = &reply.kind else {
        panic!("{reply:?}")
    };
    assert_eq!(Some(client), asked[0].in_order_with());
    assert_eq!(token, "token");
    assert_eq!(answer.json, r#"[{"nodes":["io"],"silent":[]}]"#);
    fixture.stop().await;
}

/// A backlog with room for `events` events of one client.
fn with_room_for(events: usize) -> TransportSettings {
    TransportSettings {
        backlog: Backlog {
            events,
            client_events: events,
            ..Backlog::default()
        },
        ..TransportSettings::default()
    }
}

/// More events than may wait at once, in one POST and in one burst by websocket.
#[tokio::test]
async fn reads_bursts_completely_and_in_order() {
    const COUNT: usize = 9_000;
    let fixture = Fixture::with(with_room_for(20_000), |setup| {
        setup.settings.engine.max_payload = 1_000_000
    })
    .await;
    let mut app = fixture.app().await;
    let polling = super::engine::Polling::open(&fixture).await;
    polling.post("40").await;
    app.read().await;
    let packets: Vec<String> = (0..COUNT).map(|number| format!("42[\"{number}\"]")).collect();
    let body = packets.join("\x1e");
    let (posted, heard) = tokio::join!(polling.post(&body), app.read_some(COUNT));
    assert!(posted.starts_with("HTTP/1.1 200 "), "{posted}");
    let numbers = |heard: &[String]| -> Vec<usize> {
        let words = heard.iter().map(|words| words.rsplit(' ').next().unwrap().parse());
        words.map(|number| number.unwrap()).collect()
    };
    assert_eq!(numbers(&heard), (0..COUNT).collect::<Vec<_>>());

    let mut client = Client::connect(fixture.address).await;
    app.read().await;
    let sending = async {
        for packet in &packets {
            client.say(packet).await;
        }
    };
    let ((), heard) = tokio::join!(sending, app.read_some(COUNT));
    assert_eq!(numbers(&heard), (0..COUNT).collect::<Vec<_>>());
    fixture.stop().await;
}

#[tokio::test]
async fn burst_of_echoes_does_not_disconnect_the_client() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    app.read().await;
    // Twice what may wait for a client that does not read.
    let packet = |number: usize| format!("42[\"{number}\",\"{}\"]", "x".repeat(90_000));
    let echoing = async {
        let mut taken = 0;
        while taken < 24 {
            let echo = |event: &Event| {
                let (name, args) = message(event);
                vec![Command::Publish {
                    to: Audience {
                        namespace: event.namespace.clone(),
                        to: Scope::All,
                        except: Selection::default(),
                    },
                    event: name.into(),
                    args: args.clone(),
                    volatile: false,
                    local: false,
                }]
            };
            taken += app.handle(echo).await.len();
        }
    };
    let Client { socket, .. } = &mut client;
    let (mut sending, mut listening) = socket.split();
    let send = async {
        for number in 0..24 {
            sending.send(Message::text(packet(number))).await.unwrap();
        }
    };
    let listen = async {
        for number in 0..24 {
            let heard = timeout(SOON, listening.next()).await.unwrap().unwrap().unwrap();
            assert_eq!(heard.into_text().unwrap().as_str(), packet(number));
        }
    };
    tokio::join!(send, echoing, listen);
    fixture.stop().await;
}

#[tokio::test]
async fn too_large_message_gets_its_close_code() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    app.read().await;
    client.say(&format!("42[\"{}\"]", "x".repeat(100_001))).await;
    let told = timeout(SOON, client.socket.next()).await.unwrap().unwrap().unwrap();
    let Message::Close(Some(frame)) = told else {
        panic!("{told:?}")
    };
    assert_eq!(u16::from(frame.code), 1009);
    assert!(app.read().await[0].ends_with(" disconnect"));
    fixture.stop().await;
}

#[tokio::test]
async fn refusals_are_bounded_for_a_client_that_does_not_read() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    app.read().await;
    // Each refusal is as long as its packet.
    let packet = format!("40/{},", "x".repeat(90_000));
    let flood = async { while client.socket.send(Message::text(packet.clone())).await.is_ok() {} };
    timeout(SOON, flood).await.expect("its connection ends");
    assert!(app.read().await[0].ends_with(" disconnect"));
    fixture.stop().await;
}

#[tokio::test]
async fn acknowledges_every_event_of_a_burst() {
    const COUNT: usize = 3_000;
    let fixture = Fixture::with(with_room_for(10_000), |setup| setup.settings.refuse_after = SOON).await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    app.read().await;
    let acknowledging = async {
        // Lets the log fill before the first event is answered.
        sleep(MOMENT).await;
        let mut taken = 0;
        while taken < COUNT {
            let acknowledge = |event: &Event| match &event.kind {
                EventKind::Message { ack: Some(id), .. } => vec![Command::Ack {
                    id: id.clone(),
                    args: Payload {
                        json: "[]".into(),
                        attachments: Vec::new(),
                    },
                }],
                other => panic!("{other:?}"),
            };
            taken += app.handle(acknowledge).await.len();
        }
    };
    let (mut sending, mut listening) = (&mut client.socket).split();
    let send = async {
        for number in 0..COUNT {
            let packet = format!("42{number}[\"n\"]");
            sending.send(Message::text(packet)).await.unwrap();
        }
    };
    let listen = async {
        for number in 0..COUNT {
            let heard = timeout(SOON, listening.next()).await.expect("all are acknowledged");
            let heard = heard.unwrap().unwrap().into_text().unwrap();
            assert_eq!(heard.as_str(), format!("43{number}[]"));
        }
    };
    tokio::join!(send, acknowledging, listen);
    fixture.stop().await;
}

#[tokio::test]
async fn limits_namespaces_of_a_connection() {
    let fixture = Fixture::with(TransportSettings::default(), |setup| {
        setup.apps.push(AppNamespace {
            namespace: "/shop/{id}".into(),
            admission: None,
            presence: Default::default(),
        });
        setup.settings.namespaces_per_connection = 3;
    })
    .await;
    let mut client = Client::connect(fixture.address).await;
    for number in 0..2 {
        client.say(&format!("40/shop/{number},")).await;
        let connected = client.hear().await.unwrap();
        assert!(connected.starts_with(&format!("40/shop/{number},{{")), "{connected}");
    }
    client.say("40/shop/2,").await;
    assert_eq!(
        client.hear().await.unwrap(),
        r#"44/shop/2,{"message":"too many namespaces"}"#
    );
    // Namespaces that it left do not count.
    client.say("41/shop/0,").await;
    client.say("40/shop/2,").await;
    assert!(client.hear().await.unwrap().starts_with("40/shop/2,{"));
    fixture.stop().await;
}

#[tokio::test]
async fn connecting_twice_to_a_namespace_closes_the_connection() {
    let fixture = more_apps().await;
    let mut app = fixture.app().await;
    for namespace in ["", "/chat,"] {
        let mut client = Client::connect(fixture.address).await;
        app.read().await;
        if !namespace.is_empty() {
            client.say(&format!("40{namespace}")).await;
            client.hear().await.unwrap();
            app.read().await;
        }
        client.say(&format!("40{namespace}")).await;
        assert_eq!(client.hear().await, None, "{namespace}");
        let left = app.read_some(1 + usize::from(!namespace.is_empty())).await;
        assert!(left.iter().all(|words| words.ends_with(" disconnect")), "{left:?}");
    }
    fixture.stop().await;
}

#[tokio::test]
async fn clients_of_a_connection_share_its_headers() {
    let fixture = more_apps().await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    let mut events = app.handle(|_| Vec::new()).await;
    client.say("40/chat,").await;
    events.append(&mut app.handle(|_| Vec::new()).await);
    let handshakes: Vec<_> = events
        .iter()
        .map(|event| match &event.kind {
            EventKind::Connection(handshake) => handshake,
            other => panic!("{other:?}"),
        })
        .collect();
    assert!(!handshakes[0].headers.is_empty());
    assert!(Arc::ptr_eq(&handshakes[0].headers, &handshakes[1].headers));
    assert!(Arc::ptr_eq(&handshakes[0].query, &handshakes[1].query));
    fixture.stop().await;
}

#[tokio::test]
async fn ignores_noop_packets_and_keeps_line_separators() {
    let fixture = more_apps().await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    app.read().await;
    client.say("5").await;
    client.say("6").await;
    client.say("42[\"a\u{2028}b\",\"\u{2029}\"]").await;
    let events = app.handle(|_| Vec::new()).await;
    let (name, args) = message(&events[0]);
    assert_eq!((name, &*args.json), ("a\u{2028}b", "[\"\u{2029}\"]"));
    fixture.stop().await;
}

#[tokio::test]
async fn forgets_requests_of_silent_clients() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let mut asking = Client::connect(fixture.address).await;
    let mut silent = Client::connect(fixture.address).await;
    app.read_some(2).await;
    let open = |client: &Client| {
        let socket = fixture.namespaces.find(&"/".into(), &client.id.as_str().into());
        socket.expect("a connected client").requests.len()
    };
    asking.say("42[\"ask\"]").await;
    app.handle(|event| {
        let client = event.client.as_ref().unwrap();
        let to = Audience {
            namespace: "/".into(),
            to: Scope::All,
            except: Selection::default(),
        };
        let args = Payload {
            json: "[1]".into(),
            attachments: Vec::new(),
        };
        vec![Command::Ask {
            origin: QueryOrigin {
                id: "1-1.0".into(),
                namespace: event.namespace.clone(),
                client: client.id.clone(),
                io_node: client.io_node.clone(),
            },
            question: Question::Acks {
                to,
                event: "question".into(),
                args,
            },
            timeout_ms: 100,
            token: Bytes::new(),
        }]
    })
    .await;
    assert_eq!(silent.hear().await.unwrap(), "421[\"question\",1]");
    assert_eq!(asking.hear().await.unwrap(), "421[\"question\",1]");
    assert_eq!(open(&silent), 1);
    assert!(app.read().await[0].ends_with(" reply"));
    assert_eq!((open(&silent), open(&asking)), (0, 0));
    fixture.stop().await;
}

#[tokio::test]
async fn refuses_long_names() {
    let fixture = Fixture::with(TransportSettings::default(), |setup| {
        setup.apps.push(AppNamespace {
            namespace: "/shop/{id}".into(),
            admission: None,
            presence: Default::default(),
        });
    })
    .await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    app.read_some(1).await;
    let fits = format!("/shop/{}", "x".repeat(1_024 - 6));
    client.say(&format!("40{fits},")).await;
    assert!(client.hear().await.unwrap().starts_with(&format!("40{fits},")));
    client.say(&format!("40{fits}y,")).await;
    let refused = client.hear().await.unwrap();
    let error = r#"{"message":"the namespace's name is longer than 1024 bytes"}"#;
    assert_eq!(refused, format!("44{fits}y,{error}"));
    client.say(&format!("42[\"{}\"]", "e".repeat(1_024))).await;
    assert_eq!(app.read_some(2).await.len(), 2);
    client.say(&format!("42[\"{}\"]", "e".repeat(1_025))).await;
    assert_eq!(client.hear().await, None);
    fixture.stop().await;
}

#[tokio::test]
async fn limits_number_of_attachments() {
    let fixture = Fixture::start(TransportSettings::default()).await;
    let mut app = fixture.app().await;
    let mut client = Client::connect(fixture.address).await;
    app.read_some(1).await;
    client.say("4510-[\"many\"]").await;
    for _ in 0..10 {
        let _ = client.socket.feed(Message::binary(Bytes::new())).await;
    }
    client.socket.flush().await.unwrap();
    assert!(app.read().await[0].ends_with(" many"));
    client.say("4511-[\"many\"]").await;
    assert_eq!(client.hear().await, None);
    fixture.stop().await;
}
