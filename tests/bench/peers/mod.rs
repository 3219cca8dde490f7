//! Who is measured: plugnode in its several shapes, and those beside which its figures mean something.
//!
//! Each function starts the processes of one server, and returns once every port answers. All answer the words of
//! `examples/benchmark` with the same text, which `--check` looks after; those of HTTP answer a request with its body.
//! Servers over Redis have a redis-server of their own each, with the same settings. Nothing here knows what is measured.
//!
//! What is no program of its own is this very executable in another mode, and so [`take_part`] comes first in `main`.

mod bare;
mod check;
mod http;
mod native;
mod node;
mod plugnode;
mod probe;
mod queue;
mod serve;

use std::path::Path;
use std::process::ExitCode;

use plugnode_tests::{free_port, repository};
use tikv_jemallocator::Jemalloc;
use tokio::process::Command;

pub(crate) use self::plugnode::{Handler, memory, redis};
pub(crate) use bare::bare;
pub(crate) use http::http;
pub(crate) use node::{node, node_alone};
pub(crate) use queue::queue_limit;
pub(crate) use serve::{Instances, Wasmtime};

use crate::server::Process;

/// That of `plugnode`. The modes of this executable are servers as well.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Raises the limit of open files for what is to come; and then, where the arguments ask for it, is one of the peers or
/// checks them all, and has nothing left to do but to end.
pub(crate) fn take_part() -> Option<ExitCode> {
    // What cannot be raised shows where it matters: a connection is refused.
    let _ = rlimit::increase_nofile_limit(u64::MAX);
    match std::env::args().nth(1)?.as_str() {
        "--bare" => bare::serve(),
        "--http" => http::serve(),
        "--native" => native::serve(),
        "--check" => return Some(check::run()),
        _ => return None,
    }
    Some(ExitCode::SUCCESS)
}

/// What `json` takes: an order of this number, a kilobyte of JSON that begins with `{"id":NUMBER,"count":1,`.
pub(crate) fn order(id: u64) -> String {
    serde_json::to_string(&benchmark::Order::numbered(id)).expect("it can be written")
}

/// This executable in one of its modes.
fn own_mode(name: &'static str, mode: &str, folder: &Path) -> Process {
    let mut command = Command::new(std::env::current_exe().expect("a program knows itself"));
    command.arg(mode);
    Process::start(name, command, folder)
}

/// A script of `node/`, with arguments. NODE_ENV is what servers have.
fn script(name: &'static str, script: &str, args: &[&str], folder: &Path) -> Process {
    let tests = repository().join("tests");
    assert!(
        tests.join("node_modules/ioredis").exists(),
        "npm packages are missing: install them by `make bench`"
    );
    let mut command = Command::new("node");
    command
        .arg(tests.join("bench/peers/node").join(script))
        .args(args)
        .env("NODE_ENV", "production");
    Process::start(name, command, folder)
}

/// A redis-server that keeps nothing, and its port.
async fn redis_server(folder: &Path) -> (Process, u16) {
    let port = free_port();
    let mut command = Command::new("redis-server");
    command
        .args(["--bind", "127.0.0.1", "--port", &port.to_string()])
        .args(["--save", "", "--appendonly", "no"]);
    let mut redis = Process::start("redis-server", command, folder);
    redis.says("Ready to accept connections").await;
    (redis, port)
}

fn url(redis_port: u16) -> String {
    format!("redis://127.0.0.1:{redis_port}")
}

/// Threads and all else that `plugnode run` has.
fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .expect("threads can be started")
        .block_on(work);
}
