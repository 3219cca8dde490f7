//! plugnode: on the memory transport in one process, or over Redis as io-nodes and app-nodes.

use std::path::{Path, PathBuf};

use plugnode_tests::{app, component, repository};
use tokio::process::Command;

use super::probe::answering;
use super::{own_mode, redis_server, url};
use crate::server::{Process, Server};

/// Instances of the handler in each process, one for each processor of the machine that the aims are set for.
pub(super) const INSTANCES: usize = 2;
/// Enough for four app-nodes, and fewer than the default: what a batch carries is shared by fewer.
pub(super) const PARTITIONS: u16 = 16;
/// Connections that a process takes: more than any scenario brings.
pub(super) const CONNECTIONS: usize = 100_000;
/// The bucket that the handler counts in.
pub(super) const BUCKET: &str = "default";

/// How the handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handler {
    /// As a component.
    Wasm,
    /// As native Rust, called in place, in a program that embeds plugnode.
    Native,
}

/// On the memory transport.
pub(crate) async fn memory(folder: &Path, handler: Handler) -> Server {
    let (name, mut process) = match handler {
        Handler::Wasm => {
            configure(folder, "memory:");
            ("plugnode, memory", run("plugnode", &[], folder))
        }
        Handler::Native => (
            "plugnode, memory, native handler",
            own_mode("native", "--native", folder),
        ),
    };
    answering(Server {
        name,
        ports: vec![process.port().await],
        in_order: true,
        processes: vec![process],
    })
    .await
}

/// Over a Redis of its own.
pub(crate) async fn redis(folder: &Path, io: usize, app: usize) -> Server {
    let (redis, port) = redis_server(folder).await;
    configure(folder, &url(port));
    // Three processes or more share two processors: each has one thread for its work, as each process of Node has.
    let start = |role| move |_| run_with(role, &["--role", role], folder, &[("TOKIO_WORKER_THREADS", "1")]);
    let mut io: Vec<Process> = (0..io).map(start("io-node")).collect();
    let mut app: Vec<Process> = (0..app).map(start("app-node")).collect();
    let mut ports = Vec::new();
    for process in &mut io {
        ports.push(process.port().await);
    }
    for process in &mut app {
        process.says("started; it has no clients").await;
    }
    answering(Server {
        name: "plugnode, redis",
        ports,
        in_order: true,
        processes: io.into_iter().chain(app).chain([redis]).collect(),
    })
    .await
}

fn configure(folder: &Path, transport: &str) {
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\nmax-connections = {CONNECTIONS}\n[transport]\nurl = {transport:?}\npartitions = {PARTITIONS}\n{}",
        app(
            "/",
            &component("benchmark"),
            &format!("instances = {INSTANCES}\ngrants.keyvalue = [{BUCKET:?}]")
        )
    );
    std::fs::write(folder.join("plugnode.toml"), config).expect("the folder can be written to");
}

fn run(name: &'static str, arguments: &[&str], folder: &Path) -> Process {
    run_with(name, arguments, folder, &[])
}

fn run_with(name: &'static str, arguments: &[&str], folder: &Path, environment: &[(&str, &str)]) -> Process {
    let mut command = Command::new(binary());
    command.args(["run", "-c", "plugnode.toml"]).args(arguments);
    command.envs(environment.iter().copied());
    Process::start(name, command, folder)
}

/// The `plugnode` of `make build`, or the one that `PLUGNODE_BIN` names.
///
/// # Panics
/// When it was not built, with the command that does.
fn binary() -> PathBuf {
    let named = std::env::var_os("PLUGNODE_BIN").map(PathBuf::from);
    let path = named.unwrap_or_else(|| repository().join("target/release/plugnode"));
    assert!(
        path.exists(),
        "{} is not there: build it by `make build`",
        path.display()
    );
    // Its server starts in another folder.
    std::path::absolute(path).expect("there is a folder that we are in")
}
