//! The app-node's side: joins the cluster, leases partitions, and commits what their events did.
//!
//! Each shard has a [lease manager](lease_manager), a [log reader](log_reader), a [committer] and a [timer](timers) task. No shard
//! waits for another, but a node that is fenced in one shard is fenced in all.

mod claim;
mod commits;
mod committer;
pub(crate) mod held_lease;
mod lease_manager;
mod log;
mod log_event;
mod log_reader;
mod poison;
pub(crate) mod progress;
mod routes;
pub(crate) mod timers;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use futures_util::future::try_join_all;
use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use self::lease_manager::LeaseManager;
use self::log_reader::LogReader;
use self::routes::Routes;
use crate::membership::heartbeat::Heartbeat;
use crate::membership::member::Member;
use crate::redis::Redis;
use plugnode_message::NodeId;
use plugnode_transport::{Lease, Leases, Result, TransportError};

/// Capacity of a shard's commit queue. Each partition sends few commits at a time.
const COMMITS: usize = 64;

/// Joins as an app-node. Shard 0 decides about the name; the other shards are joined in the background.
///
/// # Errors
/// If another app-node holds the name.
pub(crate) async fn join(redis: &Redis, name: NodeId) -> Result<RedisLeases> {
    let (grants, granted) = mpsc::unbounded_channel();
    let member = Member::new(redis, "app-node", name.clone());
    let mut first = Some(Heartbeat::join(redis, &redis.layout.shard(0), &member).await?);
    let (fenced, end) = (CancellationToken::new(), CancellationToken::new());
    let routes = Routes::default();
    let (mut managers, mut joined) = (Vec::new(), Vec::new());
    for shard in redis.layout.all() {
        let (commits, queue) = mpsc::channel(COMMITS);
        redis
            .shutdown
            .spawn(committer::run(redis.clone(), shard.clone(), queue));
        let reader = LogReader::start(redis, shard.clone(), &member.id, end.clone());
        let set = reader.timer_set.clone();
        redis.shutdown.spawn(timers::run(
            redis.clone(),
            shard.clone(),
            member.id.clone(),
            set,
            end.clone(),
        ));
        let (returns, returned) = mpsc::unbounded_channel();
        let (entered, has_entered) = oneshot::channel();
        let manager = LeaseManager {
            reader,
            redis: redis.clone(),
            member: member.clone(),
            shard,
            commits,
            routes: routes.clone(),
            grants: grants.clone(),
            returns,
            fenced: fenced.clone(),
            held: HashMap::new(),
            settled: None,
        };
        managers.push(manager.run(first.take(), entered, returned));
        joined.push(has_entered);
    }
    let leases = RedisLeases {
        granted,
        has_lost_data: Arc::default(),
    };
    let has_lost_data = leases.has_lost_data.clone();
    redis.shutdown.spawn(async move {
        let _end = end.drop_guard();
        let all_joined = async {
            if try_join_all(joined).await.is_ok() {
                info!(app_node = %name, "joined the cluster");
            }
        };
        let all_left = async {
            match try_join_all(managers).await {
                Ok(_) => info!(app_node = %name, "left the cluster"),
                Err(error) => {
                    debug!(app_node = %name, %error, "this app-node has lost its lease");
                    let is_data_lost = matches!(error, TransportError::DataLost);
                    has_lost_data.store(is_data_lost, Ordering::Release);
                    // After the reason is stored: this ends `RedisLeases::next`.
                    drop(grants);
                    fenced.cancel();
                }
            }
        };
        tokio::join!(all_joined, all_left);
    });
    Ok(leases)
}

/// Leases granted to an app-node. Dropping it makes the app-node leave.
pub(crate) struct RedisLeases {
    granted: mpsc::UnboundedReceiver<Lease>,
    /// Whether the node was fenced by a loss of data.
    has_lost_data: Arc<AtomicBool>,
}

#[async_trait]
impl Leases for RedisLeases {
    async fn next(&mut self) -> Result<Lease> {
        // The lease managers end before this is dropped only if the node was fenced.
        self.granted
            .recv()
            .await
            .ok_or_else(|| match self.has_lost_data.load(Ordering::Acquire) {
                true => TransportError::DataLost,
                false => TransportError::Fenced,
            })
    }
}
