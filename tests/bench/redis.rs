//! Echo over Redis: `plugnode` as an io-node and an app-node beside the same job built the usual way in Node, in one run.
//!
//! The peer is socket.io 4, whose clients' messages go by ioredis into a stream, and a worker of a consumer group that
//! answers through the streams adapter (`bench/peer`). Each side has its two processes and a redis-server of its own, with
//! the same settings. What a message costs is the CPU time of all three.
//! `cargo bench -p plugnode-tests --bench redis`, after `make build` and `.ci/setup-tests redis npm`.

mod load;
mod race;
mod server;

use std::path::Path;
use std::process::ExitCode;

use plugnode_tests::{app, component, free_port, repository};
use server::{Process, Server};
use tokio::process::Command;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    let folders = [(); 2].map(|()| tempfile::tempdir().expect("a temporary folder can be made"));
    let servers = [node(folders[0].path()).await, plugnode(folders[1].path()).await];
    race::run("echo over Redis, nothing kept on disk", &servers).await
}

/// The peer.
async fn node(folder: &Path) -> Server {
    let tests = repository().join("tests");
    assert!(
        tests.join("node_modules/ioredis").exists(),
        "npm packages are missing: install them by `make bench`"
    );
    let (redis, url) = redis(folder).await;
    let start = |name, script| {
        let mut command = Command::new("node");
        command.arg(tests.join("bench/peer").join(script)).arg(&url);
        Process::start(name, command, folder)
    };
    let mut io = start("io", "io.mjs");
    let mut app = start("app", "app.mjs");
    let port = io.port().await;
    app.says("reading the stream").await;
    Server {
        name: "socket.io, ioredis streams",
        port,
        in_order: true,
        processes: vec![io, app, redis],
    }
}

async fn plugnode(folder: &Path) -> Server {
    let (redis, url) = redis(folder).await;
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n[transport]\nurl = {url:?}\n{}",
        app("/", &component("echo"), "instances = 2")
    );
    std::fs::write(folder.join("plugnode.toml"), config).expect("the folder can be written to");
    let start = |role| {
        let mut command = Command::new(server::plugnode());
        command.args(["run", "-c", "plugnode.toml", "--role", role]);
        Process::start(role, command, folder)
    };
    let mut io = start("io-node");
    let app = start("app-node");
    Server {
        name: "plugnode, redis",
        port: io.port().await,
        in_order: true,
        processes: vec![io, app, redis],
    }
}

/// A redis-server that keeps nothing, and its URL.
async fn redis(folder: &Path) -> (Process, String) {
    let port = free_port();
    let mut command = Command::new("redis-server");
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--appendonly", "no"]);
    let mut redis = Process::start("redis-server", command, folder);
    redis.says("Ready to accept connections").await;
    (redis, format!("redis://127.0.0.1:{port}"))
}
