//! The example `chat`: its page in a browser, and its protocol.

use plugnode_tests::{Client, Console, KEY_VALUE, Node, app, binary, component, node_script, patched, repository};
use serde_json::{Value, json};

/// A node with the chat and its page.
async fn chat() -> Node {
    let page = repository().join("examples/chat/public");
    let app = app("/", &component("chat"), KEY_VALUE);
    Node::run(&format!("[frontend]\nstatic-dir = {page:?}\n{app}")).await
}

#[tokio::test]
async fn browser_tabs_chat() {
    let node = chat().await;
    let screenshot = node.folder().join("chat.png");
    node_script(
        "chat-tabs.mjs",
        &[&node.url(), screenshot.to_str().expect("the path is UTF-8")],
    )
    .await;
    assert!(screenshot.exists());
}

#[tokio::test]
async fn deploy_changes_answers_without_disconnecting_tabs() {
    let node = chat().await;
    let console = Console::of_node(&node);
    let (before, after) = (
        "a message is a text of 1 to 2000 characters",
        "a message is a word or two, or two thousand",
    );
    let chat = std::fs::read(component("chat")).expect("the file can be read");
    let changed = console.build(&patched(chat, before, after));
    let binary = binary();
    let mut deploy = vec![binary.to_str(), Some("deploy"), changed.to_str()];
    deploy.extend(console.cluster().iter().map(|argument| Some(argument.as_str())));
    let screenshot = node.folder().join("swap.png");
    let screenshot = screenshot.to_str().expect("the path is UTF-8");
    let deploy = json!(deploy).to_string();
    node_script("chat-swap.mjs", &[&node.url(), screenshot, &deploy, before, after]).await;
}

#[tokio::test]
async fn cargo_component_build_chats() {
    let node = Node::app(&component("chat-component"), KEY_VALUE).await;
    assert_chat_works(&node).await;
}

#[tokio::test]
async fn instances_share_one_history() {
    let node = Node::app(&component("chat"), &format!("instances = 8\n{KEY_VALUE}")).await;
    assert_chat_works(&node).await;
    let mut speakers = Vec::new();
    for n in 0..8 {
        speakers.push(connect(&node, &format!("speaker {n}")).await);
    }
    // At the same time, so that all eight instances write concurrently.
    for (n, speaker) in speakers.iter_mut().enumerate() {
        speaker.emit("message", &[json!(format!("at once {n}"))]).await;
    }
    let mut listener = connect(&node, "listener").await;
    loop {
        let history = bodies(&heard(&mut listener, "history").await);
        if (0..8).all(|n| history.contains(&format!("at once {n}"))) {
            assert!(history.len() <= 15);
            return;
        }
        // Not all messages were handled when this listener connected.
        listener = connect(&node, "listener").await;
    }
}

/// Asserts that two clients exchange messages and a third receives the history.
pub(crate) async fn assert_chat_works(node: &Node) {
    let mut ada = connect(node, "Ada").await;
    let mut bob = connect(node, "Bob").await;
    assert_eq!(heard(&mut ada, "joined").await["name"], "Bob");
    for n in 0..20 {
        let answer = ada.ask("message", &[json!(format!("number {n}"))]).await;
        assert_eq!(answer[0]["ok"]["body"], format!("number {n}"));
        let said = heard(&mut bob, "message").await;
        assert_eq!(
            (&said["name"], &said["body"]),
            (&json!("Ada"), &json!(format!("number {n}")))
        );
    }
    let mut late = connect(node, "Late").await;
    let expected: Vec<String> = (5..20).map(|n| format!("number {n}")).collect();
    assert_eq!(bodies(&heard(&mut late, "history").await), expected);
    drop(bob);
    assert_eq!(heard(&mut late, "left").await["name"], "Bob");
}

async fn connect(node: &Node, name: &str) -> Client {
    let mut client = Client::connect_to(node, "/", json!({ "name": name }))
        .await
        .expect("the chat takes clients");
    assert_eq!(heard(&mut client, "welcome").await["name"], name);
    client
}

/// The argument of the next event with this name.
async fn heard(client: &mut Client, event: &str) -> Value {
    loop {
        let (name, mut args) = client.event().await;
        if name == event {
            return args.remove(0);
        }
    }
}

fn bodies(history: &Value) -> Vec<String> {
    let said = history.as_array().expect("the history is a list");
    said.iter()
        .map(|said| said["body"].as_str().expect("it has a body").to_owned())
        .collect()
}
