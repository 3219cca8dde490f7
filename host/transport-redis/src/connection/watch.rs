//! Who the masters are, looked at every second: a link whose server goes on talking to it would not hear that it is a
//! master no more, and what is written there is lost.

use std::collections::BTreeSet;
use std::sync::{Arc, Weak};
use std::time::Duration;

use redis::RedisResult;
use redis::cluster_routing::{RoutingInfo, SingleNodeRoutingInfo};
use tokio_util::task::AbortOnDropHandle;

use super::server::{Connection, Server};

const PAUSE: Duration = Duration::from_secs(1);

/// Watches until the handle or the server is dropped.
pub(super) fn watch(server: &Arc<Server>) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(run(Arc::downgrade(server))))
}

async fn run(server: Weak<Server>) {
    let mut connection = None;
    loop {
        tokio::time::sleep(PAUSE).await;
        let Some(server) = server.upgrade() else { return };
        // What hinders this hinders the links as well, and they tell of it.
        if server.is_cluster() {
            look_at_cluster(&server, &mut connection).await;
        } else if let Ok(master) = server.find_master().await {
            server.is_led_by(master);
        }
    }
}

async fn look_at_cluster(server: &Server, connection: &mut Option<Connection>) {
    if connection.is_none() {
        *connection = server.connect(PAUSE).await.ok();
    }
    let Some(Connection::Cluster(cluster, _)) = connection else {
        return;
    };
    let mut question = redis::cmd("CLUSTER");
    question.arg("NODES");
    let anywhere = RoutingInfo::SingleNode(SingleNodeRoutingInfo::RandomPrimary);
    let answer = cluster.route_command(question, anywhere).await;
    let nodes: RedisResult<String> = answer.and_then(|answer| Ok(redis::from_redis_value(answer)?));
    match nodes {
        Ok(nodes) => _ = server.is_led_by(masters(&nodes)),
        Err(_) => *connection = None,
    }
}

/// The nodes that have slots: `<id> <address> <flags> <master> <ping> <pong> <epoch> <link> <slots…>` is a line. One that
/// fails has them until another takes them over.
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
