//! The key-value store: a hash for each bucket and shard.

use async_trait::async_trait;
use bytes::Bytes;

use super::Redis;
use crate::message::{KeyValue, KeyValueError, Text};

/// About so many keys are in one page.
const PAGE: usize = 1_000;

#[async_trait]
impl KeyValue for Redis {
    async fn get(&self, bucket: &str, keys: &[Text]) -> Result<Vec<Option<Bytes>>, KeyValueError> {
        let mut by_shard = vec![Vec::new(); usize::from(self.layout.shards)];
        for (place, key) in keys.iter().enumerate() {
            by_shard[usize::from(self.layout.shard_of_key(bucket, key))].push(place);
        }
        let mut values = vec![None; keys.len()];
        for (shard, places) in self.layout.all().zip(by_shard).filter(|(_, places)| !places.is_empty()) {
            let mut get = ::redis::cmd("HMGET");
            get.arg(&shard.bucket(bucket)[..]);
            for place in &places {
                get.arg(&keys[*place][..]);
            }
            let found: Vec<Option<Bytes>> = self.link.try_ask(&get).await.map_err(KeyValueError)?;
            for (place, value) in places.into_iter().zip(found) {
                values[place] = value;
            }
        }
        Ok(values)
    }

    /// Cursors count through the shards: what Redis gives as the cursor of a shard, times the shards, and the shard.
    async fn keys(&self, bucket: &str, cursor: u64) -> Result<(Vec<Text>, Option<u64>), KeyValueError> {
        let shards = u64::from(self.layout.shards);
        let (shard, from) = ((cursor % shards) as u16, cursor / shards);
        let mut scan = ::redis::cmd("HSCAN");
        scan.arg(&self.layout.shard(shard).bucket(bucket)[..])
            .arg(from)
            .arg("COUNT")
            .arg(PAGE);
        let (next, pairs): (u64, Vec<(Bytes, Bytes)>) = self.link.try_ask(&scan).await.map_err(KeyValueError)?;
        // A handler's keys are text; what is not was put there by somebody else.
        let keys = pairs.into_iter().filter_map(|(key, _)| Text::try_from(key).ok());
        let next = match next {
            0 if u64::from(shard) + 1 == shards => None,
            0 => Some(u64::from(shard) + 1),
            next => Some(next * shards + u64::from(shard)),
        };
        Ok((keys.collect(), next))
    }
}
