//! Shutdown: load balancers are warned first, accepted events are answered, and an unreachable Redis does not delay the end.

use std::fs;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use plugnode_tests::{Client, Cluster, KEY_VALUE, Node, RedisServer, component, temp_folder, within};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::operation::{node, status};

/// The io-nodes that a frontend lists.
pub(crate) async fn listed(node: &Node) -> Vec<Value> {
    let answer = node.get("/config.json").await;
    let (_, json) = answer.split_once("\r\n\r\n").expect("it has a body");
    serde_json::from_str(json).expect("it is JSON")
}

#[tokio::test]
async fn shutdown_refuses_no_load_balanced_connection() {
    let (mut node, _folder) = node("", "2500").await;
    let mut client = Client::connect(&node).await;
    let port = node.port();
    let balance = async {
        let (mut requests, mut is_ready) = (0, true);
        // Like a load balancer: poll readiness, and stop sending once the node is not ready.
        for look in 0.. {
            if look % 10 == 0 {
                let ready = status(port, "/readyz").await.expect("health checks are answered");
                is_ready = ready.contains(" 200 ");
            }
            if !is_ready {
                return requests;
            }
            let answer = status(port, "/socket.io/?EIO=4&transport=polling").await;
            let answer = answer.expect("a node that was just ready accepts connections");
            assert!(answer.contains(" 200 "), "{answer}");
            requests += 1;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        requests
    };
    let terminate = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        node.terminate();
    };
    let (requests, ()) = tokio::join!(within("the node becomes unready", balance), terminate);
    assert!(requests > 10, "{requests}");
    let unlisted = async {
        while !listed(&node).await.is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let unlisted = tokio::time::timeout(Duration::from_secs(2), unlisted).await;
    unlisted.expect("the node is removed from the list");
    client.ask("where", &[]).await;
    let late = Client::connect(&node).await;
    drop(late);
    let answer = node.get("/healthz").await.to_lowercase();
    assert!(
        answer.contains("200 ok") && answer.contains("connection: close"),
        "{answer}"
    );
    assert!(node.ended().await.success(), "{}", node.log());
}

#[tokio::test]
async fn app_node_skips_lame_duck_period() {
    let redis = RedisServer::start().await;
    let cluster = Cluster::new(redis.url()).app("/", &component("echo"), "");
    let folder = temp_folder();
    let file = folder.path().join("plugnode.toml");
    fs::write(&file, cluster.config("app-node")).expect("the file can be written");
    let mut app_node = Node::configured(&file, &[("PLUGNODE_SHUTDOWN__LAME_DUCK_MS", "20000")]).await;
    app_node.terminate();
    let begun = Instant::now();
    assert!(app_node.ended().await.success());
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn shutdown_answers_events_already_read() {
    for over_redis in [false, true] {
        let redis = RedisServer::start().await;
        let settings = "[io-node]\ndrain-ms = 200";
        let cluster = Cluster::new(redis.url()).app("/", &component("faulty"), KEY_VALUE);
        let (node, _app_node, _folder) = match over_redis {
            false => {
                let (node, folder) = node(settings, "0").await;
                (node, None, Some(folder))
            }
            true => {
                let cluster = cluster.settings(settings);
                (cluster.start_io().await, Some(cluster.start_app().await), None)
            }
        };
        let mut clients = Vec::new();
        for _ in 0..25 {
            clients.push(Client::connect(&node).await);
        }
        let asking = clients
            .iter_mut()
            .map(async |client| client.ask("slow", &[json!(50)]).await);
        let terminate = async {
            tokio::time::sleep(Duration::from_millis(100)).await;
            node.terminate();
        };
        // `ask` fails without an answer.
        let (answers, ()) = tokio::join!(join_all(asking), terminate);
        assert_eq!(answers.len(), 25);
        let mut node = node;
        assert!(node.ended().await.success(), "{}", node.log());
    }
}

/// Sends a polling request on a new connection; returns the body of the answer.
async fn polled(port: u16, method: &str, query: &str, body: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await?;
    let length = body.len();
    let request = format!(
        "{method} /socket.io/?EIO=4&transport=polling{query} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\
         Content-Length: {length}\r\n\r\n{body}"
    );
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (_, body) = answer.split_once("\r\n\r\n").unwrap_or_default();
    Ok(body.to_owned())
}

#[tokio::test]
async fn polling_client_gets_every_answer_before_shutdown() {
    let (mut node, _folder) = node("[io-node]\ndrain-ms = 200", "300").await;
    let port = node.port();
    let opened = polled(port, "GET", "", "").await.expect("the node listens");
    let opened: Value = serde_json::from_str(&opened[1..]).expect("it is an open packet");
    let sid = format!("&sid={}", opened["sid"].as_str().expect("it is text"));
    polled(port, "POST", &sid, "40").await.expect("the node listens");
    polled(port, "GET", &sid, "").await.expect("the node listens");
    node.terminate();
    let events: Vec<String> = (1..=4).map(|number| format!("42{number}[\"slow\",300]")).collect();
    polled(port, "POST", &sid, &events.join("\u{1e}"))
        .await
        .expect("the node listens");
    let mut heard = String::new();
    // Each poll uses a new connection.
    while (1..=4).any(|number| !heard.contains(&format!("43{number}["))) {
        heard += &polled(port, "GET", &sid, "")
            .await
            .expect("the node listens until everything is answered");
    }
    let late = status(port, "/socket.io/?EIO=4&transport=polling").await;
    assert!(
        late.is_err() || late.is_ok_and(|status| status.contains("503")),
        "the node accepts no new sessions"
    );
    assert!(node.ended().await.success(), "{}", node.log());
}

#[tokio::test]
async fn shuts_down_promptly_while_redis_is_away() {
    let mut redis = RedisServer::start().await;
    let cluster = Cluster::new(redis.url()).app("/", &component("faulty"), KEY_VALUE);
    let (mut io_node, mut app_node) = (cluster.start_io().await, cluster.start_app().await);
    let mut client = Client::connect(&io_node).await;
    client.ask("where", &[]).await;
    redis.kill().await;
    client.emit("where", &[]).await;
    let begun = Instant::now();
    io_node.terminate();
    app_node.terminate();
    tokio::join!(io_node.ended(), app_node.ended());
    println!("both ended after {:?}", begun.elapsed());
    assert!(begun.elapsed() < Duration::from_secs(8), "{:?}", begun.elapsed());
}
