//! `plugnode dead` over the memory transport, in its process and over its admin socket.

use bytes::Bytes;
use clap::Parser;
use tempfile::TempDir;

use super::*;
use crate::cli;
use plugnode_message::{Client, DisconnectReason, Event, EventKind, Payload};
use plugnode_process::shutdown::Shutdown;
use plugnode_server::admin::{AdminClient, AdminListener};
use plugnode_transport::{
    DeadLetterCause, Events, IoNode, IoSession, Lease, Leases, Memory, Outcome, Transport, TransportSettings, Verdict,
};

struct Fixture {
    memory: Memory,
    cluster: Box<dyn DeadLetters>,
    io: IoSession,
    _leases: Box<dyn Leases>,
    lease: Lease,
    /// Folder of the admin socket, removed at the end.
    folder: TempDir,
    shutdown: Shutdown,
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

impl Fixture {
    /// Two fixtures: one accesses dead letters directly, the other over the admin socket.
    async fn both() -> [Self; 2] {
        let (here, mut there) = (Self::new().await, Self::new().await);
        let path = there.folder.path().join("here/8080.sock");
        let socket = AdminListener::bind(&path).unwrap();
        let serving = socket.serve(
            Transport::from(there.memory.clone()).operations(),
            1_000_000,
            there.shutdown.clone(),
        );
        there.shutdown.spawn(serving);
        there.cluster = Box::new(AdminClient::connect(&path, 1_000_000).await.unwrap());
        [here, there]
    }

    async fn new() -> Self {
        let memory = Memory::new(TransportSettings {
            partitions: 1,
            ..TransportSettings::default()
        });
        let io = memory.join_io(IoNode::without_address("io")).await.unwrap();
        let mut leases = memory.join_app("app".into()).await.unwrap();
        let lease = leases.next().await.unwrap();
        Self {
            cluster: Box::new(memory.clone()),
            memory,
            io,
            _leases: leases,
            lease,
            folder: tempfile::tempdir().unwrap(),
            shutdown: Shutdown::new(),
        }
    }

    fn event(client: &str, kind: EventKind) -> Event {
        Event {
            namespace: "/game".into(),
            client: Some(Client {
                id: client.into(),
                io_node: "io".into(),
                attributes: r#"{"name":"Ada"}"#.into(),
                patched: 0,
            }),
            received_at_ms: 1_000,
            kind,
        }
    }

    /// Connects a client and makes a dead letter of a message from it.
    async fn kill(&mut self, client: &str) -> EventId {
        let handshake = plugnode_message::Handshake {
            auth: None,
            query: "".into(),
            headers: [].into(),
            remote_addr: None,
            transport: "websocket".into(),
            recovered: false,
        };
        let message = EventKind::Message {
            event: "draw\u{7}\u{202e}".into(),
            args: Payload {
                json: r#"[{"x":1},{"_placeholder":true,"num":0}]"#.into(),
                attachments: vec![Bytes::from_static(b"abc")],
            },
            ack: None,
        };
        let events = [EventKind::Connection(Box::new(handshake)), message];
        let events = events.map(|kind| Self::event(client, kind)).into();
        assert!(self.io.inbox.ingest(events).await.unwrap().is_empty());
        let deliveries = self.lease.log.next().await.unwrap().unwrap();
        let cause = DeadLetterCause {
            app: Some("/".into()),
            reason: "the handler broke\n  in\n    draw".into(),
            attempts: 3,
            release: Some("game-1a2b".into()),
        };
        let verdicts = [
            Verdict::Done(Default::default()),
            Verdict::Dead(cause, Default::default()),
        ];
        let ids: Vec<EventId> = deliveries.iter().map(|delivery| delivery.id).collect();
        let outcomes = ids.iter().zip(verdicts).map(|(id, verdict)| Outcome::new(*id, verdict));
        self.lease.commits.commit(outcomes.collect()).await.unwrap();
        ids[1]
    }

    /// Output of a command line, and whether it succeeded for all letters.
    async fn run(&self, arguments: &str) -> (String, bool) {
        let arguments = ["plugnode", "dead"].into_iter().chain(arguments.split_whitespace());
        let cli::Verb::Dead(args) = cli::Arguments::parse_from(arguments).verb else {
            panic!("not `dead`")
        };
        let mut out = Vec::new();
        let done = super::run(&args.verb, &*self.cluster, &mut out).await.unwrap();
        (String::from_utf8(out).unwrap(), done)
    }
}

#[tokio::test]
async fn lists_and_shows_dead_letters() {
    for fixture in Fixture::both().await {
        check_list_and_show(fixture).await;
    }
}

async fn check_list_and_show(mut fixture: Fixture) {
    assert_eq!(fixture.run("list").await, ("there are no dead letters\n".into(), true));
    assert_eq!(fixture.run("list --json").await, ("[]\n".into(), true));
    let first = fixture.kill("a").await;
    let second = fixture.kill("a-longer-name").await;

    let (table, _) = fixture.run("list").await;
    let lines: Vec<_> = table.lines().collect();
    assert_eq!(lines.len(), 3, "{table}");
    assert!(lines[1].starts_with(&first.to_string()), "oldest first: {table}");
    let column = lines[0].find("NAMESPACE").unwrap();
    assert!(
        lines[1..].iter().all(|line| line[column..].starts_with("/game ")),
        "{table}"
    );
    for word in [
        "a-longer-name",
        r"message draw\u{7}\u{202e}",
        " 3 ",
        "game-1a2b",
        "the handler broke",
    ] {
        assert!(lines[2].contains(word), "{word}: {table}");
    }
    assert!(
        !table.contains(['\u{7}', '\u{202e}']) && !table.contains("    draw"),
        "{table}"
    );
    let (table, _) = fixture.run("list --most 1").await;
    assert!(table.contains(&second.to_string()) && !table.contains(&first.to_string()));

    let (list, _) = fixture.run("list --json").await;
    let list: serde_json::Value = serde_json::from_str(&list).unwrap();
    assert_eq!(list[0]["id"], first.to_string());
    assert_eq!(list[1]["client"], "a-longer-name");

    let (page, done) = fixture.run(&format!("show {first}")).await;
    assert!(done);
    for word in [
        r#"{"name":"Ada"}"#,
        r#"[{"x":1},"#,
        "3 bytes",
        "    draw",
        "game-1a2b",
        "1970-01-01T00:00:01Z",
    ] {
        assert!(page.contains(word), "{word}: {page}");
    }
    let (whole, _) = fixture.run(&format!("show {first} --json")).await;
    let whole: serde_json::Value = serde_json::from_str(&whole).unwrap();
    assert_eq!(whole["content"]["args"][0]["x"], 1);
    assert_eq!(whole["content"]["attachments"][0], "YWJj");
    assert_eq!(whole["client"]["attributes"]["name"], "Ada");
    assert_eq!(whole["event"], "draw\u{7}\u{202e}");
    let (said, done) = fixture.run("show 0000-000000000999").await;
    assert!(!done && said.contains("there is no such dead letter"), "{said}");
}

#[tokio::test]
async fn retries_or_drops_letters_and_reports_failures() {
    for fixture in Fixture::both().await {
        check_retry_and_drop(fixture).await;
    }
}

async fn check_retry_and_drop(mut fixture: Fixture) {
    let (first, second, third) = (
        fixture.kill("a").await,
        fixture.kill("b").await,
        fixture.kill("c").await,
    );
    let (said, done) = fixture.run(&format!("retry {first} 0000-000000000999")).await;
    assert!(!done, "one of them is not there");
    assert!(said.contains(&format!("{first}: will be retried")), "{said}");
    assert!(
        said.contains("0000-000000000999: there is no such dead letter"),
        "{said}"
    );
    let again = fixture.lease.log.next().await.unwrap().unwrap();
    assert_eq!(again.len(), 1);

    let gone = Fixture::event("b", EventKind::Disconnect(DisconnectReason::Client.into()));
    fixture.io.inbox.ingest(vec![gone]).await.unwrap();
    let (said, done) = fixture.run("retry --all").await;
    assert!(!done);
    assert!(said.contains(&format!("{second}: its client is gone")), "{said}");
    assert!(said.contains(&format!("{third}: will be retried")), "{said}");

    let (said, done) = fixture.run(&format!("drop {second}")).await;
    assert_eq!((said.as_str(), done), (&*format!("{second}: dropped\n"), true));
    let (said, done) = fixture.run(&format!("drop {second}")).await;
    assert!(!done && said.contains("there is no such dead letter"), "{said}");
    assert_eq!(
        fixture.run("drop --all").await,
        ("there are no dead letters\n".into(), true)
    );
}

#[tokio::test]
async fn drops_letters_that_match_a_filter() {
    for mut fixture in Fixture::both().await {
        let (first, second) = (fixture.kill("a").await, fixture.kill("b").await);
        let nothing = ("no dead letter matches\n".to_owned(), true);
        for filter in [
            "--app /other",
            "--reason upset",
            "--before 1h",
            "--before 2001-01-01T00:00:00Z",
        ] {
            assert_eq!(fixture.run(&format!("drop {filter}")).await, nothing, "{filter}");
            assert_eq!(
                fixture.run(&format!("list --json {filter}")).await.0,
                "[]\n",
                "{filter}"
            );
        }
        let (list, _) = fixture
            .run("list --json --most 1 --app / --reason broke --before 2999-01-01")
            .await;
        assert!(
            list.contains(&second.to_string()) && !list.contains(&first.to_string()),
            "{list}"
        );
        let (said, done) = fixture.run(&format!("drop {first} {second} 0000-000000000999")).await;
        assert!(!done, "one of them is not there");
        let expected = format!("{first}: dropped\n{second}: dropped\n0000-000000000999: there is no such");
        assert!(said.starts_with(&expected), "{said}");
        let third = fixture.kill("c").await;
        let (said, done) = fixture.run("drop --all --app /game").await;
        assert_eq!((said.as_str(), done), (&*format!("{third}: dropped\n"), true));
        assert_eq!(fixture.run("list").await.0, "there are no dead letters\n");
    }
}

#[test]
fn command_line_needs_ids_or_a_filter() {
    for line in [
        "retry",
        "drop",
        "retry --all 0000-000000000001",
        "show",
        "show 1",
        "retry x",
        "drop --app / 0000-000000000001",
        "drop --before yesterday",
    ] {
        let arguments = ["plugnode", "dead"].into_iter().chain(line.split_whitespace());
        assert!(cli::Arguments::try_parse_from(arguments).is_err(), "{line}");
    }
}

#[test]
fn unreachable_process_is_reported() {
    let folder = tempfile::tempdir().unwrap();
    let verb = || DeadVerb::List {
        most: 1,
        filter: Filter::default(),
        json: false,
    };
    let cluster = ClusterArgs {
        socket: Some(folder.path().join("none.sock")),
        ..ClusterArgs::default()
    };
    let said = dead(&DeadArgs { cluster, verb: verb() }).unwrap_err().to_string();
    assert!(said.starts_with("no plugnode runs at "), "{said}");
    let cluster = ClusterArgs {
        config: Some(folder.path().join("other.toml")),
        ..ClusterArgs::default()
    };
    let said = dead(&DeadArgs { cluster, verb: verb() }).unwrap_err().to_string();
    assert!(said.contains("-c"), "{said}");
}

#[tokio::test]
async fn refuses_unknown_app_without_letters() {
    let mut fixture = Fixture::new().await;
    fixture.kill("a").await;
    let operations = Transport::from(fixture.memory.clone()).operations();
    // The app of the letter, its namespace, and one that has neither.
    for known in ["/", "/game"] {
        check_app(known, &operations).await.unwrap();
    }
    let refused = check_app("/nope", &operations).await.unwrap_err().to_string();
    assert!(
        refused.starts_with("there is no app /nope: no app runs here yet"),
        "{refused}"
    );
}
