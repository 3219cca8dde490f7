//! Compatibility of the contract: handlers built for earlier releases run; incompatible ones are refused with advice.

use std::path::PathBuf;

use plugnode_tests::{Client, KEY_VALUE, Node, app, patched, repository, run_to_end, temp_folder};
use serde_json::json;

/// Releases of the contract of which built handlers are kept.
const RELEASES: [&str; 1] = ["0.1.0"];

fn fixture(release: &str, name: &str) -> PathBuf {
    repository().join(format!("tests/fixtures/contract-{release}/{name}.wasm"))
}

#[tokio::test]
async fn components_of_earlier_contract_releases_still_run() {
    for release in RELEASES {
        let node = Node::app(&fixture(release, "echo"), "").await;
        let mut client = Client::connect(&node).await;
        assert_eq!(client.ask("hi", &[json!("a"), json!(1)]).await, [json!("a"), json!(1)]);
        client.emit("all", &[json!("x")]).await;
        while client.event().await != ("chat".to_owned(), vec![json!("x")]) {}

        let node = Node::app(&fixture(release, "chat"), KEY_VALUE).await;
        crate::chat::assert_chat_works(&node).await;
    }
}

/// Output of `plugnode run` for the echo of 0.1.0 with these texts replaced.
async fn said_of(replace: &[(&str, &str)]) -> String {
    let mut bytes = std::fs::read(fixture("0.1.0", "echo")).expect("the fixture is there");
    for (old, new) in replace {
        bytes = patched(bytes, old, new);
    }
    let folder = temp_folder();
    let component = folder.path().join("app.wasm");
    std::fs::write(&component, bytes).expect("the file can be written");
    let config = format!("[http]\nlisten = \"127.0.0.1:0\"\n{}", app("/", &component, ""));
    std::fs::write(folder.path().join("plugnode.toml"), config).expect("the file can be written");
    let (status, output) = run_to_end(&["run", "-c", "plugnode.toml"], folder.path()).await;
    assert!(!status.success(), "it runs:\n{output}");
    output
}

#[tokio::test]
async fn refuses_incompatible_contract_and_asks_for_rebuild() {
    for (version, interface) in [("0.2.0", "handler"), ("0.0.9", "handler"), ("0.2.0", "outbox")] {
        let name = format!("plugnode:app/{interface}@");
        let output = said_of(&[(&format!("{name}0.1.0"), &format!("{name}{version}"))]).await;
        assert!(
            output.contains(&format!(
                "plugnode:app/{interface}@{version}, this host serves plugnode:app@0.1."
            )) && output.contains("rebuild the handler with plugnode-sdk 0.1, or update the host"),
            "{output}"
        );
    }
}

#[tokio::test]
async fn refuses_newer_import_and_asks_for_host_update() {
    // A function of a later `outbox`, and an interface of a later release.
    let output = said_of(&[
        ("plugnode:app/outbox@0.1.0", "plugnode:app/outbox@0.1.9"),
        ("publish", "publicy"),
    ])
    .await;
    assert!(
        output.contains("publicy") && output.contains("update the host"),
        "{output}"
    );
    let output = said_of(&[("plugnode:app/outbox@0.1.0", "plugnode:app/outboy@0.1.9")]).await;
    assert!(
        output.contains("plugnode:app/outboy@0.1.9") && output.contains("update the host"),
        "{output}"
    );
}
