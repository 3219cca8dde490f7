//! Programs in JavaScript, as they are written for Node's Socket.IO, with the official client.

use std::path::PathBuf;

use plugnode_tests::{Node, app, node_script, repository, run_to_end};
use tempfile::TempDir;

const ADMISSION: &str = "admission = true";

/// The component of a script of this repository, by `plugnode build`.
async fn built(script: &str) -> (PathBuf, TempDir) {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let script = repository().join(script);
    let script = script.to_str().expect("its path is UTF-8");
    let (status, said) = run_to_end(&["build", script, "-o", "app.wasm"], folder.path()).await;
    assert!(status.success(), "{said}");
    (folder.path().join("app.wasm"), folder)
}

#[tokio::test]
async fn a_program_for_a_server_of_socket_io_runs_in_several_instances() {
    let (component, _folder) = built("tests/js/handlers/server.js").await;
    for (dispatch, arguments) in [("sticky", &[][..]), ("round-robin", &["spread"])] {
        let settings = format!("{ADMISSION}\ninstances = 3\ndispatch = {dispatch:?}");
        let apps = [app("/", &component, &settings), app("/second", &component, &settings)];
        let node = Node::run(&apps.concat()).await;
        let url = node.url();
        node_script("socketio-server.mjs", &[&[url.as_str()], arguments].concat()).await;
    }
}

#[tokio::test]
async fn a_chat_with_names_runs_as_it_is() {
    let node = Node::dev(&repository().join("examples/js/chat/server.js"), &[]).await;
    node_script("chat-names.mjs", &[&node.url()]).await;
}

#[tokio::test]
async fn a_whiteboard_runs_as_it_is() {
    let (component, _folder) = built("examples/js/whiteboard/server.js").await;
    let node = Node::app(&component, "").await;
    node_script("whiteboard.mjs", &[&node.url()]).await;
}
