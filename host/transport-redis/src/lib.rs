//! plugnode's transport over Redis or Valkey: io-nodes and app-nodes in many processes, on one machine or many.
//!
//! # The way of a message
//!
//! 1. `io_node`: the inbox of an io-node collects the events of its clients into a `batch` for each partition, and appends those of a shard
//!    to the partitions' logs with one script call (`io_node::ingest_call`).
//! 2. `app_node`: a `LogReader` reads the logs of the partitions of a shard that its app-node leases, and
//!    hands each partition's events to the lease holder (`app_node::log`).
//! 3. `app_node`: the effects of each event are sorted by destination (`app_node::routes`) and committed together with the
//!    progress of the partition (`app_node::committer`).
//! 4. `io_node`: each io-node reads the resulting commands from its `outbox`.
//!
//! # What keeps the promises
//!
//! - **Atomic.** Everything that must happen together happens in one Lua script, on keys of one shard, which share a hash tag
//!   (`scripts`, `keys`).
//! - **Once.** Every call is repeated until Redis answers it (`client`), so every script tolerates a repeated, late or
//!   reordered copy. Ingest deduplicates by the number of the call. A commit changes the partition's
//!   progress (`app_node::progress`) in the same step, so that a copy of it changes nothing.
//! - **Fenced.** Nodes hold their names by leases that heartbeats renew (`membership`); app-nodes lease partitions
//!   (`app_node::lease_manager`). Scripts reject writes of a superseded incarnation or lease epoch.
//! - **Durable as configured.** With `wait-replicas` or `wait-aof` a change counts once `WAIT` or `WAITAOF` confirms it
//!   (`durability`). Lost data is detected by every heartbeat (`data_watch`).
//!
//! Beside this way: the key-value store (`key_value`) with its locks, dead letters (`dead_letters`), and the board of releases (`releases`)
//! with their components (`components`). A [`Subscription`] receives what other programs publish; it is not part of the transport.

mod app_node;
mod arguments;
mod batch;
mod client;
mod components;
#[cfg(test)]
mod counted;
mod data_loss;
mod data_watch;
mod dead_letters;
mod durability;
mod error;
mod io_node;
mod key_value;
mod keys;
#[cfg(test)]
mod late_calls_tests;
mod linger;
mod membership;
mod nodes;
mod redis;
mod releases;
mod scripts;
mod settings;
mod stream;
mod transport;
mod unknown_versions;
mod wire;

pub use self::client::check_url;
pub use self::client::subscription::{Published, Subscription, SubscriptionBudget};
pub use self::redis::{OutageProbe, Redis};
pub use self::settings::{RedisSettings, TlsFiles};

/// A transport with the limits of the conformance suite, on a Redis server of its own.
#[cfg(test)]
async fn for_conformance(shards: u16) -> (plugnode_transport::Transport, client::testing::TestServer) {
    let (redis, server) = Redis::for_test(shards).await;
    (redis.into(), server)
}

#[cfg(test)]
plugnode_transport::conforms! {
    on_redis: super::for_conformance(1),
    on_redis_in_shards: super::for_conformance(3),
}

#[cfg(test)]
plugnode_transport::releases_conform! {
    registry_on_redis: super::for_conformance(1),
    registry_on_redis_in_shards: super::for_conformance(3),
}
