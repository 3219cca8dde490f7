//! What every registry must do, as tests that know none of them.
//!
//! To hold a registry to the list, name it in `registry_conforms!` with what makes a [`Stage`].

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::{sleep, timeout};

use crate::{IoNode, Registry, Transport, TransportError};
use plugnode_message::{Event, EventKind, NodeId, Payload, now_ms};
use plugnode_release::{AppReport, Board, Counts, Digest, NodeReport, Progress, Stage as HowFar, Target, Track};

/// The most bytes of a component, for a registry under test.
pub const MAX_COMPONENT: usize = 1_000_000;

/// A registry under test, and the transport whose registry it is.
pub struct Stage {
    pub transport: Arc<dyn Transport>,
    pub registry: Arc<dyn Registry>,
}

impl From<Arc<dyn Transport>> for Stage {
    fn from(transport: Arc<dyn Transport>) -> Self {
        let registry: Arc<dyn Registry> = transport.clone();
        Self { transport, registry }
    }
}

#[macro_export]
macro_rules! registry_conforms {
    ($($registry:ident: $make:expr),* $(,)?) => {$(
        mod $registry {
            $crate::registry_conforms!(@tests $make;
                components_are_kept_by_their_digest,
                changes_of_the_board_follow_each_other,
                a_post_that_comes_again_is_answered_as_the_first,
                a_change_of_the_board_is_waited_for,
                reports_are_those_of_the_app_nodes_that_are_there,
                pruning_keeps_what_is_named_and_what_is_young,
                the_backlog_is_what_was_accepted_and_is_not_committed,
            );
        }
    )*};
    (@tests $make:expr; $($test:ident),* $(,)?) => {$(
        #[tokio::test]
        async fn $test() {
            let (stage, _kept) = $make.await;
            let test = $crate::registry_conformance::$test(stage.into());
            let limit = std::time::Duration::from_secs(30);
            tokio::time::timeout(limit, test).await.expect("the test must not hang");
        }
    )*};
}

pub async fn components_are_kept_by_their_digest(stage: Stage) {
    let registry = stage.registry;
    for size in [0, 1, 256 * 1024, 300_000, MAX_COMPONENT] {
        let component = noise(size);
        let expected = Digest::of(&component);
        assert_eq!(registry.component(&expected).await.unwrap(), None);
        for _ in 0..2 {
            let digest = registry.put_component(component.clone()).await.unwrap();
            assert_eq!(digest, expected);
            assert_eq!(registry.component(&digest).await.unwrap().as_ref(), Some(&component));
        }
    }
    let error = registry.put_component(noise(MAX_COMPONENT + 1)).await.unwrap_err();
    let TransportError::Unusable(reason) = error else {
        panic!("nobody has joined")
    };
    assert!(reason.contains("max-component"), "{reason}");
    let digest = registry.put_component(noise(7)).await.unwrap();
    assert!(registry.component(&digest).await.unwrap().is_some(), "it still serves");
}

pub async fn changes_of_the_board_follow_each_other(stage: Stage) {
    const TASKS: u64 = 20;
    let (version, mut board) = stage.registry.board().await.unwrap();
    assert_eq!((version, &board), (0, &Board::default()));
    let track = Track::first(target("first"), 1, 100);
    board.apps.insert("/".into(), track);
    assert!(stage.registry.post_board(version, &board).await.unwrap());

    let tasks = (0..TASKS).map(|n| {
        let registry = stage.registry.clone();
        tokio::spawn(async move {
            loop {
                let (version, mut board) = registry.board().await.unwrap();
                let track = board.apps.get_mut(&"/".into()).unwrap();
                let number = track.deploy(target(&format!("of task {n}")), None, n).unwrap();
                if registry.post_board(version, &board).await.unwrap() {
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
    let (_, board) = stage.registry.board().await.unwrap();
    let releases = &board.apps[&"/".into()].releases;
    let numbers: Vec<u64> = releases.iter().map(|release| release.number).collect();
    assert_eq!(numbers, (1..=TASKS + 1).collect::<Vec<_>>(), "each change is there");
}

pub async fn a_post_that_comes_again_is_answered_as_the_first(stage: Stage) {
    let registry = stage.registry;
    let boards = ["a", "b", "c"].map(|name| {
        let mut board = Board::default();
        board.apps.insert("/".into(), Track::first(target(name), 0, 10));
        board
    });
    assert!(registry.post_board(0, &boards[0]).await.unwrap());
    let (first, _) = registry.board().await.unwrap();
    assert!(first > 0);
    assert!(registry.post_board(0, &boards[0]).await.unwrap(), "the same call");
    assert!(!registry.post_board(0, &boards[1]).await.unwrap(), "another");
    assert!(registry.post_board(first, &boards[1]).await.unwrap());
    assert!(
        registry.post_board(0, &boards[0]).await.unwrap(),
        "also when another followed"
    );
    assert!(!registry.post_board(0, &boards[1]).await.unwrap());
    assert!(!registry.post_board(first, &boards[2]).await.unwrap());
    let (second, board) = registry.board().await.unwrap();
    assert!(second > first);
    assert_eq!(board, boards[1], "and nothing was changed by any of it");
}

pub async fn a_change_of_the_board_is_waited_for(stage: Stage) {
    let registry = stage.registry;
    let (version, board) = registry.board_after(77).await.unwrap();
    assert_eq!(
        (version, &board),
        (0, &Board::default()),
        "another than that is there already"
    );
    for _ in 0..5 {
        let given_up = timeout(Duration::from_millis(20), registry.board_after(0)).await;
        assert!(given_up.is_err(), "there is no change yet");
    }
    let waiting: Vec<_> = (0..3)
        .map(|_| {
            let registry = registry.clone();
            tokio::spawn(async move { registry.board_after(0).await.unwrap() })
        })
        .collect();
    let mut changed = Board::default();
    changed.apps.insert("/chat".into(), Track::first(target("a"), 0, 10));
    assert!(registry.post_board(0, &changed).await.unwrap());
    for waiting in waiting {
        let (version, board) = waiting.await.unwrap();
        assert!(version > 0);
        assert_eq!(board, changed);
    }
    assert_eq!(registry.board().await.unwrap().1, changed);
}

pub async fn reports_are_those_of_the_app_nodes_that_are_there(stage: Stage) {
    let registry = stage.registry;
    let early = report("one", 1);
    registry.report(&early).await.unwrap();
    assert!(registry.app_nodes().await.unwrap().is_empty(), "it has not joined");
    let one = stage.transport.join_app("one".into()).await.unwrap();
    let _two = stage.transport.join_app("two".into()).await.unwrap();
    become_so(&*registry, &[("one", Some(early)), ("two", None)]).await;
    let (later, other) = (report("one", 2), report("two", 3));
    registry.report(&later).await.unwrap();
    registry.report(&other).await.unwrap();
    become_so(&*registry, &[("one", Some(later)), ("two", Some(other.clone()))]).await;
    drop(one);
    become_so(&*registry, &[("two", Some(other))]).await;
}

pub async fn pruning_keeps_what_is_named_and_what_is_young(stage: Stage) {
    let registry = stage.registry;
    let named = registry.put_component(noise(10)).await.unwrap();
    let young = registry.put_component(noise(11)).await.unwrap();
    let mut board = Board::default();
    let mut target = target("named");
    target.digest = named.clone();
    board.apps.insert("/".into(), Track::first(target, 0, 10));
    assert!(registry.post_board(0, &board).await.unwrap());
    registry.prune_components().await.unwrap();
    for digest in [named, young] {
        assert!(registry.component(&digest).await.unwrap().is_some());
    }
}

pub async fn the_backlog_is_what_was_accepted_and_is_not_committed(stage: Stage) {
    let registry = stage.registry;
    assert_eq!(registry.backlog().await.unwrap(), 0);
    let io = stage.transport.join_io(IoNode::without_address("io")).await.unwrap();
    let events = (0..12).map(|n| event(&format!("client-{n}"))).collect();
    assert!(io.inbox.ingest(events).await.unwrap().is_empty());
    assert_eq!(registry.backlog().await.unwrap(), 12);
}

async fn become_so(registry: &dyn Registry, expected: &[(&str, Option<NodeReport>)]) {
    let expected: Vec<(NodeId, Option<NodeReport>)> = expected
        .iter()
        .map(|(name, report)| (NodeId::from(*name), report.clone()))
        .collect();
    while registry.app_nodes().await.unwrap() != expected {
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
        progress: Some(Progress {
            release: release + 1,
            stage: HowFar::Failed("it traps".into()),
            counts,
        }),
        have_begun: true,
        has_answered: false,
        trouble: None,
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
pub fn target(name: &str) -> Target {
    Target {
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
