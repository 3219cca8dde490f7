//! What operators observe: log lines, metrics, warnings, and the list of io-nodes.

use std::fs;
use std::time::Duration;

use plugnode_tests::{Client, Cluster, Node, RedisServer, app, component, temp_folder, verb, within};
use serde_json::{Value, json};

use crate::operation::{node, status};
use crate::reload::SECRETS;
use crate::shutdown::listed;

/// The listed io-nodes, once there are any.
async fn listed_at_last(node: &Node) -> Vec<Value> {
    let named = async {
        loop {
            let listed = listed(node).await;
            if !listed.is_empty() {
                return listed;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    within("io-nodes are listed", named).await
}

#[tokio::test]
async fn io_node_list_has_scheme_and_path() {
    let (plain, _folder) = node("[io-node]\npath = \"/rt\"", "0").await;
    let expected = json!({ "host": "127.0.0.1", "port": plain.port(), "scheme": "http", "path": "/rt" });
    assert_eq!(listed_at_last(&plain).await, [expected]);
    let (advertised, _folder) = node("[io-node]\nadvertise = \"https://chat.example/chat/socket.io\"", "0").await;
    let expected = json!({ "host": "chat.example", "port": 443, "scheme": "https", "path": "/chat/socket.io" });
    assert_eq!(listed_at_last(&advertised).await, [expected]);
}

#[tokio::test]
async fn json_log_lines_name_node_role_and_version() {
    let json = "[log]\nformat = \"json\"\n";
    let (node, _folder) = node(&format!("{json}[io-node]\nname = \"io-7\""), "0").await;
    for line in node.log().lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert_eq!(
            (&line["node"], &line["role"]),
            (&json!("io-7"), &json!("frontend,io-node,app-node")),
            "{line}"
        );
        assert!(
            line["version"].is_string() && line["level"].is_string() && line["message"].is_string(),
            "{line}"
        );
    }
    let folder = temp_folder();
    let file = folder.path().join("plugnode.toml");
    for (config, words) in [
        (
            format!(
                "{json}[http]\nlisten = \"127.0.0.1:{}\"\n{}",
                node.port(),
                app("/", &component("echo"), "")
            ),
            "address in use",
        ),
        (format!("{json}[http]\nlistne = 1\n"), "listne"),
    ] {
        fs::write(&file, config).expect("the file can be written");
        let said = verb(&["run", "-c", "plugnode.toml"], folder.path()).await;
        assert!(!said.status.success());
        let last = said.err.lines().last().expect("it says why");
        let last: Value = serde_json::from_str(last).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        assert_eq!(last["level"], "ERROR", "{last}");
        assert!(
            last["message"].as_str().is_some_and(|message| message.contains(words)),
            "{last}"
        );
    }
}

#[tokio::test]
async fn metrics_report_gauges_and_latencies() {
    let settings = "[admin]\nlisten = \"127.0.0.1:0\"\n[log]\nlevel = \"debug\"";
    let (node, _folder) = node(settings, "0").await;
    let port = node.admin_port().await;
    let mut client = Client::connect(&node).await;
    for _ in 0..5 {
        client.ask("where", &[]).await;
    }
    let metrics = node.get_at(port, "/metrics").await;
    let value = |name: &str| -> f64 {
        let line = metrics
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.and_then(|value| value.parse().ok())
            .unwrap_or_else(|| panic!("{name}: {metrics}"))
    };
    assert_eq!(value("plugnode_clients"), 1.0);
    assert_eq!(value("plugnode_acknowledgement_seconds_count"), 5.0);
    assert!(value("plugnode_handling_seconds_count") >= 6.0 && value("plugnode_ingest_seconds_count") >= 6.0);
    assert!(value("plugnode_acknowledgement_seconds_sum") < 10.0);
    assert!(value("plugnode_backlog") >= 0.0 && value("plugnode_events_in_hand") >= 0.0);

    for _ in 0..50 {
        let answer = status(node.port(), "/socket.io/?EIO=4&transport=polling&sid=nobody").await;
        assert!(answer.expect("the node listens").contains("400"));
    }
    let logged = node
        .log()
        .lines()
        .filter(|line| line.contains("Session ID unknown"))
        .count();
    assert!((1..50).contains(&logged), "{logged}");
    let metrics = node.get_at(port, "/metrics").await;
    assert!(
        metrics.contains("plugnode_connections_refused_total{reason=\"session_unknown\"} 50\n"),
        "{metrics}"
    );
}

#[tokio::test]
async fn survivors_log_lost_node_and_its_share() {
    let redis = RedisServer::start().await;
    let cluster = Cluster::new(redis.url())
        .app("/", &component("echo"), "")
        .transport("lease-ms = 1000");
    let (io_1, mut io_2) = (cluster.start_io().await, cluster.start_io().await);
    let (app_1, mut app_2) = (cluster.start_app().await, cluster.start_app().await);
    let mut clients = Vec::new();
    for _ in 0..3 {
        let mut client = Client::connect(&io_2).await;
        client.ask("n", &[]).await;
        clients.push(client);
    }
    io_2.kill9().await;
    let told = async |node: &Node| {
        let line = node.logged("an io-node is gone").await;
        assert!(
            line.contains("WARN") && line.contains("io-2") && line.contains("clients=3"),
            "{line}"
        );
    };
    tokio::select! {
        () = told(&io_1) => {}
        () = told(&app_1) => {}
        () = told(&app_2) => {}
    }
    app_2.kill9().await;
    let line = app_1.logged("an app-node is gone").await;
    assert!(
        line.contains("WARN") && line.contains("app-2") && !line.contains("partitions=0"),
        "{line}"
    );
    // Each survivor detects it independently.
    io_1.logged("an app-node is gone").await;
    assert!(app_1.stop().await.success());
    let (_, log) = io_1.stop_with_log().await;
    assert_eq!(
        log.matches("an app-node is gone").count(),
        1,
        "a node that shuts down is not reported: {log}"
    );
}

#[tokio::test]
async fn warns_of_world_readable_secret() {
    use std::os::unix::fs::PermissionsExt;
    let folder = temp_folder();
    let secret = folder.path().join("token.secret");
    fs::write(&secret, SECRETS[0]).expect("the file can be written");
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).expect("the file is ours");
    let (node, _folder) = node(&format!("[io-node.token]\nsecret-file = {secret:?}"), "0").await;
    let line = node.logged("secret-file").await;
    assert!(
        line.contains("WARN") && line.contains("0644") && line.contains("chmod"),
        "{line}"
    );
}
