//! Disconnects the clients of lost io-nodes: appends each client's last will to the log, so that its app receives one
//! `disconnect` with the reason `node-lost`.

use tracing::{info, warn};

use crate::arguments::bytes_of;
use crate::keys::Shard;
use crate::redis::Redis;
use crate::scripts;

/// Numbers of clients and of bytes of their last wills at which a call takes no further ones.
const CLIENTS: usize = 1_000;
const BYTES: usize = 1 << 20;

/// Disconnects the clients of these members. Several nodes may do so at once; each call takes the next clients.
pub(crate) async fn disconnect_clients(redis: &Redis, shard: &Shard, lost: &[String]) {
    for member in lost {
        let Some((_, name)) = member.split_once('@') else {
            warn!(member, "a foreign value is in the set of lost io-nodes");
            continue;
        };
        let keys = [
            shard.key("lost"),
            shard.live(member),
            shard.outbox(member),
            shard.key("who"),
            shard.key("owner"),
            shard.key("in"),
            shard.key("io"),
            shard.key("info"),
            shard.outbox_in(member),
            shard.outbox_read(member),
            shard.key("clock"),
        ];
        let mut clients = redis::cmd("HLEN");
        let clients: u64 = redis.link.ask(clients.arg(&keys[1][..])).await;
        // The empty field is no client.
        let clients = clients.saturating_sub(1);
        let mut cursor = String::from("0");
        while cursor != "done" {
            let arguments = [
                bytes_of(member),
                bytes_of(name),
                bytes_of(cursor),
                bytes_of(CLIENTS),
                bytes_of(BYTES),
                shard.log_of(""),
                shard.wake(""),
            ];
            cursor = redis.change(shard, &scripts::DISCONNECT_LOST, &keys, &arguments).await;
        }
        // An io-node that leaves in order has no clients left.
        if clients > 0 {
            warn!(
                io_node = name,
                clients,
                shard = shard.number,
                "an io-node is gone without having left: its clients are disconnected"
            );
        } else {
            info!(
                io_node = member,
                shard = shard.number,
                "a lost io-node had no clients left in this shard"
            );
        }
    }
}
