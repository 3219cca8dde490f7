//! The servers under test: plugnode in several configurations, and the peers with which it is compared.
//!
//! Each function starts the processes of one server, and returns when every port answers. All Socket.IO servers answer the events
//! of `examples/benchmark` with the same texts, which `--check` verifies; HTTP servers echo the body of a request. Each server
//! over Redis has its own redis-server, with the same settings. Knows nothing of the scenarios.
//!
//! Some servers are modes of this executable, so `main` calls [`run_mode`] first.

mod check;
mod hyper;
mod native;
mod node;
mod plugnode;
mod probe;
mod queue;
mod socketioxide;
mod wasmtime;

use std::path::Path;
use std::process::ExitCode;

use plugnode_tests::{free_port, repository};
use tikv_jemallocator::Jemalloc;
use tokio::process::Command;

pub(crate) use self::hyper::hyper;
pub(crate) use self::plugnode::{API_KEY, Handler, memory, memory_with_api, redis, redis_with_api};
pub(crate) use self::socketioxide::bare;
pub(crate) use self::wasmtime::{Instances, Wasmtime};
pub(crate) use node::{node, node_alone};
pub(crate) use queue::queue_limits;

use crate::server::Process;

/// The same allocator as in `plugnode`, for the servers that are modes of this executable.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Raises the limit of open files. If the first argument names a mode, runs it, and returns the exit code.
pub(crate) fn run_mode() -> Option<ExitCode> {
    // If this fails, connections are refused later, which is reported then.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    match std::env::args().nth(1)?.as_str() {
        "--bare" => socketioxide::serve(),
        "--hyper" => hyper::serve(),
        "--native" => native::serve(),
        "--check" => return Some(check::run()),
        _ => return None,
    }
    Some(ExitCode::SUCCESS)
}

/// The argument of `json`: an order with this id, a kilobyte of JSON that begins with `{"id":ID,"count":1,`.
pub(crate) fn order(id: u64) -> String {
    serde_json::to_string(&benchmark::Order::numbered(id)).expect("an order is valid JSON")
}

/// Starts this executable in one of its modes.
fn own_mode(name: &'static str, mode: &str, folder: &Path) -> Process {
    let mut command = Command::new(std::env::current_exe().expect("the path of this executable is known"));
    command.arg(mode);
    Process::start(name, command, folder)
}

/// A script of `node/`, with arguments. NODE_ENV is what servers have.
fn script(name: &'static str, script: &str, args: &[&str], folder: &Path) -> Process {
    let tests = repository().join("tests");
    assert!(
        tests.join("node_modules/ioredis").exists(),
        "npm packages are missing; install them with `make bench`"
    );
    let mut command = Command::new("node");
    command
        .arg(tests.join("bench/peers/node").join(script))
        .args(args)
        .env("NODE_ENV", "production");
    Process::start(name, command, folder)
}

/// Starts a redis-server without persistence. Also returns its port.
async fn redis_server(folder: &Path) -> (Process, u16) {
    let port = free_port();
    let mut command = Command::new("redis-server");
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--appendonly", "no"]);
    let mut redis = Process::start("redis-server", command, folder);
    redis.wait_for("Ready to accept connections").await;
    (redis, port)
}

fn url(redis_port: u16) -> String {
    format!("redis://127.0.0.1:{redis_port}")
}

/// Runs on the same runtime as `plugnode run`.
fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("cannot start the runtime")
        .block_on(work);
}
