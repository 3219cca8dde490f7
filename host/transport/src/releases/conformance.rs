//! The promises of [`Releases`](crate::Releases) and [`Nodes`](crate::Nodes), as tests.
//!
//! An implementation runs them by `releases_conform!`, given an expression that makes a [`ReleaseFixture`].

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use crate::{IoNode, Operations, Transport, TransportError};
use plugnode_message::{Event, EventKind, NodeId, Payload, now_ms};
use plugnode_release::{
    AppReleases, AppReport, Board, ComponentFile, Counts, Digest, NodeReport, NodeStage, ReleaseProgress,
};

/// The most bytes of a component, for an implementation under test.
pub const MAX_COMPONENT: usize = 1_000_000;

/// Operations under test, and the transport that they reach.
pub struct ReleaseFixture {
    pub transport: Transport,
    pub operations: Operations,
}

impl From<Transport> for ReleaseFixture {
    fn from(transport: Transport) -> Self {
        let operations = transport.operations();
        Self { transport, operations }
    }
}

#[macro_export]
macro_rules! releases_conform {
    ($($registry:ident: $make:expr),* $(,)?) => {$(
        mod $registry {
            $crate::releases_conform!(@tests $make;
                components_are_stored_by_digest,
                concurrent_changes_of_the_board_are_serial,
                repeated_post_gets_the_first_answer,
                board_after_waits_for_a_change,
                reports_are_of_joined_app_nodes,
                pruning_keeps_named_and_young_components,
                backlog_counts_open_events,
            );
        }
    )*};
    (@tests $make:expr; $($test:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $test() {
            let (fixture, _kept) = $make.await;
            let test = $crate::releases_conformance::$test(fixture.into());
            let limit = std::time::Duration::from_secs(30);
            tokio::time::timeout(limit, test).await.expect("the test must not hang");
        }
    )*};
}

pub async fn components_are_stored_by_digest(fixture: ReleaseFixture) {
    let releases = fixture.operations.releases;
    for size in [0, 1, 256 * 1024, 300_000, MAX_COMPONENT] {
        let component = noise(size);
        let expected = Digest::of(&component);
        assert_eq!(releases.component(&expected).await.unwrap(), None);
        for _ in 0..2 {
            let digest = releases.put_component(component.clone()).await.unwrap();
            assert_eq!(digest, expected);
            assert_eq!(releases.component(&digest).await.unwrap().as_ref(), Some(&component));
        }
    }
    let error = releases.put_component(noise(MAX_COMPONENT + 1)).await.unwrap_err();
    let TransportError::Unusable(reason) = error else {
        panic!("nobody has joined")
    };
    assert!(reason.contains("max-component"), "{reason}");
    let digest = releases.put_component(noise(7)).await.unwrap();
    assert!(releases.component(&digest).await.unwrap().is_some(), "it still serves");
}

pub async fn concurrent_changes_of_the_board_are_serial(fixture: ReleaseFixture) {
    const TASKS: u64 = 20;
    let (version, mut board) = fixture.operations.releases.board().await.unwrap();
    assert_eq!((version, &board), (0, &Board::default()));
    let app_releases = AppReleases::configured(target("first"), 1, 100);
    board.apps.insert("/".into(), app_releases);
    assert!(fixture.operations.releases.post_board(version, &board).await.unwrap());

    let tasks = (0..TASKS).map(|n| {
        let releases = fixture.operations.releases.clone();
        tokio::spawn(async move {
            loop {
                let (version, mut board) = releases.board().await.unwrap();
                let app_releases = board.apps.get_mut(&"/".into()).unwrap();
                let number = app_releases.deploy(target(&format!("of task {n}")), None, n).unwrap();
                if releases.post_board(version, &board).await.unwrap() {
                    return (version, number);
                }
            }
        })
    });
    let mut answers = Vec::new();
    for task in tasks.collect::<Vec<_>>() {
        answers.push(task.await.unwrap());
    }
    let over: BTreeSet<u64> = answers.iter().map(|(version, _)| *version).collect();
    assert_eq!(over.len() as u64, TASKS, "no two changed the same board");
    let (_, board) = fixture.operations.releases.board().await.unwrap();
    let releases = &board.apps[&"/".into()].releases;
    let numbers: Vec<u64> = releases.iter().map(|release| release.number).collect();
    assert_eq!(numbers, (1..=TASKS + 1).collect::<Vec<_>>(), "each change is there");
}

pub async fn repeated_post_gets_the_first_answer(fixture: ReleaseFixture) {
    let releases = fixture.operations.releases;
    let boards = ["a", "b", "c"].map(|name| {
        let mut board = Board::default();
        board
            .apps
            .insert("/".into(), AppReleases::configured(target(name), 0, 10));
        board
    });
    assert!(releases.post_board(0, &boards[0]).await.unwrap());
    let (first, _) = releases.board().await.unwrap();
    assert!(first > 0);
    assert!(releases.post_board(0, &boards[0]).await.unwrap(), "the same call");
    assert!(!releases.post_board(0, &boards[1]).await.unwrap(), "another");
    assert!(releases.post_board(first, &boards[1]).await.unwrap());
    assert!(
        releases.post_board(0, &boards[0]).await.unwrap(),
        "also when another followed"
    );
    assert!(!releases.post_board(0, &boards[1]).await.unwrap());
    assert!(!releases.post_board(first, &boards[2]).await.unwrap());
    let (second, board) = releases.board().await.unwrap();
    assert!(second > first);
    assert_eq!(board, boards[1], "and nothing was changed by any of it");
}

pub async fn board_after_waits_for_a_change(fixture: ReleaseFixture) {
    let releases = fixture.operations.releases;
    let (version, board) = releases.board_after(77).await.unwrap();
    assert_eq!(
        (version, &board),
        (0, &Board::default()),
        "another than that is there already"
    );
    for _ in 0..5 {
        let given_up = timeout(Duration::from_millis(20), releases.board_after(0)).await;
        assert!(given_up.is_err(), "there is no change yet");
    }
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let releases = releases.clone();
            tokio::spawn(async move { releases.board_after(0).await.unwrap() })
        })
        .collect();
    let mut changed = Board::default();
    changed
        .apps
        .insert("/chat".into(), AppReleases::configured(target("a"), 0, 10));
    assert!(releases.post_board(0, &changed).await.unwrap());
    for waiting in waiting {
        let (version, board) = waiting.await.unwrap();
        assert!(version > 0);
        assert_eq!(board, changed);
    }
    assert_eq!(releases.board().await.unwrap().1, changed);
}

pub async fn reports_are_of_joined_app_nodes(fixture: ReleaseFixture) {
    let operations = fixture.operations;
    let early = report("one", 1);
    operations.nodes.report(&early).await.unwrap();
    assert!(
        operations.nodes.app_nodes().await.unwrap().is_empty(),
        "it has not joined"
    );
    let one = fixture.transport.events.join_app("one".into()).await.unwrap();
    let _two = fixture.transport.events.join_app("two".into()).await.unwrap();
    become_so(&operations, &[("one", Some(early)), ("two", None)]).await;
    let (later, other) = (report("one", 2), report("two", 3));
    operations.nodes.report(&later).await.unwrap();
    operations.nodes.report(&other).await.unwrap();
    become_so(&operations, &[("one", Some(later)), ("two", Some(other.clone()))]).await;
    drop(one);
    become_so(&operations, &[("two", Some(other))]).await;
}

pub async fn pruning_keeps_named_and_young_components(fixture: ReleaseFixture) {
    let releases = fixture.operations.releases;
    let named = releases.put_component(noise(10)).await.unwrap();
    let young = releases.put_component(noise(11)).await.unwrap();
    let mut board = Board::default();
    let mut target = target("named");
    target.digest = named.clone();
    board.apps.insert("/".into(), AppReleases::configured(target, 0, 10));
    assert!(releases.post_board(0, &board).await.unwrap());
    releases.prune_components().await.unwrap();
    for digest in [named, young] {
        assert!(releases.component(&digest).await.unwrap().is_some());
    }
}

pub async fn backlog_counts_open_events(fixture: ReleaseFixture) {
    let operations = fixture.operations;
    assert_eq!(operations.nodes.backlog().await.unwrap(), 0);
    let io = fixture
        .transport
        .events
        .join_io(IoNode::without_address("io"))
        .await
        .unwrap();
    let events = (0..12).map(|n| event(&format!("client-{n}"))).collect();
    assert!(io.inbox.ingest(events).await.unwrap().is_empty());
    assert_eq!(operations.nodes.backlog().await.unwrap(), 12);
}

async fn become_so(operations: &Operations, expected: &[(&str, Option<NodeReport>)]) {
    let expected: Vec<(NodeId, Option<NodeReport>)> = expected
        .iter()
        .map(|(name, report)| (NodeId::from(*name), report.clone()))
        .collect();
    while operations.nodes.app_nodes().await.unwrap() != expected {
        sleep(Duration::from_millis(10)).await;
    }
}

/// A report with something in every field.
pub fn report(node: &str, release: u64) -> NodeReport {
    let digest = Digest::of(node.as_bytes());
    let counts = Counts {
        events: 1_000,
        failures: 3,
        per_second: 12.5,
        p50_us: 80,
        p99_us: 900,
        times: vec![(80, 500), (900, 10)],
    };
    let app = AppReport {
        release,
        digest,
        instances: 4,
        in_hand: 2,
        counts: counts.clone(),
        progress: Some(ReleaseProgress {
            release: release + 1,
            stage: NodeStage::Failed("it traps".into()),
            counts,
        }),
        have_begun: true,
        has_answered: false,
        first_failure: None,
        states_refused: vec!["instance 2: load: no".into()],
    };
    NodeReport {
        node: node.into(),
        at_ms: now_ms(),
        apps: [("/".into(), app)].into(),
        native: vec!["/native".into()],
    }
}

/// A target of this name.
pub fn target(name: &str) -> ComponentFile {
    ComponentFile {
        digest: Digest::of(name.as_bytes()),
        file: format!("{name}.wasm"),
        bytes: 1,
    }
}

/// Bytes that look like no others, and do not compress.
pub fn noise(size: usize) -> Bytes {
    let mut state = size as u64 + 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state as u8
    };
    std::iter::repeat_with(next).take(size).collect()
}

fn event(client: &str) -> Event {
    let client = plugnode_message::Client {
        id: client.into(),
        io_node: "io".into(),
        attributes: plugnode_message::Text::from_static("{}"),
        patched: 0,
    };
    Event {
        namespace: "/".into(),
        client: Some(client),
        received_at_ms: now_ms(),
        kind: EventKind::Message {
            event: "n".into(),
            args: Payload {
                json: "[]".into(),
                attachments: Vec::new(),
            },
            ack: None,
        },
    }
}
