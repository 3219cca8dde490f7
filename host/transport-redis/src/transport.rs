//! [`Redis`] as a transport of five seams. The others are implemented in `nodes`, `key_value`, `dead_letters` and `releases`.

use std::sync::Arc;

use async_trait::async_trait;

use crate::redis::Redis;
use crate::{app_node, io_node};
use plugnode_message::NodeId;
use plugnode_transport::{Events, IoNode, IoSession, Leases, Result, Transport};

#[async_trait]
impl Events for Redis {
    async fn join_io(&self, node: IoNode) -> Result<IoSession> {
        io_node::join(self, node).await
    }

    async fn join_app(&self, node: NodeId) -> Result<Box<dyn Leases>> {
        Ok(Box::new(app_node::join(self, node).await?))
    }
}

impl From<Redis> for Transport {
    fn from(redis: Redis) -> Self {
        Self::of(Arc::new(redis))
    }
}
