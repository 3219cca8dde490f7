//! Releases in a Redis that loses data, fails, or holds data of another version.

use std::time::Duration;

use redis::Value;
use tokio::time::timeout;

use super::*;
use crate::client::testing::TestServer;
use crate::components;
use crate::nodes::{is_old, read};
use plugnode_release::AppReleases;
use plugnode_transport::releases_conformance::{noise, report, target};
use plugnode_transport::{Nodes, TransportError};

const SOON: Duration = Duration::from_secs(30);

async fn redis() -> (Redis, TestServer) {
    redis_with(&[]).await
}

async fn redis_with(arguments: &[&str]) -> (Redis, TestServer) {
    let server = TestServer::start_with(arguments).await;
    let mut redis = Redis::for_test_on(&server, 1).await;
    std::sync::Arc::make_mut(&mut redis.settings).common.max_component = 30_000_000;
    (redis, server)
}

async fn ask(server: &TestServer, words: &[&str]) -> Value {
    server.ask(words).await.unwrap()
}

const PARTS: &str = "{test:0}:parts";

/// Number of stored parts.
async fn parts(server: &TestServer) -> u64 {
    number(&ask(server, &["HLEN", PARTS]).await)
}

/// Digest of a part of a component.
fn part(bytes: &Bytes, number: usize) -> String {
    let part = bytes.chunks(256 * 1024).nth(number).expect("it has as many");
    Digest::of(part).to_string()
}

fn component(digest: &Digest) -> String {
    format!("{{test:0}}:component:{digest}")
}

fn board_of(name: &str) -> Board {
    let mut board = Board::default();
    board
        .apps
        .insert("/".into(), AppReleases::configured(target(name), 0, 10));
    board
}

#[tokio::test]
async fn incomplete_component_does_not_exist() {
    let (redis, server) = redis().await;
    let bytes = noise(1_000_000);
    let digest = redis.put_component(bytes.clone()).await.unwrap();
    let of = component(&digest);
    for (key, field) in [
        (PARTS, part(&bytes, 2).as_str()),
        (&of, "2"),
        (&of, "0"),
        (&of, "parts"),
        (&of, "bytes"),
    ] {
        ask(&server, &["HDEL", key, field]).await;
        assert_eq!(redis.component(&digest).await.unwrap(), None);
        redis.put_component(bytes.clone()).await.unwrap();
        assert_eq!(
            redis.component(&digest).await.unwrap().as_ref(),
            Some(&bytes),
            "it is put again"
        );
    }
    assert_eq!(parts(&server).await, 4);
}

#[tokio::test]
async fn parts_are_shared_and_deleted_with_their_last_component() {
    let (redis, server) = redis().await;
    let runtime = noise(2_000_000);
    let with = |script: &str| Bytes::from([&runtime[..], script.as_bytes()].concat());
    let mut digests = Vec::new();
    for script in ["one", "two", "three"] {
        digests.push(redis.put_component(with(script)).await.unwrap());
        redis.put_component(with(script)).await.unwrap();
    }
    // Seven shared parts of the runtime, and one last part for each component.
    assert_eq!(parts(&server).await, 7 + 3);
    for (gone, left) in [(0, 7 + 2), (1, 7 + 1), (2, 0)] {
        ask(
            &server,
            &["ZADD", "{test:0}:components", "1000", digests[gone].as_str()],
        )
        .await;
        components::prune(&redis, &Board::default()).await;
        assert_eq!(parts(&server).await, left);
        assert_eq!(redis.component(&digests[gone]).await.unwrap(), None);
        for (digest, script) in digests.iter().zip(["one", "two", "three"]).skip(gone + 1) {
            assert_eq!(redis.component(digest).await.unwrap(), Some(with(script)));
        }
    }
    // A late copy of a call leaves nothing behind.
    let keys = ["{test:0}:parts", "{test:0}:part-uses"].map(|key| Bytes::from_static(key.as_bytes()));
    let late = [bytes_of(Digest::of(b"late")), Bytes::from_static(b"late")];
    redis.link.run::<()>(&scripts::PUT_PART, &keys, &late).await;
    for key in [PARTS, "{test:0}:part-uses"] {
        assert_eq!(number(&ask(&server, &["EXISTS", key]).await), 0, "{key}");
    }
}

#[tokio::test]
async fn component_cut_by_another_version_is_uploaded_again() {
    let (redis, server) = redis().await;
    let bytes = noise(600_000);
    let digest = Digest::of(&bytes);
    // Parts stored under the component itself, and parts of another size.
    for fields in [["0", "raw", "bytes", "3"], ["0", "0000", "parts", "1"]] {
        let of = component(&digest);
        ask(&server, &["DEL", &of]).await;
        ask(&server, &[&["HSET", of.as_str()][..], &fields[..]].concat()).await;
        assert_eq!(redis.component(&digest).await.unwrap(), None);
        redis.put_component(bytes.clone()).await.unwrap();
        assert_eq!(redis.component(&digest).await.unwrap().as_ref(), Some(&bytes));
    }
}

#[tokio::test]
async fn damaged_or_too_large_component_is_not_returned() {
    let (mut redis, server) = redis().await;
    let bytes = noise(300_000);
    let digest = redis.put_component(bytes.clone()).await.unwrap();
    let other = redis.put_component(noise(600_000)).await.unwrap();
    ask(&server, &["HSET", PARTS, &part(&bytes, 1), "something else"]).await;
    assert_eq!(redis.component(&digest).await.unwrap(), None);
    assert!(redis.component(&other).await.unwrap().is_some());
    redis.put_component(bytes.clone()).await.unwrap();
    assert_eq!(redis.component(&digest).await.unwrap(), Some(bytes));

    std::sync::Arc::make_mut(&mut redis.settings).common.max_component = 1_000;
    assert!(matches!(
        redis.component(&digest).await,
        Err(TransportError::Unusable(_))
    ));
}

#[tokio::test]
async fn upload_survives_full_memory_and_data_loss() {
    for appendonly in ["no", "yes"] {
        let (redis, mut server) = redis_with(&["--appendonly", appendonly]).await;
        ask(&server, &["CONFIG", "SET", "maxmemory", "10mb"]).await;
        let bytes = noise(20_000_000);
        let digest = Digest::of(&bytes);
        let putting = tokio::spawn({
            let (redis, bytes) = (redis.clone(), bytes.clone());
            async move { redis.put_component(bytes).await }
        });
        let full = async { while parts(&server).await < 10 {} };
        timeout(SOON, full).await.expect("parts of it arrive");
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert!(!putting.is_finished(), "it waits for memory");
        assert_eq!(redis.component(&digest).await.unwrap(), None);
        server.restart().await;
        let put = timeout(SOON, putting).await.expect("it is put in the end");
        assert_eq!(put.unwrap().unwrap(), digest);
        assert_eq!(redis.component(&digest).await.unwrap(), Some(bytes));
    }
}

#[tokio::test]
async fn pruning_deletes_old_unnamed_components() {
    let (redis, server) = redis().await;
    let named = redis.put_component(noise(5)).await.unwrap();
    let old = redis.put_component(noise(6)).await.unwrap();
    let again = redis.put_component(noise(7)).await.unwrap();
    for digest in [&named, &old, &again] {
        ask(&server, &["ZADD", "{test:0}:components", "1000", digest.as_str()]).await;
    }
    redis.put_component(noise(7)).await.unwrap();
    let mut board = board_of("named");
    board.apps.get_mut(&"/".into()).unwrap().releases[0].digest = named.clone();
    assert!(redis.post_board(0, &board).await.unwrap());
    redis.prune_components().await.unwrap();
    assert!(redis.component(&named).await.unwrap().is_some());
    assert!(redis.component(&again).await.unwrap().is_some(), "it was put of late");
    assert!(redis.component(&old).await.unwrap().is_none());
    assert_eq!(parts(&server).await, 2);
    let left = ask(&server, &["ZCARD", "{test:0}:components"]).await;
    assert_eq!(left, Value::Int(2));
    components::prune(&redis, &Board::default()).await;
    assert!(redis.component(&again).await.unwrap().is_some());
}

#[tokio::test]
async fn board_version_grows_after_data_loss() {
    let (redis, server) = redis().await;
    assert!(redis.post_board(0, &board_of("a")).await.unwrap());
    let (first, _) = redis.board().await.unwrap();
    let following = redis.clone();
    let changed = tokio::spawn(async move { following.board_after(first).await.unwrap() });
    ask(&server, &["FLUSHALL"]).await;
    let (gone, board) = timeout(SOON, changed).await.unwrap().unwrap();
    assert_eq!((gone, board), (0, Board::default()));
    assert!(!redis.post_board(first, &board_of("b")).await.unwrap());
    assert!(redis.post_board(0, &board_of("b")).await.unwrap());
    assert!(redis.board().await.unwrap().0 > first);
}

#[tokio::test]
async fn ignores_unknown_fields_and_reports_unreadable_board() {
    let (redis, server) = redis().await;
    assert!(redis.post_board(0, &board_of("a")).await.unwrap());
    let mut newer = serde_json::to_value(board_of("a")).unwrap();
    newer["of-tomorrow"] = true.into();
    newer["apps"]["/"]["releases"][0]["of-tomorrow"] = 1.into();
    ask(&server, &["HSET", "{test:0}:board", "content", &newer.to_string()]).await;
    assert_eq!(redis.board().await.unwrap().1, board_of("a"));
    for content in ["no json", "{}", "[1]"] {
        ask(&server, &["HSET", "{test:0}:board", "content", content]).await;
        let TransportError::Unusable(reason) = redis.board().await.unwrap_err() else {
            panic!("nobody has joined")
        };
        assert!(reason.contains("delete the key {test:0}:board"), "{reason}");
    }
}

#[tokio::test]
async fn deletes_old_reports_of_absent_nodes() {
    let (redis, server) = redis().await;
    let mut old = report("old", 1);
    old.at_ms = 5;
    redis.report(&old).await.unwrap();
    redis.report(&report("about to join", 1)).await.unwrap();
    ask(&server, &["HSET", "{test:0}:reports", "strange", "{}"]).await;
    ask(&server, &["HSET", "{test:0}:app", "there", "1", "leaving", "2-"]).await;
    ask(&server, &["HSET", "{test:0}:reports", "there", "[\"of tomorrow\"]"]).await;
    assert_eq!(redis.app_nodes().await.unwrap(), [("there".into(), None)]);
    let names = ask(&server, &["HKEYS", "{test:0}:reports"]).await;
    let mut names: Vec<String> = redis::FromRedisValue::from_redis_value(names).unwrap();
    names.sort();
    assert_eq!(names, ["about to join", "there"]);
}

mod arbitrary {
    use proptest::prelude::*;

    use super::*;
    use plugnode_testing::arbitrary::{bytes, json_text, nearly, nearly_text, one_of, peak};

    /// A board with a rollout and some changed numbers.
    fn board() -> impl Strategy<Value = Vec<u8>> {
        let mut board = board_of("one");
        let track = board.apps.get_mut(&"/".into()).unwrap();
        track.deploy(target("two"), None, 5).unwrap();
        let valid = serde_json::to_string(&board).unwrap();
        let number = one_of(&["0", "2", "18446744073709551615", "18446744073709551616", "-1", "1e9"]);
        let key = one_of(&[
            "\"current\":1",
            "\"number\":1",
            "\"number\":2",
            "\"release\":2",
            "\"kept\":10",
        ]);
        let changed = (key, number).prop_map(move |(key, number)| {
            let (name, _) = key.split_once(':').expect("it has a value");
            valid.replace(&key, &format!("{name}:{number}"))
        });
        changed.prop_map(String::into_bytes)
    }

    proptest! {
        #[test]
        fn any_board_or_report_is_read_or_refused(
            content in prop_oneof![3 => board(), 3 => nearly(board()), 1 => json_text().prop_map(String::into_bytes), 1 => bytes(200)],
        ) {
            let (board, peak) = peak(|| Board::read(&content));
            prop_assert!(peak <= 64 * content.len() as u64 + (64 << 10), "{peak} bytes for {}", content.len());
            let _ = (read("node", &content), is_old(&content));
            let Ok(mut board) = board else { return Ok(()) };
            let again = Board::read(&serde_json::to_vec(&board).unwrap());
            prop_assert_eq!(again.as_ref(), Ok(&board));
            for track in board.apps.values_mut() {
                let _ = (track.in_use(), track.rolling_out());
                let _ = track.deploy(target("three"), None, 6);
                prop_assert!(Board::read(&serde_json::to_vec(track).unwrap()).is_err(), "a track is no board");
                let _ = track.in_use();
            }
            prop_assert!(Board::read(&serde_json::to_vec(&board).unwrap()).is_ok());
        }

        #[test]
        fn any_digest_is_read_back_or_refused(text in nearly_text(Just(Digest::of(b"one").to_string()))) {
            if let Ok(digest) = text.parse::<Digest>() {
                prop_assert_eq!(digest.to_string(), text);
            }
        }
    }

    #[test]
    fn node_report_is_read_back() {
        let told = report("node", 7);
        let written = serde_json::to_vec(&told).unwrap();
        assert_eq!(read("node", &written), Some(told));
        for length in 0..written.len() {
            assert_eq!(read("node", &written[..length]), None);
        }
    }
}

fn number(answer: &Value) -> u64 {
    match answer {
        Value::Int(number) => u64::try_from(*number).unwrap_or(0),
        _ => 0,
    }
}
