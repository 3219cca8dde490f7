//! An app's first release: deployed or from the configured file, before any node runs the app.

use std::fs;

use plugnode_tests::{
    Client, Cluster, Flaw, KEY_VALUE, Node, RedisServer, RunningCommand, component, temp_folder, verb, within,
};
use serde_json::json;

#[tokio::test]
async fn failed_first_deploy_falls_back_to_configured_file() {
    let redis = RedisServer::start().await;
    let folder = temp_folder();
    let configured = folder.path().join("app.wasm");
    fs::copy(component("echo"), &configured).expect("the file can be copied");
    let cluster = Cluster::new(redis.url()).app("/", &configured, KEY_VALUE);
    let config = cluster.config("app-node");
    fs::write(folder.path().join("plugnode.toml"), config).expect("the file can be written");
    let recorder = fs::read(component("recorder")).expect("the component was built");
    let trapping = folder.path().join("trapping.wasm");
    fs::write(&trapping, Flaw::Start.of(recorder)).expect("the file can be written");
    let trapping = trapping.to_str().expect("the path is UTF-8");

    // The failed start is reported with its reason, and the node uses its configured file.
    let deploy = RunningCommand::begin(&["deploy", trapping, "--json"], folder.path());
    let posted = async { while !verb(&["releases", "--json"], folder.path()).await.status.success() {} };
    within("the deploy is requested", posted).await;
    let (said, node) = tokio::join!(deploy.end(), cluster.start_app());
    assert_eq!(
        (said.status.code(), &said.json()["outcome"]),
        (Some(1), &json!("failed")),
        "{said:?}"
    );
    let releases = verb(&["releases", "--json"], folder.path()).await.json();
    assert_eq!(
        (&releases[0]["origin"], &releases[0]["state"], &releases[1]["state"]),
        (&json!("config"), &json!("in-use"), &json!("failed")),
        "{releases}"
    );
    node.stop().await;
}

#[tokio::test]
async fn first_node_starts_release_deployed_before_it() {
    let redis = RedisServer::start().await;
    let folder = temp_folder();
    // The configured file is unusable.
    let configured = folder.path().join("app.wasm");
    fs::write(&configured, b"this is not wasm").expect("the file can be written");
    let cluster = Cluster::new(redis.url()).app("/", &configured, "");
    let config = cluster.config("app-node");
    fs::write(folder.path().join("plugnode.toml"), config).expect("the file can be written");
    let echo = component("echo");
    let echo = echo.to_str().expect("the path is UTF-8");
    let early = verb(&["deploy", echo, "--timeout", "200ms", "--json"], folder.path()).await;
    assert_eq!(early.json()["outcome"], "not-followed", "{early:?}");
    let again = RunningCommand::begin(&["deploy", echo, "--json"], folder.path());
    let (said, _node) = tokio::join!(again.end(), cluster.start_app());
    assert!(said.status.success(), "{said:?}");
    // The node may have started the release before the second command asked for it.
    let outcome = &said.json()["outcome"];
    assert!([json!("not-tried"), json!("in-use")].contains(outcome), "{said:?}");
    let io_node = cluster.start_io().await;
    Client::connect(&io_node).await.ask("hello", &[]).await;
    let releases = verb(&["releases", "--json"], folder.path()).await.json();
    assert_eq!(releases[0]["origin"], "deploy", "{releases}");
}

#[tokio::test]
async fn first_component_that_cannot_start_leaves_no_release() {
    let redis = RedisServer::start().await;
    let folder = temp_folder();
    let file = folder.path().join("app.wasm");
    let cluster = Cluster::new(redis.url()).app("/", &file, KEY_VALUE);
    let io_node = cluster.start_io().await;
    let config = format!("[transport]\nurl = {:?}\n", redis.url());
    fs::write(folder.path().join("plugnode.toml"), config).expect("the file can be written");
    let recorder = fs::read(component("recorder")).expect("the component was built");
    for broken in [b"this is not wasm".to_vec(), Flaw::Start.of(recorder)] {
        fs::write(&file, broken).expect("the file can be written");
        let mut node = Node::begin(&cluster.config("app-node"));
        node.logged("app.wasm cannot start as the first release").await;
        assert!(!node.ended().await.success());
        let said = verb(&["releases"], folder.path()).await;
        assert!(said.err.contains("no app runs here yet"), "{said:?}");
    }
    // A usable file becomes the first release. One that fails at its first event can be replaced as well.
    fs::copy(component("faulty"), &file).expect("the file can be copied");
    let node = cluster.start_app().await;
    let breaks = Client::connect_to(&io_node, "/", json!({ "break": true })).await;
    let mut client = breaks.expect("the client is accepted although its connection event fails");
    node.logged("release has answered no event yet and fails").await;
    node.stop().await;
    fs::copy(component("echo"), &file).expect("the file can be copied");
    let _node = cluster.start_app().await;
    client.ask("panic", &[]).await;
    let releases = verb(&["releases", "--json"], folder.path()).await.json();
    assert_eq!(
        (&releases[0]["state"], &releases[1]["state"]),
        (&json!("in-use"), &json!("failed")),
        "{releases}"
    );
}

#[tokio::test]
async fn removes_app_that_no_node_runs() {
    let redis = RedisServer::start().await;
    let folder = temp_folder();
    let cluster = Cluster::new(redis.url()).app("/", &component("echo"), "");
    fs::write(folder.path().join("plugnode.toml"), cluster.config("app-node")).expect("the file can be written");
    let echo = component("echo");
    let early = [
        "deploy",
        echo.to_str().expect("the path is UTF-8"),
        "--timeout",
        "200ms",
    ];
    assert!(!verb(&early, folder.path()).await.status.success());
    let said = verb(&["releases"], folder.path()).await;
    assert!(said.out.contains("waits for an app-node"), "{said:?}");
    let said = verb(&["remove", "/", "--json"], folder.path()).await;
    assert_eq!(said.json()["releases"], 1, "{said:?}");
    let said = verb(&["remove", "/"], folder.path()).await;
    assert!(
        !said.status.success() && said.err.contains("there is no app /"),
        "{said:?}"
    );

    // A running app is not removed.
    let node = cluster.start_app().await;
    let said = verb(&["remove", "/"], folder.path()).await;
    assert!(
        !said.status.success() && said.err.contains("stop these app-nodes"),
        "{said:?}"
    );
    assert!(verb(&["releases"], folder.path()).await.out.contains("config"));
    node.stop().await;
    assert!(verb(&["remove", "/"], folder.path()).await.status.success());
}

#[tokio::test]
async fn failing_first_release_has_no_predecessor_to_restore() {
    let redis = RedisServer::start().await;
    let folder = temp_folder();
    let cluster = Cluster::new(redis.url()).app("/", &component("echo"), KEY_VALUE);
    fs::write(folder.path().join("plugnode.toml"), cluster.config("app-node")).expect("the file can be written");
    let faulty = component("faulty");
    let faulty = faulty.to_str().expect("the path is UTF-8");
    let arguments = ["deploy", faulty, "--wait-for-events", "--json"];
    let deploy = RunningCommand::begin(&arguments, folder.path());
    let posted = async { while !verb(&["releases", "--json"], folder.path()).await.status.success() {} };
    within("the deploy is requested", posted).await;
    let (io_node, _node) = tokio::join!(cluster.start_io(), cluster.start_app());
    let breaks = Client::connect_to(&io_node, "/", json!({ "break": true })).await;
    let _client = breaks.expect("the client is accepted although its connection event fails");
    let said = deploy.end().await;
    assert_eq!(
        (said.status.code(), &said.json()["outcome"]),
        (Some(1), &json!("failed")),
        "{said:?}"
    );
    assert!(said.err.contains("no release before it to go back to"), "{said:?}");
    assert!(!said.err.contains("stays in use"), "{said:?}");
}

#[tokio::test]
async fn node_needs_no_file_when_release_is_in_use() {
    let redis = RedisServer::start().await;
    let folder = temp_folder();
    let file = folder.path().join("app.wasm");
    fs::copy(component("echo"), &file).expect("the file can be copied");
    let cluster = Cluster::new(redis.url()).app("/", &file, "");
    cluster.start_app().await.stop().await;
    fs::remove_file(&file).expect("the file exists");
    let (io_node, _node) = tokio::join!(cluster.start_io(), cluster.start_app());
    Client::connect(&io_node).await.ask("hello", &[]).await;
}
