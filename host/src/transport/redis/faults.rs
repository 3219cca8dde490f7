//! Redis as people run it, and as it fails, seen over a link: every test starts its own.

use std::io;
use std::panic::Location;
use std::path::Path;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use bytes::Bytes;
use redis::{Cmd, Value};
use tracing::subscriber::DefaultGuard;

use super::TlsFiles;
use super::link::Link;
use super::script::Script;
use super::server::Server;
use super::testing::{TestServer, free_port};
use super::trouble::Trouble;

const SOON: Duration = Duration::from_secs(30);

static INCREASE: Script = Script::new("increase", "#!lua\nreturn redis.call('INCRBY', KEYS[1], ARGV[1])");

fn server(url: &str) -> Arc<Server> {
    Arc::new(Server::new(url, &TlsFiles::default()).unwrap())
}

fn link(url: &str) -> Link {
    Link::new(server(url))
}

fn command(words: &[&str]) -> Cmd {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command
}

/// What comes of something that does not take long, else the line that waits for it.
#[track_caller]
fn soon<T>(future: impl Future<Output = T>) -> impl Future<Output = T> {
    let line = Location::caller().line();
    async move {
        let answer = tokio::time::timeout(SOON, future).await;
        answer.unwrap_or_else(|_| panic!("what line {line} waits for does not come"))
    }
}

#[track_caller]
fn until(holds: impl AsyncFn() -> bool) -> impl Future<Output = ()> {
    soon(async move {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
}

/// What is logged by this thread.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    fn heard() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let writer = lines.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_writer(move || writer.clone())
            .finish();
        (lines, tracing::subscriber::set_default(subscriber))
    }

    fn with(&self, level: &str, words: &str) -> usize {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let found = text.lines().filter(|line| line.contains(level) && line.contains(words));
        found.count()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[tokio::test]
async fn a_killed_server_is_waited_for_and_told_of_once() {
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
    // One who gives up is no hindrance to the others.
    asked.pop().unwrap().abort();

    redis.restart().await;
    for answer in asked {
        assert!(soon(answer).await.unwrap() > 1);
    }
    assert!(link.connections() == 2 && other.connections() == 2);
    soon(link.ask::<()>(&command(&["PING"]))).await;
    assert_eq!(lines.with("WARN", "cannot be reached"), 1);
    assert_eq!(lines.with("INFO", "answers again, after"), 1);
    assert_eq!(lines.with("", "secret"), 0);
}

#[tokio::test]
async fn a_closed_connection_is_made_anew_without_a_word() {
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
async fn a_server_that_hangs_is_given_up_and_found_again() {
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
async fn full_memory_is_waited_out() {
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
        // What needs no memory goes on, and is no sign of the end.
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
async fn what_a_failing_disk_or_missing_replicas_refuse_is_waited_for() {
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

    // A folder that is gone cannot be written to.
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
async fn a_busy_server_and_a_right_taken_away_are_waited_for() {
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
async fn an_answer_of_the_wrong_kind_is_an_error_in_the_log_and_no_panic() {
    let (lines, _guard) = Lines::heard();
    let redis = TestServer::start().await;
    redis.ask(&["SET", "a", "text"]).await.unwrap();
    let link = link(&redis.url());
    let asking = link.clone();
    let answer = tokio::spawn(async move { asking.ask::<i64>(&command(&["GET", "a"])).await });
    until(async || lines.with("ERROR", "answers what was not expected") > 0).await;
    redis.ask(&["SET", "a", "5"]).await.unwrap();
    assert_eq!(soon(answer).await.unwrap(), 5);
    redis.ask(&["LPUSH", "list", "1"]).await.unwrap();
    let answer = soon(link.ask_or_error::<i64>(&command(&["INCR", "list"]))).await;
    assert!(answer.unwrap_err().contains("wrong kind of value"));
    assert_eq!(soon(link.ask_or_error::<i64>(&command(&["INCR", "a"]))).await, Ok(6));
}

#[tokio::test]
async fn a_read_that_waits_keeps_nobody_waiting() {
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

#[tokio::test]
async fn another_master_that_sentinels_elect_is_followed() {
    let (lines, _guard) = Lines::heard();
    let [first, second, third] = [free_port(), free_port(), free_port()];
    let mut old = TestServer::start_with(&["--port", &first.to_string()]).await;
    let replica = [
        "--port",
        &second.to_string(),
        "--replicaof",
        "127.0.0.1",
        &first.to_string(),
    ];
    let new = TestServer::start_with(&replica).await;
    until(async || old.ask(&["WAIT", "1", "100"]).await == Ok(Value::Int(1))).await;
    let sentinel = TestServer::start_sentinel(third, first).await;
    let dead = free_port();
    let url = format!("redis+sentinel://127.0.0.1:{dead},127.0.0.1:{third}/main");
    until(async || {
        let Ok(Value::Array(replicas)) = sentinel.ask(&["SENTINEL", "REPLICAS", "main"]).await else {
            return false;
        };
        !replicas.is_empty()
    })
    .await;

    let unknown = self::server(&url.replace("/main", "/other")).connect(SOON).await;
    let trouble = unknown.err().map(|trouble: Trouble| trouble.words("there"));
    assert!(
        trouble
            .as_ref()
            .is_some_and(|words| words.contains("it knows no master `other`")),
        "{trouble:?}"
    );

    let server = self::server(&url);
    let (link, waiting) = (Link::new(server.clone()), Link::for_waiting(server));
    soon(link.ask::<()>(&command(&["SET", "n", "1"]))).await;
    soon(waiting.ask::<()>(&command(&["PING"]))).await;
    assert_eq!(old.ask(&["GET", "n"]).await.unwrap(), Value::BulkString(b"1".into()));
    until(async || new.ask(&["GET", "n"]).await == Ok(Value::BulkString(b"1".into()))).await;
    old.kill();
    assert_eq!(soon(link.ask::<i64>(&command(&["INCR", "n"]))).await, 2);
    assert_eq!(soon(waiting.ask::<i64>(&command(&["INCR", "n"]))).await, 3);
    assert_eq!(new.ask(&["GET", "n"]).await.unwrap(), Value::BulkString(b"3".into()));
    assert!(link.connections() >= 2);
    until(async || lines.with("WARN", "has another master") == 1).await;

    // One that is a master no more need not know: it lives on, and would take what is written to it.
    let fourth = free_port();
    let other = TestServer::start_with(&["--port", &fourth.to_string()]).await;
    sentinel.ask(&["SENTINEL", "REMOVE", "main"]).await.unwrap();
    let named = ["SENTINEL", "MONITOR", "main", "127.0.0.1", &fourth.to_string(), "1"];
    sentinel.ask(&named).await.unwrap();
    until(async || lines.with("WARN", "has another master") == 2).await;
    soon(link.ask::<()>(&command(&["SET", "n", "7"]))).await;
    assert_eq!(soon(waiting.ask::<i64>(&command(&["INCR", "n"]))).await, 8);
    assert_eq!(other.ask(&["GET", "n"]).await.unwrap(), Value::BulkString(b"8".into()));
}

/// A node of a Cluster at a port of its own.
async fn cluster_node() -> (TestServer, u16) {
    let (port, bus) = (free_port(), free_port());
    let arguments = [
        "--cluster-enabled",
        "yes",
        "--port",
        &port.to_string(),
        "--cluster-port",
        &bus.to_string(),
    ];
    let node = TestServer::start_with(&arguments).await;
    (node, port)
}

async fn id(node: &TestServer) -> String {
    match node.ask(&["CLUSTER", "MYID"]).await {
        Ok(Value::BulkString(id)) => String::from_utf8(id).unwrap(),
        other => panic!("this is no id: {other:?}"),
    }
}

async fn is_well(node: &TestServer, nodes: usize) -> bool {
    let Ok(Value::BulkString(state)) = node.ask(&["CLUSTER", "INFO"]).await else {
        return false;
    };
    let state = String::from_utf8(state).unwrap();
    state.contains("cluster_state:ok") && state.contains(&format!("cluster_known_nodes:{nodes}\r"))
}

#[tokio::test]
async fn a_cluster_is_used_by_slots_through_their_moves_and_a_promotion() {
    let (a, a_port) = cluster_node().await;
    let (b, b_port) = cluster_node().await;
    a.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await.unwrap();
    until(async || is_well(&a, 1).await).await;
    let server = self::server(&format!("redis+cluster://127.0.0.1:{},127.0.0.1:{a_port}", free_port()));
    assert!(server.is_cluster());
    let (link, waiting) = (Link::new(server.clone()), Link::for_waiting(server));
    let keys = [Bytes::from("{p:0}:n"), Bytes::from("{p:0}:m")];
    assert_eq!(soon(link.run::<i64>(&INCREASE, &keys, &["1".into()])).await, 1);
    a.ask(&["SCRIPT", "FLUSH"]).await.unwrap();
    let wait = command(&["WAIT", "0", "100"]);
    let (sum, waited) = soon(link.run_then::<i64>(&INCREASE, &keys, &["1".into()], &[wait])).await;
    assert_eq!((sum, waited), (2, vec![Value::Int(0)]));
    let mut several = redis::pipe();
    several
        .cmd("XADD")
        .arg("{p:0}:s")
        .arg("1-0")
        .arg("a")
        .arg("b")
        .cmd("EXPIRE")
        .arg("{p:0}:s")
        .arg(100);
    assert_eq!(soon(link.ask_all(&several)).await.len(), 2);
    let read = command(&["XREAD", "BLOCK", "1000", "STREAMS", "{p:0}:s", "{p:0}:t", "0", "0"]);
    assert!(matches!(soon(waiting.ask::<Value>(&read)).await, Value::Array(_)));

    // The slot moves to another node, key by key, while it is written to.
    let meet = async || {
        let _ = b
            .ask(&["CLUSTER", "MEET", "127.0.0.1", &a_port.to_string(), &bus(&a).await])
            .await;
        is_well(&a, 2).await && is_well(&b, 2).await
    };
    until(meet).await;
    let slot = match a.ask(&["CLUSTER", "KEYSLOT", "{p:0}:n"]).await.unwrap() {
        Value::Int(slot) => slot.to_string(),
        other => panic!("this is no slot: {other:?}"),
    };
    let (a_id, b_id) = (id(&a).await, id(&b).await);
    let adding = link.clone();
    let added = tokio::spawn(async move {
        let mut sum = 0;
        for _ in 0..200 {
            sum = adding.run::<i64>(&INCREASE, &["{p:0}:n".into()], &["1".into()]).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        sum
    });
    b.ask(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &a_id]).await.unwrap();
    a.ask(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &b_id]).await.unwrap();
    tokio::time::sleep(Duration::from_millis(30)).await;
    for key in ["{p:0}:n", "{p:0}:s"] {
        let moved = a
            .ask(&["MIGRATE", "127.0.0.1", &b_port.to_string(), key, "0", "1000"])
            .await;
        moved.unwrap();
        tokio::time::sleep(Duration::from_millis(30)).await;
    }
    for node in [&b, &a] {
        node.ask(&["CLUSTER", "SETSLOT", &slot, "NODE", &b_id]).await.unwrap();
    }
    assert_eq!(soon(added).await.unwrap(), 202, "each was added, and here none twice");
    assert!(matches!(soon(waiting.ask::<Value>(&read)).await, Value::Array(_)));

    // A replica takes over from a node that is gone.
    let (c, _) = cluster_node().await;
    let meet = async || {
        let _ = c
            .ask(&["CLUSTER", "MEET", "127.0.0.1", &b_port.to_string(), &bus(&b).await])
            .await;
        is_well(&b, 3).await && is_well(&c, 3).await
    };
    until(meet).await;
    until(async || c.ask(&["CLUSTER", "REPLICATE", &b_id]).await.is_ok()).await;
    until(async || b.ask(&["WAIT", "1", "100"]).await == Ok(Value::Int(1))).await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let before = waiting.connections();
    drop(b);
    until(async || c.ask(&["CLUSTER", "FAILOVER", "TAKEOVER"]).await.is_ok()).await;
    assert_eq!(soon(link.run::<i64>(&INCREASE, &keys, &["1".into()])).await, 203);
    until(async || {
        let _: Value = waiting.ask(&read).await;
        waiting.connections() > before
    })
    .await;
}

/// The port by which nodes speak to each other.
async fn bus(node: &TestServer) -> String {
    match node.ask(&["CONFIG", "GET", "cluster-port"]).await {
        Ok(Value::Array(pair)) => match &pair[1] {
            Value::BulkString(port) => String::from_utf8(port.clone()).unwrap(),
            other => panic!("this is no port: {other:?}"),
        },
        other => panic!("this is no setting: {other:?}"),
    }
}

#[tokio::test]
async fn tls_is_spoken_and_what_hinders_it_is_explained() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    certificates(folder.path());
    let port = free_port().to_string();
    let path = |name: &str| file(name).to_str().unwrap().to_owned();
    let (cert, key, ca) = (path("server.pem"), path("server.key"), path("ca.pem"));
    let redis = TestServer::start_with(&[
        "--tls-port",
        &port,
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
    ])
    .await;
    let url = format!("rediss://localhost:{port}");
    let all = TlsFiles {
        ca: Some(file("ca.pem")),
        cert: Some(file("server.pem")),
        key: Some(file("server.key")),
    };
    let server = |url: &str, files: &TlsFiles| Server::new(url, files).map(Arc::new);
    let pong = async |url: &str, files: &TlsFiles| {
        let link = Link::new(server(url, files).map_err(|error| error.to_string())?);
        soon(link.try_ask::<String>(&command(&["PING"]))).await
    };
    assert_eq!(pong(&url, &all).await.as_deref(), Ok("PONG"));
    let link = Link::new(server(&url, &all).unwrap());
    assert_eq!(soon(link.run::<i64>(&INCREASE, &["n".into()], &["2".into()])).await, 2);

    let refused = async |url: &str, files: &TlsFiles, expected: &str| {
        let problem = pong(url, files).await.expect_err(expected);
        assert!(problem.contains(expected), "{problem}\nshould say\n{expected}");
    };
    let without_ca = TlsFiles {
        ca: None,
        ..all.clone()
    };
    refused(
        &url,
        &without_ca,
        "name the certificate of whoever signed the server's in [transport] tls-ca",
    )
    .await;
    let no_cert = TlsFiles {
        cert: None,
        key: None,
        ..all.clone()
    };
    refused(&url, &no_cert, "name one in [transport] tls-cert and tls-key").await;
    refused(
        &url.replace("localhost", "127.0.0.1"),
        &all,
        "write the host in [transport] url",
    )
    .await;
    let gone = TlsFiles {
        ca: Some(file("gone.pem")),
        ..all.clone()
    };
    refused(&url, &gone, "[transport] tls-ca: cannot read").await;
    let no_key = TlsFiles {
        key: None,
        ..all.clone()
    };
    refused(&url, &no_key, "tls-cert and tls-key go together").await;
    refused(&redis.url(), &all, "are for a url with TLS").await;
    std::fs::write(file("empty.pem"), "").unwrap();
    let empty = TlsFiles {
        ca: Some(file("empty.pem")),
        ..all.clone()
    };
    refused(&url, &empty, "tls-ca: there is no certificate in").await;

    let plain_port = free_port().to_string();
    let _plain = TestServer::start_with(&["--port", &plain_port]).await;
    refused(
        &format!("rediss://localhost:{plain_port}"),
        &all,
        "write redis:// for rediss://",
    )
    .await;
    redis.ask(&["CONFIG", "SET", "tls-auth-clients", "no"]).await.unwrap();
    assert_eq!(pong(&url, &no_cert).await.as_deref(), Ok("PONG"));
}

/// A CA and a certificate for localhost by it.
fn certificates(folder: &Path) {
    let openssl = |arguments: &str| {
        let made = Command::new("openssl")
            .args(arguments.split(' '))
            .current_dir(folder)
            .output();
        let made = made.expect("openssl can be started; install the package openssl");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    };
    std::fs::write(folder.join("names"), "subjectAltName=DNS:localhost\n").unwrap();
    let new = "req -new -nodes -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -batch";
    openssl(&format!("{new} -x509 -days 2 -subj /CN=ca -keyout ca.key -out ca.pem"));
    openssl(&format!("{new} -subj /CN=localhost -keyout server.key -out server.csr"));
    openssl("x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 -extfile names -out server.pem");
}
