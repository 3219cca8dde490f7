//! Commands to io-nodes: admission of clients, answers to failed events, and queries.

use super::*;
use plugnode_message::{Audience, DisconnectReason, QueryOrigin, Question, Refusal, Scope};

struct Fixture {
    memory: Memory,
    io: IoSession,
    shutdown: Shutdown,
    _app_node: AppNode,
}

impl Fixture {
    async fn start(namespace: &str, admission: bool) -> Self {
        Self::start_with(|app| {
            app.namespace = namespace.into();
            app.handler.admission = admission;
        })
        .await
    }

    async fn start_with(set: impl FnOnce(&mut AppSettings)) -> Self {
        let memory = memory();
        let io = join_io(&memory).await;
        let shutdown = Shutdown::new();
        let store = Store::new(&memory, StoreMode::Normal);
        let transport = memory.clone().into();
        let _app_node = start_with(set, transport, store, &shutdown).await;
        Self {
            memory,
            io,
            shutdown,
            _app_node,
        }
    }

    async fn commands(&mut self, events: Vec<Event>, count: usize) -> Vec<Command> {
        assert!(self.io.inbox.ingest(events).await.unwrap().is_empty());
        let mut commands = Vec::new();
        while commands.len() < count {
            let more = timeout(SOON, self.io.outbox.next()).await.expect("commands come");
            commands.extend(more.unwrap());
        }
        assert_eq!(commands.len(), count, "{commands:?}");
        commands
    }
}

fn connecting(client: &str, auth: &str) -> Event {
    let mut event = connection(client);
    if let EventKind::Connection(handshake) = &mut event.kind {
        handshake.auth = Some(auth.to_owned().into());
    }
    event
}

fn message_with(client: &str, name: &str, args: &str) -> Event {
    let mut event = message(client, name, 1);
    if let EventKind::Message { args: payload, .. } = &mut event.kind {
        payload.json = args.to_owned().into();
    }
    event
}

fn disconnect_of(client: &str) -> Event {
    event(client, EventKind::Disconnect(DisconnectReason::Client.into()))
}

fn verdict(client: &str, refusal: Option<(&str, Option<&str>)>) -> Command {
    Command::Admit {
        namespace: "/".into(),
        client: client.into(),
        refusal: refusal.map(|(message, data)| Refusal {
            message: message.into(),
            data: data.map(Into::into),
        }),
    }
}

#[tokio::test]
async fn admission_is_decided_before_other_commands() {
    let mut app = Fixture::start("/", true).await;
    let commands = app.commands(vec![connecting("in", r#"{"a":1}"#)], 2).await;
    assert_eq!(commands[0], verdict("in", None));
    assert!(matches!(commands[1], Command::PatchAttributes { .. }), "{commands:?}");
    // A refusal drops the event's other commands, but not its writes.
    let commands = app
        .commands(vec![connecting("out", r#"{"refuse":"full","data":{"code":7}}"#)], 1)
        .await;
    assert_eq!(commands, [verdict("out", Some(("full", Some(r#"{"code":7}"#))))]);
    let written = app.memory.get("default", &["refused".into()], 100).await.unwrap();
    assert_eq!(written, [Some(Bytes::from_static(b"\"full\""))]);
    // A connection event that fails refuses the client.
    let commands = app.commands(vec![connecting("lost", r#"{"break":true}"#)], 1).await;
    assert_eq!(commands, [verdict("lost", Some(("the server could not decide", None)))]);
    assert_eq!(app.memory.dead_letters(10).await.unwrap().len(), 1);
    // Other events make no such command.
    let commands = app.commands(vec![message("in", "where", 1)], 1).await;
    assert!(matches!(commands[0], Command::Ack { .. }), "{commands:?}");
    end(app.shutdown).await;
}

#[tokio::test]
async fn no_handler_gets_disconnect_of_refused_client() {
    let mut app = Fixture::start("/", true).await;
    let watch = app
        .commands(vec![connecting("watcher", "1"), message("watcher", "watch", 1)], 4)
        .await;
    assert_eq!(watch[0], verdict("watcher", None));
    // `early` leaves before it is refused, `late` after; `guest` is admitted and leaves.
    let commands = app
        .commands(
            vec![
                connecting("early", r#"{"refuse":"no"}"#),
                disconnect_of("early"),
                connecting("late", r#"{"refuse":"no"}"#),
            ],
            2,
        )
        .await;
    assert!(commands.iter().all(Command::is_refusal), "{commands:?}");
    let events = vec![disconnect_of("late"), connecting("guest", "1"), disconnect_of("guest")];
    let commands = app.commands(events, 3).await;
    let gone = match &commands[2] {
        Command::Publish { event, args, .. } => (event.to_string(), args.json.to_string()),
        other => panic!("{other:?}"),
    };
    assert_eq!(gone.0, "gone");
    assert!(gone.1.contains("guest"), "{gone:?}");
    assert!(app.memory.dead_letters(10).await.unwrap().is_empty());
    end(app.shutdown).await;
}

#[tokio::test]
async fn refusing_without_admission_is_an_error() {
    let mut app = Fixture::start("/", false).await;
    let commands = app
        .commands(vec![connecting("a", "1"), message("a", "where", 1)], 2)
        .await;
    assert!(matches!(commands[0], Command::PatchAttributes { .. }), "{commands:?}");
    app.commands(vec![connecting("b", r#"{"refuse":"no"}"#), message("b", "where", 1)], 1)
        .await;
    let dead = app.memory.dead_letters(10).await.unwrap();
    assert_eq!(dead.len(), 1);
    assert!(dead[0].cause.reason.contains("admission = true"), "{:?}", dead[0].cause);
    end(app.shutdown).await;
}

#[tokio::test]
async fn app_of_pattern_gets_events_of_matching_namespaces() {
    let mut app = Fixture::start("/shop/{id}", false).await;
    let in_namespace = |namespace: &str, event: Event| Event {
        namespace: namespace.into(),
        ..event
    };
    let events = vec![
        in_namespace("/shop/7", connection("a")),
        in_namespace("/shop/8", connection("a")),
        in_namespace("/shop/7", message_with("a", "say", r#"["news","hi",1]"#)),
        in_namespace("/shop/8", message_with("a", "say", r#"["news","hi",1]"#)),
        in_namespace("/shop", connection("a")),
    ];
    let commands = app.commands(events, 4).await;
    let mut namespaces: Vec<&str> = commands.iter().filter_map(published_in).collect();
    namespaces.sort_unstable();
    assert_eq!(namespaces, ["/shop/7", "/shop/8"]);
    let dead = app.memory.dead_letters(10).await.unwrap();
    assert!(dead[0].cause.reason.contains(r#"no app is bound to namespace "/shop""#));
    end(app.shutdown).await;
}

fn published_in(command: &Command) -> Option<&str> {
    match command {
        Command::Publish { to, .. } => Some(to.namespace.as_str()),
        _ => None,
    }
}

#[tokio::test]
async fn failed_event_answers_its_acknowledgement() {
    let mut app = Fixture::start("/", false).await;
    let elsewhere = Event {
        namespace: "/elsewhere".into(),
        ..message_with("a", "where", "[]")
    };
    let events = vec![
        connection("a"),
        message_with("a", "fail-reject", "[]"),
        message_with("a", "fail-retry", "[]"),
        message_with("a", "panic", "[]"),
        elsewhere,
    ];
    let commands = app.commands(events, 4).await;
    let dead = app.memory.dead_letters(10).await.unwrap();
    let mut expected: Vec<_> = dead.iter().map(|letter| failed(letter.id)).collect();
    let mut answers: Vec<_> = commands.iter().map(answer).collect();
    expected.sort();
    answers.sort();
    assert_eq!(answers, expected);
    end(app.shutdown).await;
}

#[tokio::test]
async fn failed_event_stays_unanswered_if_so_configured() {
    let mut app = Fixture::start_with(|app| app.handler.failure_acks = false).await;
    let events = vec![
        connection("a"),
        message_with("a", "fail-reject", "[]"),
        message_with("a", "where", "[]"),
    ];
    let commands = app.commands(events, 1).await;
    assert!(answer(&commands[0]).contains("attempt"), "{commands:?}");
    assert_eq!(app.memory.dead_letters(10).await.unwrap().len(), 1);
    end(app.shutdown).await;
}

fn failed(id: EventId) -> String {
    format!(r#"[{{"error":{{"code":"failed","event":"{id}"}}}}]"#)
}

fn answer(command: &Command) -> String {
    match command {
        Command::Ack { args, .. } => args.json.to_string(),
        other => panic!("{other:?} is no acknowledgement"),
    }
}

#[tokio::test]
async fn queries_have_ids_of_their_own() {
    let mut app = Fixture::start("/", false).await;
    let events = vec![
        connection("a"),
        message_with("a", "collect", r#"["news","guess",1,70000]"#),
        message_with("a", "find", "[20000]"),
        message_with("a", "channels", "[3]"),
        message_with("a", "gather", r#"["news"]"#),
    ];
    let commands = app.commands(events, 5).await;
    let origin = |id: &Text| QueryOrigin {
        id: id.clone(),
        namespace: "/".into(),
        client: "a".into(),
        io_node: "io".into(),
    };
    let mut names = Vec::new();
    let mut questions = Vec::new();
    for command in &commands {
        let Command::Ask {
            origin: from,
            question,
            timeout_ms,
            token,
        } = command
        else {
            assert!(matches!(command, Command::Subscribe { .. }), "{command:?}");
            continue;
        };
        assert_eq!(*from, origin(&from.id));
        names.push(from.id.to_string());
        questions.push((
            question.clone(),
            *timeout_ms,
            String::from_utf8_lossy(token).into_owned(),
        ));
    }
    let to = |scope| Audience {
        namespace: "/".into(),
        to: scope,
        except: Default::default(),
    };
    let news = Scope::Only(plugnode_message::Selection {
        clients: Vec::new(),
        channels: vec!["news".into()],
    });
    let guess = Question::Acks {
        to: to(news),
        event: "guess".into(),
        args: Payload {
            json: "[1]".into(),
            attachments: Vec::new(),
        },
    };
    let clients = Question::Clients {
        who: to(Scope::All),
        most: 10_000,
    };
    let channels = Question::Channels {
        namespace: "/".into(),
        most: 3,
    };
    let expected = [
        (guess, 60_000, "collect".to_owned()),
        (clients, 2_000, "find".to_owned()),
        (channels, 2_000, "channels".to_owned()),
        (Question::Settled, 2_000, "gather".to_owned()),
    ];
    assert_eq!(questions, expected);
    // The event's id, and the position among its commands: the last event has another command before.
    assert_eq!(
        names,
        [
            "0000-000000000002.0",
            "0000-000000000003.0",
            "0000-000000000004.0",
            "0000-000000000005.1"
        ]
    );
    end(app.shutdown).await;
}
