//! Deployments of Redis, seen over a link: Sentinels, Cluster, TLS.

use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;

use crate::client::fault::RedisFault;
use crate::client::fault_tests::{INCREASE, SOON, command, server, soon, until};
use crate::client::link::Link;
use crate::client::server::Server;
use crate::client::testing::{Lines, TestServer, closed_port};
use crate::settings::TlsFiles;

#[tokio::test]
async fn follows_the_master_that_sentinels_elect() {
    let (lines, _guard) = Lines::heard();
    let (mut old, first) = TestServer::start_on_port("--port", &[]).await;
    let replica = ["--replicaof", "127.0.0.1", &first.to_string()];
    let (new, _) = TestServer::start_on_port("--port", &replica).await;
    until(async || old.ask(&["WAIT", "1", "100"]).await == Ok(Value::Int(1))).await;
    let (sentinel, third) = TestServer::start_sentinel(first).await;
    let (_closed, dead) = closed_port();
    let url = format!("redis+sentinel://127.0.0.1:{dead},127.0.0.1:{third}/main");
    until(async || {
        let Ok(Value::Array(replicas)) = sentinel.ask(&["SENTINEL", "REPLICAS", "main"]).await else {
            return false;
        };
        !replicas.is_empty()
    })
    .await;

    let unknown = server(&url.replace("/main", "/other")).connect(SOON).await;
    let fault = unknown.err().map(|fault: RedisFault| fault.describe("there"));
    assert!(
        fault
            .as_ref()
            .is_some_and(|words| words.contains("it knows no master `other`")),
        "{fault:?}"
    );

    let server = server(&url);
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

    // A former master may not know it, and would still accept writes.
    let (other, fourth) = TestServer::start_on_port("--port", &[]).await;
    sentinel.ask(&["SENTINEL", "REMOVE", "main"]).await.unwrap();
    let named = ["SENTINEL", "MONITOR", "main", "127.0.0.1", &fourth.to_string(), "1"];
    sentinel.ask(&named).await.unwrap();
    until(async || lines.with("WARN", "has another master") == 2).await;
    soon(link.ask::<()>(&command(&["SET", "n", "7"]))).await;
    assert_eq!(soon(waiting.ask::<i64>(&command(&["INCR", "n"]))).await, 8);
    assert_eq!(other.ask(&["GET", "n"]).await.unwrap(), Value::BulkString(b"8".into()));
}

/// Starts a Cluster node, and returns its port.
async fn cluster_node() -> (TestServer, u16) {
    TestServer::start_on_port("--port", &["--cluster-enabled", "yes"]).await
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
async fn cluster_survives_slot_moves_and_a_promotion() {
    let (a, a_port) = cluster_node().await;
    let (b, b_port) = cluster_node().await;
    a.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await.unwrap();
    until(async || is_well(&a, 1).await).await;
    let (_closed, dead) = closed_port();
    let server = server(&format!("redis+cluster://127.0.0.1:{dead},127.0.0.1:{a_port}"));
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
    let mut twice = redis::pipe();
    twice.cmd("EXISTS").arg("{p:0}:n").cmd("EXPIRE").arg("{p:0}:s").arg(100);
    let read = command(&["XREAD", "BLOCK", "1000", "STREAMS", "{p:0}:s", "{p:0}:t", "0", "0"]);
    assert!(matches!(soon(waiting.ask::<Value>(&read)).await, Value::Array(_)));

    // Moves the slot to another node, key by key, during writes.
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
        // With one key moved and one not, both are served.
        assert_eq!(soon(link.ask_all(&twice)).await.len(), 2);
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

    // Promotes a replica after the loss of its master.
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

/// Port of a node's cluster bus.
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
async fn speaks_tls_and_explains_failed_handshakes() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name);
    certificates(folder.path());
    let path = |name: &str| file(name).to_str().unwrap().to_owned();
    let (cert, key, ca) = (path("server.pem"), path("server.key"), path("ca.pem"));
    let files = [
        "--tls-cert-file",
        &cert,
        "--tls-key-file",
        &key,
        "--tls-ca-cert-file",
        &ca,
    ];
    let (redis, port) = TestServer::start_on_port("--tls-port", &files).await;
    let url = format!("rediss://localhost:{port}");
    let all = TlsFiles {
        ca: Some(file("ca.pem")),
        cert: Some(file("server.pem")),
        key: Some(file("server.key")),
    };
    let with = |url: &str, files: &TlsFiles| Server::new(url, files).map(Arc::new);
    let pong = async |url: &str, files: &TlsFiles| {
        let link = Link::new(with(url, files).map_err(|error| error.to_string())?);
        soon(link.try_ask::<String>(&command(&["PING"]))).await
    };
    assert_eq!(pong(&url, &all).await.as_deref(), Ok("PONG"));
    let link = Link::new(with(&url, &all).unwrap());
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
        "name the CA certificate that signed the server's in [transport] tls-ca",
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

    let (_plain, plain_port) = TestServer::start_on_port("--port", &[]).await;
    refused(
        &format!("rediss://localhost:{plain_port}"),
        &all,
        "write redis:// for rediss://",
    )
    .await;
    redis.ask(&["CONFIG", "SET", "tls-auth-clients", "no"]).await.unwrap();
    assert_eq!(pong(&url, &no_cert).await.as_deref(), Ok("PONG"));
}

/// Creates a CA, and a certificate for localhost signed by it.
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
