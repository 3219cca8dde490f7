//! The key-value store: one hash for each bucket and shard.
//!
//! Reads use a connection of their own, so that large answers delay nothing else, and each call reads a limited number of bytes.
//! The expiry of a key with a TTL is in the sorted set `ends`; an expired key is invisible.

pub(crate) mod forward;
pub(crate) mod forward_queues;
pub(crate) mod key_locks;
pub(crate) mod lock_items;
pub(crate) mod transaction;

use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures_util::future::{join_all, try_join_all};
use tokio::time::timeout;

use crate::arguments::bytes_of;
use crate::keys::Shard;
use crate::redis::Redis;
use crate::scripts;
use plugnode_message::{KeyValue, KeyValueError, Text};

/// Approximate number of keys in one page of a listing.
const PAGE: usize = 1_000;
/// Approximate size of the values that Redis loads for one page, in bytes.
const PAGE_BYTES: usize = 4 << 20;
/// Maximum size of the values in one answer in bytes, unless a single value is larger.
const ANSWER: usize = 256 << 10;
/// Maximum number of keys in one call.
const KEYS: usize = 1_000;
/// Deadline of a small request to a reachable Redis.
const PING_DEADLINE: Duration = Duration::from_millis(250);

#[async_trait]
impl KeyValue for Redis {
    async fn get(&self, bucket: &str, keys: &[Text], most: usize) -> Result<Vec<Option<Bytes>>, KeyValueError> {
        let mut values = vec![None; keys.len()];
        let mut left = most;
        if self.layout.shards == 1 {
            let indices: Vec<usize> = (0..keys.len()).collect();
            let shard = self.layout.shard(0);
            let part = ShardRead {
                shard,
                bucket,
                keys,
                most,
            };
            self.read(part, &indices, &mut left, &mut values).await?;
            return Ok(values);
        }
        let mut by_shard = vec![Vec::new(); usize::from(self.layout.shards)];
        for (index, key) in keys.iter().enumerate() {
            by_shard[usize::from(self.layout.shard_of_key(bucket, key))].push(index);
        }
        for (shard, indices) in self
            .layout
            .all()
            .zip(by_shard)
            .filter(|(_, indices)| !indices.is_empty())
        {
            self.wait_until_forwarded(shard.number).await?;
            let part = ShardRead {
                shard,
                bucket,
                keys,
                most,
            };
            self.read(part, &indices, &mut left, &mut values).await?;
        }
        Ok(values)
    }

    /// The cursor encodes the shard: `cursor of Redis * number of shards + shard`.
    async fn keys(
        &self,
        bucket: &str,
        prefix: &str,
        cursor: u64,
        most: usize,
    ) -> Result<(Vec<Text>, Option<u64>), KeyValueError> {
        let shards = u64::from(self.layout.shards);
        let (number, from) = ((cursor % shards) as u16, cursor / shards);
        let shard = self.layout.shard(number);
        self.wait_until_forwarded(number).await?;
        let names = [shard.bucket(bucket), shard.key("ends")];
        let arguments = [
            bytes_of(from),
            Bytes::copy_from_slice(prefix.as_bytes()),
            bytes_of(PAGE),
            bytes_of(most),
            bytes_of(PAGE_BYTES),
        ];
        let found: Vec<Bytes> = self
            .reads
            .try_run(&scripts::LIST_KEYS, &names, &arguments)
            .await
            .map_err(KeyValueError::Unavailable)?;
        let mut found = found.into_iter();
        let next = found
            .next()
            .and_then(|next| std::str::from_utf8(&next).ok()?.parse::<u64>().ok());
        let next = next.ok_or(KeyValueError::TooLarge(most))?;
        // Keys of handlers are UTF-8; others are foreign.
        let keys = found.filter_map(|key| Text::try_from(key).ok());
        let next = match next {
            0 if u64::from(number) + 1 == shards => None,
            0 => Some(u64::from(number) + 1),
            next => Some(next * shards + u64::from(number)),
        };
        Ok((keys.collect(), next))
    }

    async fn count(&self, bucket: &str) -> Result<u64, KeyValueError> {
        let in_shards = self.layout.all().map(|shard| async move {
            self.wait_until_forwarded(shard.number).await?;
            let mut count = redis::cmd("HLEN");
            count.arg(&shard.bucket(bucket)[..]);
            self.reads
                .try_ask::<u64>(&count)
                .await
                .map_err(KeyValueError::Unavailable)
        });
        Ok(try_join_all(in_shards).await?.into_iter().sum())
    }

    /// Asks all shards, which may be on several servers, over the connection of reads and over the common one, which carries
    /// forwards; no forward may be pending. A connection that is newer than `asked` may itself have delayed the read.
    async fn has_answered_since(&self, asked: Instant) -> bool {
        let in_shards = self.layout.all().map(|shard| async move {
            let mut ping = redis::cmd("EXISTS");
            ping.arg(&shard.key("meta")[..]);
            // Without a deadline, so that it also detects a dead connection.
            let reads = self.reads.has_answered_since(asked, &ping);
            let other = async {
                let answered = timeout(PING_DEADLINE, self.link.has_answered_since(asked, &ping)).await;
                let forwarded = timeout(PING_DEADLINE, self.wait_until_forwarded(shard.number)).await;
                matches!((answered, forwarded), (Ok(true), Ok(Ok(()))))
            };
            let (reads, other) = tokio::join!(reads, other);
            reads && other
        });
        join_all(in_shards).await.into_iter().all(|has_answered| has_answered)
    }
}

/// The part of a read in one shard.
struct ShardRead<'a> {
    shard: Shard,
    bucket: &'a str,
    keys: &'a [Text],
    most: usize,
}

impl Redis {
    /// Reads the values of the keys at these indices, in several calls.
    async fn read(
        &self,
        part: ShardRead<'_>,
        mut indices: &[usize],
        left: &mut usize,
        values: &mut [Option<Bytes>],
    ) -> Result<(), KeyValueError> {
        let mut names = vec![part.shard.bucket(part.bucket), part.shard.key("ends")];
        // A write committed in another shard may not have arrived, although its writer was already answered. Its lock shows it.
        if self.layout.shards > 1 {
            names.push(part.shard.key("locks"));
        }
        while !indices.is_empty() {
            let asked = &indices[..indices.len().min(KEYS)];
            let mut arguments = vec![bytes_of(ANSWER), bytes_of(*left)];
            arguments.extend(asked.iter().map(|index| part.keys[*index].clone().into_bytes()));
            let read = async |names: &[Bytes]| {
                let answer = self
                    .reads
                    .try_run::<ReadAnswer>(&scripts::READ_VALUES, names, &arguments)
                    .await;
                answer.map_err(KeyValueError::Unavailable)
            };
            let mut answer = read(&names).await?;
            if self.fetch_forwarded(&part.shard, &answer.held).await {
                // All writes committed before the first read have arrived now. Later locks do not matter.
                answer = read(&names[..2]).await?;
            }
            let ReadAnswer { answered, found, .. } = answer;
            if answered < 1 {
                return Err(KeyValueError::TooLarge(part.most));
            }
            let (now, later) = indices.split_at((answered as usize).min(asked.len()));
            for (index, value) in now.iter().zip(found) {
                *left = left.saturating_sub(value.as_ref().map_or(0, Bytes::len));
                values[*index] = value;
            }
            indices = later;
        }
        Ok(())
    }
}

/// Answer to one call.
struct ReadAnswer {
    /// Number of keys read; negative if the next value exceeds the limit.
    answered: i64,
    /// Names and locks of the locked keys among them.
    held: Vec<Bytes>,
    /// Values of the keys.
    found: Vec<Option<Bytes>>,
}

impl redis::FromRedisValue for ReadAnswer {
    fn from_redis_value(value: redis::Value) -> Result<Self, redis::ParsingError> {
        let redis::Value::Array(parts) = value else {
            return Err("no array".into());
        };
        let mut parts = parts.into_iter();
        let answered = i64::from_redis_value(parts.next().unwrap_or(redis::Value::Nil))?;
        let held = Vec::<Bytes>::from_redis_value(parts.next().unwrap_or(redis::Value::Nil))?;
        let values = parts.map(Option::<Bytes>::from_redis_value);
        Ok(Self {
            answered,
            held,
            found: values.collect::<Result<_, _>>()?,
        })
    }
}
