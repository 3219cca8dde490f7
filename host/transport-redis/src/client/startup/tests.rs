//! Startup checks of usable and unusable servers.

use super::*;
use crate::client::testing::{Lines, TestServer};
use plugnode_transport::{TransportError, TransportSettings};

fn settings() -> RedisSettings {
    RedisSettings {
        prefix: "test".into(),
        common: TransportSettings {
            partitions: 4,
            ..TransportSettings::default()
        },
        lease: Duration::from_secs(1),
        ..RedisSettings::default()
    }
}

async fn examined(url: &str, settings: &RedisSettings) -> std::result::Result<(), String> {
    let server = match Server::new(url, &settings.tls) {
        Ok(server) => server,
        Err(error) => return Err(error.to_string()),
    };
    assert!(!format!("{server:?} {server}").contains("secret"));
    match examine(&server, settings).await {
        Ok(()) => Ok(()),
        Err(TransportError::Unusable(problem)) => Err(problem),
        Err(_) => panic!("nobody has joined"),
    }
}

async fn refused(url: &str, expected: &str) {
    let problem = examined(url, &settings()).await.expect_err(url);
    assert!(problem.contains(expected), "{problem}\nshould say\n{expected}");
    assert!(!problem.contains("secret"), "{problem}");
}

/// URL of a server with a login.
fn with_login(server: &TestServer, login: &str) -> String {
    server.url().replace(":///", &format!("://{login}@/"))
}

#[tokio::test]
async fn accepts_default_server() {
    let server = TestServer::start().await;
    examined(&server.url(), &settings()).await.unwrap();
    let all = server.ask(&["KEYS", "*"]).await.unwrap();
    assert_eq!(all, Value::Array(Vec::new()), "looking leaves nothing behind");
    let database = format!("{}?db=3", server.url());
    examined(&database, &settings()).await.unwrap();
    refused(&format!("{}?db=99", server.url()), "has no such database").await;
}

#[tokio::test]
async fn checks_passwords_users_and_rights() {
    let server = TestServer::start_with(&["--requirepass", "secret%"]).await;
    examined(&with_login(&server, ":secret%25"), &settings()).await.unwrap();
    refused(&server.url(), "refuses the login (NOAUTH").await;
    refused(&with_login(&server, ":secret"), "refuses the login (WRONGPASS").await;
    let open = TestServer::start().await;
    refused(&with_login(&open, ":secret"), "without any password configured").await;

    let allow = async |rules: &[&str]| {
        let all = [&["ACL", "SETUSER", "me", "reset", "on", ">secret"], rules].concat();
        server.ask(&all).await.unwrap();
    };
    let url = with_login(&server, "me:secret");
    let needed = RIGHTS.split(' ').collect::<Vec<_>>();
    allow(&[&["~{test:*"], &needed[..]].concat()).await;
    examined(&url, &settings())
        .await
        .unwrap_or_else(|problem| panic!("with {RIGHTS}: {problem}"));
    allow(&["~{test:*", "+@all", "-config", "-info"]).await;
    examined(&url, &settings()).await.unwrap();
    allow(&["~{test:*", "+@all", "-xdel", "-hset"]).await;
    refused(
        &url,
        "(HSET, XDEL); give the user of [transport] url the right; it needs at least: ACL SETUSER",
    )
    .await;
    allow(&["~other:*", "+@all"]).await;
    refused(&url, "~{test:*").await;
    allow(&["~*", "+@all", "-eval"]).await;
    refused(&url, "'eval' command").await;
}

#[tokio::test]
async fn refuses_unusable_server_with_a_remedy() {
    let master = TestServer::start().await;
    let replica = TestServer::start().await;
    replica.ask(&["REPLICAOF", "127.0.0.1", "1"]).await.unwrap();
    refused(&replica.url(), "is a replica of 127.0.0.1:1").await;
    let mut waits = settings();
    waits.wait_aof = true;
    let problem = examined(&master.url(), &waits).await.unwrap_err();
    assert!(
        problem.contains("7.2 or newer") || problem.contains("CONFIG SET appendonly yes"),
        "{problem}"
    );

    let (node, _) = TestServer::start_on_port("--port", &["--cluster-enabled", "yes"]).await;
    refused(&node.url(), "is a node of a Cluster: write redis+cluster://").await;
    let (_plain, plain) = TestServer::start_on_port("--port", &[]).await;
    refused(
        &format!("redis+cluster://127.0.0.1:{plain}"),
        "is not a Cluster: write redis://",
    )
    .await;
}

#[tokio::test]
async fn warns_about_settings_that_lose_events() {
    let (lines, _guard) = Lines::heard();
    let server = TestServer::start_with(&["--maxmemory-policy", "allkeys-lru"]).await;
    let waits = RedisSettings {
        wait_replicas: 2,
        ..settings()
    };
    examined(&server.url(), &waits).await.unwrap();
    assert_eq!(lines.with("WARN", "CONFIG SET maxmemory-policy noeviction"), 1);
    assert_eq!(
        lines.with("WARN", "has 0 replicas, and [transport] wait-replicas = 2"),
        1
    );
    assert_eq!(lines.with("WARN", "keeps nothing on disk"), 1);
    server.ask(&["CONFIG", "SET", "save", "60 1"]).await.unwrap();
    server.ask(&["CONFIG", "SET", "maxmemory", "1"]).await.unwrap();
    examined(&server.url(), &waits).await.unwrap();
    assert_eq!(lines.with("WARN", "keeps snapshots only"), 1);
    assert_eq!(lines.with("WARN", "is full (OOM"), 1);
    let well = TestServer::start_with(&["--appendonly", "yes"]).await;
    let (lines, _guard) = Lines::heard();
    examined(&well.url(), &settings()).await.unwrap();
    assert_eq!(lines.with("", ""), 0);
}

#[tokio::test]
async fn accepts_cluster_and_sentinel_master() {
    let (lines, _guard) = Lines::heard();
    let arguments = ["--cluster-enabled", "yes", "--requirepass", "secret"];
    let (node, port) = TestServer::start_on_port("--port", &arguments).await;
    let url = format!("redis+cluster://:secret@127.0.0.1:{port}");
    let at = url.clone();
    let examining = tokio::spawn(async move { examined(&at, &settings()).await });
    tokio::time::sleep(Duration::from_millis(500)).await;
    // The check waits until all slots are assigned.
    node.ask(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]).await.unwrap();
    examining.await.unwrap().unwrap();
    assert_eq!(lines.with("INFO", "shards = 1 uses one node of the Cluster"), 1);
    refused(&url.replace("secret", "secreter"), "refuses the login (WRONGPASS").await;

    let (master, port) = TestServer::start_on_port("--port", &[]).await;
    let (_sentinel, watcher) = TestServer::start_sentinel(port).await;
    examined(&format!("redis+sentinel://127.0.0.1:{watcher}/main"), &settings())
        .await
        .unwrap();
    refused(
        &format!("redis://127.0.0.1:{watcher}"),
        "is a Sentinel: write redis+sentinel://",
    )
    .await;
    drop(master);
}

#[tokio::test]
async fn refuses_old_redis_and_accepts_valkey() {
    let plain = settings();
    let facts = |pairs: &[(&str, &str)]| -> ServerInfo {
        pairs
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect()
    };
    let old = facts(&[("redis_version", "6.2.14")]);
    let Err(StartupFailure::Unfit(problem)) = fits("h", &old, &plain) else {
        panic!("6.2 is too old");
    };
    assert!(
        problem.contains("has version 6.2.14, and plugnode needs 7.0 or newer"),
        "{problem}"
    );
    let waits = RedisSettings {
        wait_aof: true,
        ..plain
    };
    let valkey = facts(&[
        ("redis_version", "7.2.4"),
        ("valkey_version", "8.0.1"),
        ("aof_enabled", "1"),
    ]);
    assert!(fits("h", &valkey, &waits).is_ok());
    assert!(fits("h", &ServerInfo::new(), &waits).is_ok());
}

#[tokio::test]
async fn waits_for_a_starting_server_up_to_a_deadline() {
    let mut server = TestServer::start().await;
    server.kill();
    let url = server.url();
    let examining = tokio::spawn(async move { examined(&url, &settings()).await });
    tokio::time::sleep(Duration::from_millis(400)).await;
    server.restart().await;
    examining.await.unwrap().unwrap();
}
