//! Reports lost data: one error of the process for all its members and shards.

use tokio::time::{Instant, sleep};
use tracing::error;

use crate::data_watch::{DataLoss, DataState};
use crate::keys::Shard;
use crate::redis::Redis;

impl Redis {
    /// Compares the state of a shard's data in the answer to a heartbeat that was sent at this time.
    pub(crate) fn observe_data(&self, shard: &Shard, sent: Instant, seen: &DataState) {
        if let Some(loss) = self.data_watch.observe(shard.number, sent, seen) {
            self.report_data_loss(shard, loss);
        }
    }

    /// Reports that a reader of the shard misses writes.
    pub(crate) fn report_missing_writes(&self, shard: &Shard) {
        self.data_watch.count_missing_writes(shard.number);
        self.report_data_loss(shard, DataLoss::SetBack);
    }

    fn report_data_loss(&self, shard: &Shard, loss: DataLoss) {
        let lease = self.settings.lease;
        if self.data_watch.is_first_to_report(shard.number, loss, lease) {
            let redis = self.clone();
            self.shutdown.spawn(async move {
                // Collects the losses that other shards notice meanwhile for the same error.
                sleep(lease / 3).await;
                let lost = redis.data_watch.take_unreported();
                error!("{}", lost.describe(&redis.server.to_string()));
            });
        }
        if loss == DataLoss::Emptied && shard.number == 0 {
            let redis = self.clone();
            self.shutdown.spawn(async move {
                if let Err(disagreement) = redis.agree_on_layout().await {
                    error!(error = %disagreement, "this node does not agree on the layout of the emptied Redis");
                }
            });
        }
    }
}
