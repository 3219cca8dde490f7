//! Watches which servers are masters, every second. A link to a former master that still answers would not notice the change,
//! and its writes would be lost.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::RedisResult;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use tokio_util::task::AbortOnDropHandle;

use crate::client::connection::Connection;
use crate::client::server::Server;

const INTERVAL: Duration = Duration::from_secs(1);

/// Starts the watch if it is needed and not running. It ends with the server.
pub(crate) fn start(server: &Arc<Server>) {
    server.keep_master_watch(|| AbortOnDropHandle::new(tokio::spawn(run(Arc::downgrade(server)))));
}

async fn run(server: Weak<Server>) {
    let mut connection = None;
    loop {
        tokio::time::sleep(INTERVAL).await;
        let Some(server) = server.upgrade() else { return };
        // Faults are not reported here, because the links meet and report the same ones.
        if server.is_cluster() {
            look_at_cluster(&server, &mut connection).await;
        } else if let Ok(master) = server.find_master().await {
            server.set_masters(master);
        }
    }
}

async fn look_at_cluster(server: &Server, connection: &mut Option<Connection>) {
    if connection.is_none() {
        *connection = server.connect(INTERVAL).await.ok();
    }
    let Some(Connection::Cluster(cluster, _)) = connection else {
        return;
    };
    let mut command = redis::cmd("CLUSTER");
    command.arg("NODES");
    let anywhere = RoutingInfo::SingleNode(SingleNodeRoutingInfo::RandomPrimary);
    let answer = cluster.route_command(command, anywhere).await;
    let nodes: RedisResult<String> = answer.and_then(|answer| Ok(redis::from_redis_value(answer)?));
    match nodes {
        Ok(nodes) => _ = server.set_masters(masters(&nodes)),
        Err(_) => *connection = None,
    }
}

/// The nodes with slots, in lines of `<id> <address> <flags> <master> <ping> <pong> <epoch> <link> <slots…>`. A failed node keeps
/// its slots until a replica takes them over.
fn masters(nodes: &str) -> String {
    let nodes = nodes.lines().filter_map(|line| {
        let mut words = line.split(' ');
        let (address, flags) = (words.nth(1)?, words.next()?);
        let is_master = flags.split(',').any(|flag| flag == "master");
        let address = address.split('@').next()?;
        (is_master && words.nth(5).is_some()).then_some(address)
    });
    nodes
        .collect::<BTreeSet<_>>()
        .into_iter()
        .collect::<Vec<_>>()
        .join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn masters_are_the_nodes_with_slots() {
        let nodes = "b h:1@2 myself,master - 0 0 1 connected 0-16383\n\
                     a h:2@3 slave b 0 0 1 connected\n\
                     c h:3@4 master - 0 0 2 connected\n\
                     d h:4@5 master,fail - 0 0 2 connected 5\n\
                     e h:5@6 master,fail - 0 0 2 disconnected\n";
        assert_eq!(masters(nodes), "h:1, h:4");
    }
}
