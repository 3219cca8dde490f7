//! The registry in a Redis that forgets, fails, or holds what another version wrote.

use std::time::Duration;

use redis::Value;
use tokio::time::timeout;

use super::super::connection::testing::TestServer;
use super::super::{RedisSettings, components};
use super::*;
use crate::release::Track;
use crate::transport::TransportError;
use crate::transport::registry_conformance::{noise, report, target};

const SOON: Duration = Duration::from_secs(30);

async fn redis() -> (Redis, TestServer) {
    redis_with(&[]).await
}

async fn redis_with(arguments: &[&str]) -> (Redis, TestServer) {
    let server = TestServer::start_with(arguments).await;
    let mut redis = Redis::for_test_on(&server, 1).await;
    let settings = RedisSettings::clone(&redis.settings);
    redis.settings = std::sync::Arc::new(RedisSettings {
        max_component: 30_000_000,
        ..settings
    });
    (redis, server)
}

async fn ask(server: &TestServer, words: &[&str]) -> Value {
    server.ask(words).await.unwrap()
}

async fn parts(server: &TestServer, digest: &Digest) -> u64 {
    number(&ask(server, &["HLEN", &component(digest)]).await)
}

fn component(digest: &Digest) -> String {
    format!("{{test:0}}:component:{digest}")
}

fn board_of(name: &str) -> Board {
    let mut board = Board::default();
    board.apps.insert("/".into(), Track::first(target(name), 0, 10));
    board
}

#[tokio::test]
async fn what_is_half_written_is_not_there() {
    let (redis, server) = redis().await;
    let bytes = noise(1_000_000);
    let digest = redis.put_component(bytes.clone()).await.unwrap();
    for field in ["2", "bytes"] {
        ask(&server, &["HDEL", &component(&digest), field]).await;
        assert_eq!(redis.component(&digest).await.unwrap(), None);
        redis.put_component(bytes.clone()).await.unwrap();
        assert_eq!(
            redis.component(&digest).await.unwrap().as_ref(),
            Some(&bytes),
            "it is put again"
        );
    }
}

#[tokio::test]
async fn what_is_damaged_or_too_large_is_not_given_out() {
    let (mut redis, server) = redis().await;
    let bytes = noise(300_000);
    let digest = redis.put_component(bytes.clone()).await.unwrap();
    ask(&server, &["HSET", &component(&digest), "1", "something else"]).await;
    assert_eq!(redis.component(&digest).await.unwrap(), None);
    redis.put_component(bytes.clone()).await.unwrap();
    assert_eq!(redis.component(&digest).await.unwrap(), Some(bytes));

    let settings = RedisSettings::clone(&redis.settings);
    redis.settings = std::sync::Arc::new(RedisSettings {
        max_component: 1_000,
        ..settings
    });
    assert!(matches!(
        redis.component(&digest).await,
        Err(TransportError::Unusable(_))
    ));
}

#[tokio::test]
async fn a_put_survives_that_redis_is_full_and_is_killed_and_forgets() {
    for appendonly in ["no", "yes"] {
        let (redis, mut server) = redis_with(&["--appendonly", appendonly]).await;
        ask(&server, &["CONFIG", "SET", "maxmemory", "10mb"]).await;
        let bytes = noise(20_000_000);
        let digest = Digest::of(&bytes);
        let putting = tokio::spawn({
            let (redis, bytes) = (redis.clone(), bytes.clone());
            async move { redis.put_component(bytes).await }
        });
        let full = async { while parts(&server, &digest).await < 10 {} };
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
async fn pruning_forgets_what_is_old_and_not_named() {
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
    assert_eq!(parts(&server, &old).await, 0);
    let left = ask(&server, &["ZCARD", "{test:0}:components"]).await;
    assert_eq!(left, Value::Int(2));
    components::prune(&redis, &Board::default()).await;
    assert!(redis.component(&again).await.unwrap().is_some());
}

#[tokio::test]
async fn the_version_goes_on_when_redis_has_forgotten_the_board() {
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
async fn what_a_newer_version_adds_is_passed_over_and_what_cannot_be_read_is_said() {
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
async fn old_reports_of_nodes_that_are_gone_are_forgotten() {
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
