//! One chat in four languages, each in the place of the one before while people talk.

use std::path::{Path, PathBuf};
use std::process::Command;

use plugnode_tests::{Node, binary, component, node_script, repository, verb};
use serde_json::json;
use tempfile::TempDir;

const SETTINGS: &str = "instances = 3\ngrants = { keyvalue = [\"default\"] }";

/// The chat of a folder of the examples as a component, built as its reader would.
async fn built(place: &str, folder: &TempDir) -> PathBuf {
    let project = folder.path().join(place.replace('/', "-"));
    let copied = Command::new("cp")
        .arg("-r")
        .args([&repository().join("examples").join(place), &project])
        .status()
        .expect("cp is there");
    assert!(copied.success(), "{place} cannot be copied");
    if project.join("tsconfig.json").exists() {
        // What `npm install` would bring.
        let modules = repository().join("tests/node_modules");
        std::os::unix::fs::symlink(modules, project.join("node_modules")).expect("a link can be made");
    }
    let component = project.with_extension("wasm");
    let output = component.to_str().expect("its path is text");
    let said = verb(&["build", ".", "-o", output], &project).await;
    assert!(said.status.success(), "{said:?}");
    component
}

#[tokio::test]
async fn chat_changes_language_without_disconnecting() {
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
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
    let page = |place: &Path| std::fs::read_to_string(place.join("public/index.html")).expect("it is there");
    let examples = repository().join("examples");
    for place in ["js/chat", "python/chat"] {
        let node = Node::dev(&examples.join(place), &[]).await;
        let served = node.get("/").await;
        // What is served while it is written has a line more, which shows errors.
        let wanted = page(&examples.join("chat"));
        let (body, _) = wanted.split_once("</body>").expect("it has a body");
        assert!(served.contains(body), "{place}: {served}");
        let screenshot = node.folder().join("chat.png");
        let screenshot = screenshot.to_str().expect("its name is text");
        node_script("chat-tabs.mjs", &[&node.url(), screenshot]).await;
    }
}

#[test]
fn typescript_chat_passes_type_check() {
    let checked = Command::new("node")
        .arg(repository().join("tests/node_modules/typescript/bin/tsc"))
        .args(["--noEmit", "-p"])
        .arg(repository().join("examples/ts/chat"))
        .output()
        .expect("node is installed");
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
}
