//! The fixture: real processes, a real Socket.IO connection, and the tools that tests drive from outside.
//!
//! Nothing here knows the host's code. A test starts a [`Node`] with the configuration a user would write, speaks to it as
//! clients do, and waits for what must happen, with a limit in time.

pub mod account;
mod balancer;
pub mod bare;
mod certificates;
pub mod check;
mod client;
mod cluster;
mod console;
pub mod crowd;
pub mod faults;
mod flaw;
mod hostility;
mod node;
mod ports;
mod proxy;
mod random;
mod redis;
mod redis_cluster;
mod redis_setup;
mod reference;
mod resp;
mod sentinel;
mod signals;
mod tools;
mod verb;

pub use balancer::Balancer;
pub use client::{Client, Heard, Refused};
pub use cluster::Cluster;
pub use console::{Answer, Console};
pub use flaw::Flaw;
pub use hostility::Hostility;
pub use node::{Node, app, run_to_end};
pub use ports::free_port;
pub use proxy::Proxy;
pub use redis::RedisServer;
pub use redis_cluster::RedisCluster;
pub use redis_setup::Redis;
pub use reference::Reference;
pub use sentinel::Sentinels;
pub use tools::{
    binary, brought, built, component, node_script, patched, python_client, rebuilt, repository, rust_client,
};
pub use verb::{Running, Said, verb};

use std::future::Future;
use std::time::Duration;

/// The longest that anything expected may take. Far more than it needs, for busy machines.
pub const LIMIT: Duration = Duration::from_secs(30);

/// Waits for something that must happen.
///
/// # Panics
/// When it does not happen within [`LIMIT`].
pub async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    tokio::time::timeout(LIMIT, future)
        .await
        .unwrap_or_else(|_| panic!("nothing came of it in {LIMIT:?}: {what}"))
}

/// Waits for something that takes minutes at the most.
///
/// # Panics
/// When it takes longer.
pub async fn within_minutes<T>(minutes: u64, what: &str, future: impl Future<Output = T>) -> T {
    let limit = Duration::from_secs(60 * minutes);
    tokio::time::timeout(limit, future)
        .await
        .unwrap_or_else(|_| panic!("{what} did not end in {minutes} minutes"))
}
