//! plugnode: on the memory transport in one process, or over Redis as io-nodes and app-nodes.

use std::path::{Path, PathBuf};

use plugnode_tests::{app, component, repository};
use tokio::process::Command;

use super::probe::answering;
use super::{own_mode, redis_server, url};
use crate::server::{Process, Server};

/// Instances of the handler in each process: one for each processor of the machine for which the goals are set.
pub(super) const INSTANCES: usize = 2;
/// Enough for four app-nodes, and fewer than the default, so that batches are larger.
pub(super) const PARTITIONS: u16 = 16;
/// Limit of connections of a process: more than any scenario needs.
pub(super) const CONNECTIONS: usize = 100_000;
/// The key-value bucket of the handler's counters.
pub(super) const BUCKET: &str = "default";

/// How the handler runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Handler {
    /// A component.
    Wasm,
    /// Native Rust, called in place, in a process that embeds plugnode.
    Native,
}

/// The key of the server API.
pub(crate) const API_KEY: &str = "0123456789abcdef0123456789abcdef";
/// What a process needs to serve the API, besides a port.
const API: &str = "[[api.key]]\nname = \"benchmark\"\nkey = \"0123456789abcdef0123456789abcdef\"\nnamespaces = [\"/\"]\n\
                   permissions = [\"publish\"]\ncalls-per-second = 1000000\n";
/// The variable of that port.
const API_LISTEN: &str = "PLUGNODE_API__LISTEN";

/// On the memory transport, with the server API on a port.
pub(crate) async fn memory_with_api(folder: &Path, port: u16) -> Server {
    configure(folder, "memory:", API);
    let listen = format!("127.0.0.1:{port}");
    let mut process = run_with("plugnode", &[], folder, &[(API_LISTEN, &listen)]);
    let ports = vec![process.port().await];
    process.wait_for("API node joined").await;
    answering(Server {
        name: "plugnode, memory",
        ports,
        in_order: true,
        processes: vec![process],
    })
    .await
}

/// Over its own Redis, with one io-node, which also serves the server API on a port, and one app-node.
pub(crate) async fn redis_with_api(folder: &Path, port: u16) -> Server {
    let (redis, redis_port) = redis_server(folder).await;
    configure(folder, &url(redis_port), API);
    let listen = format!("127.0.0.1:{port}");
    let threads = ("TOKIO_WORKER_THREADS", "1");
    let mut io = run_with(
        "io-node",
        &["--role", "io-node"],
        folder,
        &[threads, (API_LISTEN, &listen)],
    );
    let mut app = run_with("app-node", &["--role", "app-node"], folder, &[threads]);
    let ports = vec![io.port().await];
    io.wait_for("API node joined").await;
    app.wait_for("started; it has no clients").await;
    answering(Server {
        name: "plugnode, redis",
        ports,
        in_order: true,
        processes: vec![io, app, redis],
    })
    .await
}

/// On the memory transport.
pub(crate) async fn memory(folder: &Path, handler: Handler) -> Server {
    let (name, mut process) = match handler {
        Handler::Wasm => {
            configure(folder, "memory:", "");
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

/// Over its own Redis.
pub(crate) async fn redis(folder: &Path, io: usize, app: usize) -> Server {
    let (redis, port) = redis_server(folder).await;
    configure(folder, &url(port), "");
    // At least three processes share two processors, so each has one worker thread, like a process of Node.
    let start = |role| move |_| run_with(role, &["--role", role], folder, &[("TOKIO_WORKER_THREADS", "1")]);
    let mut io: Vec<Process> = (0..io).map(start("io-node")).collect();
    let mut app: Vec<Process> = (0..app).map(start("app-node")).collect();
    let mut ports = Vec::new();
    for process in &mut io {
        ports.push(process.port().await);
    }
    for process in &mut app {
        process.wait_for("started; it has no clients").await;
    }
    answering(Server {
        name: "plugnode, redis",
        ports,
        in_order: true,
        processes: io.into_iter().chain(app).chain([redis]).collect(),
    })
    .await
}

fn configure(folder: &Path, transport: &str, sections: &str) {
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\nmax-connections = {CONNECTIONS}\n[transport]\nurl = {transport:?}\npartitions = {PARTITIONS}\n{sections}{}",
        app(
            "/",
            &component("benchmark"),
            &format!("instances = {INSTANCES}\ngrants.keyvalue = [{BUCKET:?}]")
        )
    );
    std::fs::write(folder.join("plugnode.toml"), config).expect("cannot write plugnode.toml");
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
/// When it is not built; the message names the command that builds it.
fn binary() -> PathBuf {
    let named = std::env::var_os("PLUGNODE_BIN").map(PathBuf::from);
    let path = named.unwrap_or_else(|| repository().join("target/release/plugnode"));
    assert!(
        path.exists(),
        "{} does not exist; build it with `make build`",
        path.display()
    );
    // Servers start in other folders.
    std::path::absolute(path).expect("there is a current folder")
}
