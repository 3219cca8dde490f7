//! The example `auction`: bidders and back office over several nodes and instances, and the page in a browser.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use plugnode_tests::{Cluster, Node, RedisServer, node_script, repository, run_command, temp_folder, verb};
use tempfile::TempDir;

use crate::api::{Api, KEY};
use crate::api_clients::installed_npm_package;

const SETTINGS: &str = "instances = 3\ngrants = { keyvalue = [\"default\"] }\nconfig = { extension = \"1\" }";
const API: &str = r#"
[api]
listen = "127.0.0.1:0"

[[api.key]]
name = "office"
key = "0123456789abcdef0123456789abcdef"
namespaces = ["/"]
permissions = ["event"]
"#;

/// A copy of the example, as after `npm install`, and the temporary folder that it is in.
fn installed() -> (TempDir, PathBuf) {
    let folder = temp_folder();
    let project = folder.path().join("auction");
    let example = repository().join("examples/ts/auction");
    run_command(Command::new("cp").arg("-r").args([&example, &project]));
    let modules = repository().join("tests/node_modules");
    std::os::unix::fs::symlink(modules, project.join("node_modules")).expect("the link can be created");
    (folder, project)
}

#[tokio::test]
async fn bids_and_back_office_agree_over_several_nodes() {
    let (_folder, project) = installed();
    let said = verb(&["build", "."], &project).await;
    assert!(said.status.success(), "{said:?}");
    let component = project.join("server.wasm");
    let redis = RedisServer::start().await;
    let cluster = Cluster::new(redis.url()).transport("shards = 3").settings(API);
    let cluster = cluster.app("/", &component, SETTINGS);
    let (one, two, app, other) = tokio::join!(
        cluster.start_io(),
        cluster.start_io(),
        cluster.start_app(),
        cluster.start_app()
    );
    let [mut apis, mut urls] = [Vec::new(), Vec::new()];
    for node in [&one, &two] {
        urls.push(node.url());
        apis.push(format!("http://127.0.0.1:{}", Api::of(node).await.port));
    }
    let package = installed_npm_package();
    let folder = package.path().to_str().expect("the path is UTF-8");
    node_script("auction.mjs", &[folder, &apis.join(","), KEY, &urls.join(",")]).await;
    drop((app, other));
}

/// As its README says, with a free port and a key for the test.
#[tokio::test]
async fn auction_page_runs_in_browser() {
    let (_folder, project) = installed();
    let settings = fs::read_to_string(project.join("plugnode.toml")).expect("the file exists");
    let changed = settings.replace("127.0.0.1:9090", "127.0.0.1:0");
    assert_ne!(settings, changed);
    fs::write(project.join("plugnode.toml"), changed).expect("the file can be written");
    fs::write(project.join("office.secret"), KEY).expect("the file can be written");
    let node = Node::dev(&project, &[]).await;
    let api = format!("http://127.0.0.1:{}", Api::of(&node).await.port);
    let package = installed_npm_package();
    let folder = package.path().to_str().expect("the path is UTF-8");
    node_script("auction-page.mjs", &[folder, &api, KEY, &node.url()]).await;
}

#[test]
fn auction_passes_type_check() {
    run_command(
        Command::new("node")
            .arg(repository().join("tests/node_modules/typescript/bin/tsc"))
            .args(["--noEmit", "-p"])
            .arg(repository().join("examples/ts/auction")),
    );
}
