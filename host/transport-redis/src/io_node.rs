//! The io-node's side: joins the cluster, hands events in, and receives commands.

mod inbox;
mod ingest_call;
pub(crate) mod membership;
mod open_events;
mod outbox;
mod outbox_order;
mod preferred_partitions;

use std::net::IpAddr;
use std::sync::Arc;

use self::inbox::RedisInbox;
use self::membership::IoMembership;
use self::outbox::RedisOutbox;
use crate::redis::Redis;
use plugnode_transport::{IoNode, IoSession, Result};

/// Joins as an io-node in every shard. Shard 0 decides about the name.
///
/// # Errors
/// If another io-node holds the name.
pub(crate) async fn join(redis: &Redis, node: IoNode) -> Result<IoSession> {
    let probes = probes(redis, &node).await;
    let address = serde_json::json!({
        "host": node.host, "port": node.port, "probes": probes, "scheme": node.scheme, "path": node.path,
    });
    let (member, membership, broadcasts) = IoMembership::join(redis, node.id, &address.to_string()).await?;
    let outbox = RedisOutbox::new(redis, &member, membership.clone(), broadcasts);
    let inbox = RedisInbox::new(redis, member, membership);
    Ok(IoSession {
        inbox: Arc::new(inbox),
        outbox: Box::new(outbox),
    })
}

/// URLs for health probes by other nodes: an unspecified address becomes the address by which this machine reaches Redis.
async fn probes(redis: &Redis, node: &IoNode) -> Vec<String> {
    const UNSPECIFIED: [&str; 2] = ["://0.0.0.0:", "://[::]:"];
    let mut probes = node.probes.clone();
    let is_unspecified = |probe: &String| UNSPECIFIED.iter().any(|any| probe.contains(any));
    if probes.iter().any(is_unspecified) {
        let own = match redis.server.local_ip().await {
            IpAddr::V4(own) => format!("://{own}:"),
            IpAddr::V6(own) => format!("://[{own}]:"),
        };
        for probe in &mut probes {
            *probe = UNSPECIFIED
                .iter()
                .fold(std::mem::take(probe), |probe, any| probe.replace(any, &own));
        }
    }
    probes
}
