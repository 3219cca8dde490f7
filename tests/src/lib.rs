//! The test fixture: plugnode processes, Socket.IO clients, Redis servers, and a proxy that injects network faults.
//!
//! It does not depend on the host's code. A test starts a [`Node`] with a configuration as a user would write it, connects clients, and
//! waits for events with a time-out.

mod balancer;
mod certificates;
pub mod check;
mod client;
mod cluster;
mod console;
pub mod faults;
mod flaw;
mod fuzz;
pub mod leaks;
mod node;
mod ports;
mod proxy;
mod random;
pub mod raw_client;
mod redis;
mod redis_cluster;
mod redis_setup;
mod reference;
mod resp;
mod sentinel;
pub mod sequence;
mod signals;
mod tools;
mod verb;
mod webhook_receiver;

pub use balancer::Balancer;
pub use certificates::make as make_certificates;
pub use client::{Client, Heard, Refused};
pub use cluster::Cluster;
pub use console::{CommandResult, Console};
pub use flaw::Flaw;
pub use fuzz::Fuzz;
pub use node::{Node, app, run_to_end};
pub use ports::free_port;
pub use proxy::Proxy;
pub use redis::RedisServer;
pub use redis_cluster::RedisCluster;
pub use redis_setup::Redis;
pub use reference::Reference;
pub use sentinel::Sentinels;
pub use tools::{
    binary, built, component, installed_tool, node_script, patched, python_client, rebuilt, repository, run_command,
    rust_client, temp_folder,
};
pub use verb::{CommandOutput, RunningCommand, verb};
pub use webhook_receiver::{WebhookAnswer, WebhookReceiver, WebhookRequest};

use std::future::Future;
use std::time::Duration;

/// App setting that grants the key-value bucket `default`, which most handlers of the tests need.
pub const KEY_VALUE: &str = "grants = { keyvalue = [\"default\"] }";

/// Time-out of anything expected; generous, for busy machines.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Awaits a future; `what` says in the panic message what did not happen.
///
/// # Panics
/// When it takes longer than [`LIMIT`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("timed out after {LIMIT:?}: {what}"))
}

/// Awaits a future that may take minutes.
///
/// # Panics
/// When it takes longer than `minutes`.
pub async fn within_minutes<T>(minutes: u64, what: &str, future: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60 * minutes);
    tokio::time::timeout(limit, future)
        .await
        .unwrap_or_else(|_| panic!("timed out after {minutes} minutes: {what}"))
}
