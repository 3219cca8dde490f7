//! The hostile suite (`tests/hostile`) against a node: every case passes.

use std::process::Stdio;
use std::time::Duration;

use plugnode_tests::{Node, built, component, repository, temp_folder};
use serde_json::Value;
use tokio::process::Command;

/// Time-out of the whole suite.
const LIMIT: Duration = Duration::from_secs(300);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_withstands_every_case() {
    component("conformance");
    let config = repository().join("examples/conformance/plugnode-hostile.toml");
    let pages = temp_folder();
    std::fs::write(pages.path().join("large.bin"), vec![b'x'; 4_000_000]).expect("the folder is writable");
    let folder = pages.path().to_string_lossy();
    let key = "k".repeat(40);
    let variables = [
        ("PLUGNODE_FRONTEND__STATIC_DIR", &*folder),
        ("PLUGNODE_API__LISTEN", "127.0.0.1:0"),
        ("PLUGNODE_API__KEY__0__KEY", &key),
    ];
    let mut node = Node::configured(&config, &variables).await;
    let api = format!("http://127.0.0.1:{}", crate::api::Api::of(&node).await.port);

    let mut suite = Command::new(built("plugnode-hostile"));
    suite
        .args(["--url", &node.url(), "--pid", &node.pid().to_string()])
        .args(["--api", &api, "--api-key", &key])
        .args(["--file", "/large.bin", "--patience", "15", "--slack", "3", "--json"])
        .stdin(Stdio::null())
        .kill_on_drop(true);
    let output = tokio::time::timeout(LIMIT, suite.output())
        .await
        .unwrap_or_else(|_| panic!("the suite takes more than {LIMIT:?}"))
        .expect("the suite can be run");
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(node.is_running(), "the process ended:\n{said}\n{}", node.log());
    assert!(!node.log().contains("panicked"), "something panicked:\n{}", node.log());
    let failed: Vec<&str> = said.lines().filter(|line| line.starts_with("FAILED")).collect();
    assert!(
        output.status.success() && failed.is_empty(),
        "{}\n{}",
        output.status,
        failed.join("\n")
    );
    let cases: Vec<Value> = serde_json::from_slice(&output.stdout).expect("it prints JSON");
    let skipped: Vec<_> = cases.iter().filter(|case| case["verdict"] == "skipped").collect();
    assert!(skipped.is_empty(), "{skipped:?}");
}

#[tokio::test]
async fn documentation_lists_every_case() {
    let list = Command::new(built("plugnode-hostile"))
        .args(["--list", "--json"])
        .output()
        .await;
    let list = list.expect("the suite can be run");
    let cases: Vec<Value> = serde_json::from_slice(&list.stdout).expect("it prints JSON");
    let page = std::fs::read_to_string(repository().join("docs/hostile.md")).expect("there is a page");
    let (_, table) = page.split_once("\n## Cases\n").expect("there is a table");
    let rows = table.lines().filter(|line| line.starts_with("| `")).count();
    for case in &cases {
        let [name, does, must, source] =
            ["case", "does", "must", "source"].map(|key| case[key].as_str().unwrap_or_default());
        let row = format!("| `{name}` | {does} | {must} | {source} |");
        assert!(table.contains(&row), "docs/hostile.md lacks the line\n{row}");
    }
    assert_eq!(rows, cases.len(), "docs/hostile.md lists cases that do not exist");
}
