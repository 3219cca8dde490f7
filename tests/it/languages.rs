//! The chat in four languages, each deployed in place of the previous one while clients talk.

use std::path::{Path, PathBuf};
use std::process::Command;

use plugnode_tests::{Node, binary, component, node_script, repository, temp_folder, verb};
use serde_json::json;
use tempfile::TempDir;

const SETTINGS: &str = "instances = 3\ngrants = { keyvalue = [\"default\"] }";

/// Builds the chat in this folder of the examples, as its README says.
async fn built(place: &str, folder: &TempDir) -> PathBuf {
    let project = folder.path().join(place.replace('/', "-"));
    let copied = Command::new("cp")
        .arg("-r")
        .args([&repository().join("examples").join(place), &project])
        .status()
        .expect("cp is there");
    assert!(copied.success(), "{place} cannot be copied");
    if project.join("tsconfig.json").exists() {
        // As after `npm install`.
        let modules = repository().join("tests/node_modules");
        std::os::unix::fs::symlink(modules, project.join("node_modules")).expect("the link can be created");
    }
    let component = project.with_extension("wasm");
    let output = component.to_str().expect("the path is UTF-8");
    let said = verb(&["build", ".", "-o", output], &project).await;
    assert!(said.status.success(), "{said:?}");
    component
}

#[tokio::test]
async fn chat_changes_language_without_disconnecting() {
    let folder = temp_folder();
    let page = repository().join("examples/chat/public");
    let app = plugnode_tests::app("/", &component("chat"), SETTINGS);
    let node = Node::run(&format!("[frontend]\nstatic-dir = {page:?}\n{app}")).await;
    let mut deploys = Vec::new();
    for (language, place) in [
        ("TypeScript", "ts/chat"),
        ("Python", "python/chat"),
        ("JavaScript", "js/chat"),
    ] {
        let component = built(place, &folder).await;
        let command = [
            binary().display().to_string(),
            "deploy".into(),
            component.display().to_string(),
            "--port".into(),
            node.port().to_string(),
        ];
        deploys.push(json!([language, command]));
    }
    let deploys = json!(deploys).to_string();
    node_script("chat-languages.mjs", &[&node.url(), "Rust", &deploys]).await;
}

#[tokio::test]
async fn chat_serves_same_page_in_each_language() {
    let page = |place: &Path| std::fs::read_to_string(place.join("public/index.html")).expect("the file exists");
    let examples = repository().join("examples");
    for place in ["js/chat", "python/chat"] {
        let node = Node::dev(&examples.join(place), &[]).await;
        let served = node.get("/").await;
        // `dev` adds a line that shows errors.
        let wanted = page(&examples.join("chat"));
        let (body, _) = wanted.split_once("</body>").expect("it has a body");
        assert!(served.contains(body), "{place}: {served}");
        let screenshot = node.folder().join("chat.png");
        let screenshot = screenshot.to_str().expect("the path is UTF-8");
        node_script("chat-tabs.mjs", &[&node.url(), screenshot]).await;
    }
}

/// Checks the types of a project.
fn assert_type_checks(project: &str) {
    let checked = Command::new("node")
        .arg(repository().join("tests/node_modules/typescript/bin/tsc"))
        .args(["--noEmit", "-p"])
        .arg(repository().join(project))
        .output()
        .expect("node is installed");
    assert!(
        checked.status.success(),
        "{project}: {}",
        String::from_utf8_lossy(&checked.stdout)
    );
}

#[test]
fn typescript_chat_passes_type_check() {
    assert_type_checks("examples/ts/chat");
}

#[test]
fn program_passes_type_check_as_with_socketio() {
    for project in ["tests/js/types/tsconfig.node.json", "tests/js/types"] {
        assert_type_checks(project);
    }
}
