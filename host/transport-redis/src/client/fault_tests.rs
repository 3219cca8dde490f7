//! Faults of Redis, seen over a link.

use std::panic::Location;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::{Cmd, Value};

use crate::client::link::Link;
use crate::client::script::Script;
use crate::client::server::Server;
use crate::client::testing::{Lines, TestServer};
use crate::settings::TlsFiles;

pub(crate) const SOON: Duration = Duration::from_secs(30);

pub(crate) static INCREASE: Script = Script::new("increase", "#!lua\nreturn redis.call('INCRBY', KEYS[1], ARGV[1])");

pub(crate) fn server(url: &str) -> Arc<Server> {
    Arc::new(Server::new(url, &TlsFiles::default()).unwrap())
}

fn link(url: &str) -> Link {
    Link::new(server(url))
}

pub(crate) fn command(words: &[&str]) -> Cmd {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command
}

/// Awaits a future with a deadline, and panics with the line of the caller.
#[track_caller]
pub(crate) fn soon<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let line = Location::caller().line();
    async move {
        let answer = tokio::time::timeout(SOON, future).await;
        answer.unwrap_or_else(|_| panic!("line {line} waits in vain"))
    }
}

#[track_caller]
pub(crate) fn until(holds: impl AsyncFn() -> bool) -> impl Future<Output = ()> {
    soon(async move {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
}

#[tokio::test]
async fn waits_for_killed_server_and_logs_it_once() {
    let (lines, _guard) = Lines::heard();
    let mut redis = TestServer::start_with(&["--appendonly", "yes", "--requirepass", "secret"]).await;
    let server = server(&redis.url().replace(":///", "://:secret@/"));
    let (link, other) = (Link::new(server.clone()), Link::for_waiting(server));
    soon(link.ask::<()>(&command(&["SET", "a", "1"]))).await;
    soon(other.ask::<()>(&command(&["PING"]))).await;

    redis.kill();
    let mut asked = Vec::new();
    for i in 0..50 {
        let link = if i % 2 == 0 { link.clone() } else { other.clone() };
        asked.push(tokio::spawn(
            async move { link.ask::<i64>(&command(&["INCR", "a"])).await },
        ));
    }
    until(async || lines.with("WARN", "cannot be reached") > 0).await;
    let error = soon(link.try_ask::<i64>(&command(&["GET", "a"]))).await.unwrap_err();
    assert!(error.contains("cannot be reached"), "{error}");
    // A request that is given up does not affect the others.
    asked.pop().unwrap().abort();

    redis.restart().await;
    for answer in asked {
        assert!(soon(answer).await.unwrap() > 1);
    }
    assert!(link.connections() == 2 && other.connections() == 2);
    soon(link.ask::<()>(&command(&["PING"]))).await;
    assert_eq!(lines.with("WARN", "cannot be reached"), 1);
    assert_eq!(lines.with("INFO", "answers again"), 1);
    assert_eq!(lines.with("", "secret"), 0);
}

#[tokio::test]
async fn reconnects_after_closed_connection_without_a_log_line() {
    let (lines, _guard) = Lines::heard();
    let redis = TestServer::start().await;
    let link = link(&redis.url());
    soon(link.ask::<()>(&command(&["PING"]))).await;
    redis
        .ask(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"])
        .await
        .unwrap();
    soon(link.ask::<()>(&command(&["PING"]))).await;
    assert_eq!(link.connections(), 2);
    assert_eq!(lines.with("", ""), 0);
}

#[tokio::test]
async fn gives_up_hanging_server_and_reconnects() {
    let (lines, _guard) = Lines::heard();
    let redis = TestServer::start().await;
    let link = link(&redis.url());
    soon(link.ask::<()>(&command(&["PING"]))).await;
    redis.signal("STOP");
    let begun = Instant::now();
    let error = soon(link.try_ask::<()>(&command(&["PING"]))).await.unwrap_err();
    assert!(
        error.contains("does not answer") && begun.elapsed() < Duration::from_secs(3),
        "{error}"
    );
    let asking = link.clone();
    let answer = tokio::spawn(async move { asking.ask::<String>(&command(&["PING"])).await });
    until(async || lines.with("WARN", "trying again") > 0).await;
    redis.signal("CONT");
    assert_eq!(soon(answer).await.unwrap(), "PONG");
}

#[tokio::test]
async fn waits_while_memory_is_full() {
    let (lines, _guard) = Lines::heard();
    let redis = TestServer::start().await;
    redis.ask(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    let link = link(&redis.url());
    let asking = link.clone();
    let keys = [Bytes::from("n")];
    let by_script = tokio::spawn(async move { asking.run::<i64>(&INCREASE, &keys, &["2".into()]).await });
    let asking = link.clone();
    let several = tokio::spawn(async move {
        let mut commands = redis::pipe();
        commands.cmd("GET").arg("x").cmd("INCR").arg("x");
        asking.ask_all(&commands).await
    });
    until(async || lines.with("WARN", "is full") > 0).await;
    for _ in 0..20 {
        // Reads still work, and do not end the outage.
        soon(link.ask::<()>(&command(&["GET", "n"]))).await;
    }
    assert_eq!(lines.with("INFO", "answers again"), 0);
    redis.ask(&["CONFIG", "SET", "maxmemory", "0"]).await.unwrap();
    assert_eq!(soon(by_script).await.unwrap(), 2);
    assert_eq!(soon(several).await.unwrap(), [Value::Nil, Value::Int(1)]);
    assert_eq!(
        (lines.with("WARN", "is full"), lines.with("INFO", "answers again")),
        (1, 1)
    );
}

#[tokio::test]
async fn waits_for_disk_and_replicas() {
    let (lines, _guard) = Lines::heard();
    let redis = TestServer::start_with(&["--enable-protected-configs", "yes"]).await;
    redis
        .ask(&["CONFIG", "SET", "min-replicas-to-write", "1"])
        .await
        .unwrap();
    let link = link(&redis.url());
    let asking = link.clone();
    let answer = tokio::spawn(async move { asking.run::<i64>(&INCREASE, &["n".into()], &["2".into()]).await });
    until(async || lines.with("WARN", "too few replicas") > 0).await;
    redis
        .ask(&["CONFIG", "SET", "min-replicas-to-write", "0"])
        .await
        .unwrap();
    assert_eq!(soon(answer).await.unwrap(), 2);
    assert_eq!(lines.with("INFO", "answers again"), 1);

    // A deleted folder makes snapshots fail.
    let gone = redis.folder().join("gone");
    std::fs::create_dir(&gone).unwrap();
    redis
        .ask(&["CONFIG", "SET", "dir", gone.to_str().unwrap()])
        .await
        .unwrap();
    std::fs::remove_dir(&gone).unwrap();
    redis.ask(&["CONFIG", "SET", "save", "3600 1"]).await.unwrap();
    redis.ask(&["BGSAVE"]).await.unwrap();
    until(async || redis.ask(&["SET", "b", "1"]).await.is_err()).await;
    let asking = link.clone();
    let answer = tokio::spawn(async move { asking.ask::<i64>(&command(&["INCR", "n"])).await });
    until(async || lines.with("WARN", "cannot write to its disk (MISCONF") > 0).await;
    redis
        .ask(&["CONFIG", "SET", "stop-writes-on-bgsave-error", "no"])
        .await
        .unwrap();
    assert_eq!(soon(answer).await.unwrap(), 3);
}

#[tokio::test]
async fn waits_for_busy_server_and_revoked_right() {
    let (lines, _guard) = Lines::heard();
    let redis = TestServer::start_with(&["--busy-reply-threshold", "50"]).await;
    let link = link(&redis.url());
    soon(link.ask::<()>(&command(&["SET", "n", "1"]))).await;
    let blocking = redis.ask(&["EVAL", "while true do end", "0"]);
    let asking = async {
        until(async || link.try_ask::<()>(&command(&["GET", "n"])).await.is_err()).await;
        let asking = link.clone();
        let answer = tokio::spawn(async move { asking.ask::<i64>(&command(&["INCR", "n"])).await });
        until(async || lines.with("WARN", "is busy with a script") > 0).await;
        redis.ask(&["SCRIPT", "KILL"]).await.unwrap();
        soon(answer).await.unwrap()
    };
    assert_eq!(tokio::join!(blocking, asking).1, 2);

    redis.ask(&["ACL", "SETUSER", "default", "-incr"]).await.unwrap();
    let asking = link.clone();
    let answer = tokio::spawn(async move { asking.ask::<i64>(&command(&["INCR", "n"])).await });
    until(async || lines.with("WARN", "denies its user a command or key") > 0).await;
    redis.ask(&["ACL", "SETUSER", "default", "+incr"]).await.unwrap();
    assert_eq!(soon(answer).await.unwrap(), 3);
}

#[tokio::test]
async fn logs_answer_of_wrong_type_and_retries() {
    let (lines, _guard) = Lines::heard();
    let redis = TestServer::start().await;
    redis.ask(&["SET", "a", "text"]).await.unwrap();
    let link = link(&redis.url());
    let asking = link.clone();
    let answer = tokio::spawn(async move { asking.ask::<i64>(&command(&["GET", "a"])).await });
    until(async || lines.with("ERROR", "gives an unexpected answer") > 0).await;
    redis.ask(&["SET", "a", "5"]).await.unwrap();
    assert_eq!(soon(answer).await.unwrap(), 5);
    redis.ask(&["LPUSH", "list", "1"]).await.unwrap();
    let answer = soon(link.ask_or_error::<i64>(&command(&["INCR", "list"]))).await;
    assert!(answer.unwrap_err().contains("wrong kind of value"));
    assert_eq!(soon(link.ask_or_error::<i64>(&command(&["INCR", "a"]))).await, Ok(6));
}

#[tokio::test]
async fn blocking_read_does_not_delay_other_links() {
    let redis = TestServer::start().await;
    let server = server(&redis.url());
    let (link, waiting) = (Link::new(server.clone()), Link::for_waiting(server));
    let read = command(&["XREAD", "BLOCK", "1000", "STREAMS", "s", "0"]);
    let begun = Instant::now();
    let nothing: Value = soon(waiting.ask(&read)).await;
    assert!(nothing == Value::Nil && begun.elapsed() >= Duration::from_millis(900));
    let asking = waiting.clone();
    let answer = tokio::spawn(async move { asking.ask::<Value>(&read).await });
    let begun = Instant::now();
    soon(link.ask::<()>(&command(&["XADD", "s", "1-0", "a", "b"]))).await;
    assert!(matches!(soon(answer).await.unwrap(), Value::Array(_)));
    assert!(begun.elapsed() < Duration::from_millis(500) && waiting.connections() == 1);
}
