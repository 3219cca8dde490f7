//! Components in Redis: each is a list of parts, written and read one at a time, so that a large component blocks neither Redis
//! nor the connection for long.
//!
//! A part is stored once, under its digest, for all components that contain it: script components on the same runtime differ
//! only in their last part. It is deleted with the last component that refers to it.
//!
//! A component exists once it is marked as complete. Its key is its digest, so concurrent uploads of the same component write
//! the same bytes.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::sleep;
use tracing::warn;

use crate::arguments::bytes_of;
use crate::client::link::Link;
use crate::keys::Shard;
use crate::redis::Redis;
use crate::scripts;
use plugnode_message::now_ms;
use plugnode_process::Backoff;
use plugnode_release::{Board, Digest};
use plugnode_transport::Result;
use plugnode_transport::releases::{KEPT, Parts, check_size, digest_of};

/// First and longest pause before another check for missing parts.
const RETRY: (Duration, Duration) = (Duration::from_millis(2), Duration::from_secs(5));

/// Uploads a component. If it exists, only its retention starts anew.
pub(crate) async fn put(redis: &Redis, bytes: Bytes) -> Result<Digest> {
    check_size(bytes.len() as u64, redis.settings.common.max_component)?;
    let Parts { digest, parts } = Parts::of(bytes.clone()).await;
    let shard = redis.layout.shard(0);
    let keys = keys_of(&shard, &digest);
    let mut arguments = vec![bytes_of(&digest), bytes_of(bytes.len())];
    arguments.extend(parts.iter().map(|(digest, _)| bytes_of(digest)));
    let link = own_link(redis);
    let mut pause = Backoff::new(RETRY.0, RETRY.1);
    loop {
        // Usually runs twice: before and after the upload. More often only if Redis loses parts.
        let missing = redis
            .change::<BTreeSet<String>>(&shard, &scripts::PUT_COMPONENT, &keys, &arguments)
            .await;
        if missing.is_empty() {
            return Ok(digest);
        }
        for (digest, part) in parts.iter().filter(|(digest, _)| missing.contains(digest.as_str())) {
            let arguments = [bytes_of(digest), part.clone()];
            link.run::<()>(&scripts::PUT_PART, &keys[2..], &arguments).await;
        }
        sleep(pause.next_delay()).await;
    }
}

/// Reads a component; none if it is missing or incomplete.
pub(crate) async fn get(redis: &Redis, digest: &Digest) -> Result<Option<Bytes>> {
    let [_, component, parts, _] = keys_of(&redis.layout.shard(0), digest);
    let mut question = redis::cmd("HMGET");
    question.arg(&component[..]).arg("bytes").arg("parts");
    let (size, count): (Option<String>, Option<String>) = redis.link.ask(&question).await;
    let number = |text: Option<String>| text.and_then(|text| text.parse::<u64>().ok());
    let (Some(size), Some(count)) = (number(size), number(count)) else {
        return Ok(None);
    };
    check_size(size, redis.settings.common.max_component)?;
    // Every part has at least one byte, so a greater count is foreign.
    if count > size {
        return Ok(None);
    }
    let link = own_link(redis);
    let mut bytes = BytesMut::with_capacity(size as usize);
    let mut damaged = Vec::new();
    for number in 0..count {
        let mut question = redis::cmd("HGET");
        question.arg(&component[..]).arg(number);
        let Some(name) = link.ask::<Option<Bytes>>(&question).await else {
            return Ok(None);
        };
        let mut question = redis::cmd("HGET");
        question.arg(&parts[..]).arg(&name[..]);
        let Some(part) = link.ask::<Option<Bytes>>(&question).await else {
            return Ok(None);
        };
        if digest_of(part.clone()).await.as_str().as_bytes() != &name[..] {
            damaged.push(name);
        } else if bytes.len() + part.len() <= size as usize {
            bytes.extend_from_slice(&part);
        }
    }
    let bytes = bytes.freeze();
    if damaged.is_empty() && digest_of(bytes.clone()).await == *digest {
        return Ok(Some(bytes));
    }
    warn!(%digest, "this component in Redis is damaged, and is forgotten: deploy it again");
    // The next upload of a component with these parts writes them again.
    for name in damaged {
        link.ask::<()>(redis::cmd("HDEL").arg(&parts[..]).arg(&name[..])).await;
    }
    link.ask::<()>(redis::cmd("HDEL").arg(&component[..]).arg("bytes"))
        .await;
    Ok(None)
}

/// Deletes components that the board does not name and that were not uploaded recently. Young ones by the local clock are
/// skipped without a call each.
pub(crate) async fn prune(redis: &Redis, board: &Board) {
    let shard = redis.layout.shard(0);
    let mut question = redis::cmd("ZRANGEBYSCORE");
    let old = now_ms().saturating_sub(KEPT.as_millis() as u64);
    question.arg(&shard.key("components")[..]).arg("-inf").arg(old);
    let old: Vec<String> = redis.link.ask(&question).await;
    // Other members of the set are foreign.
    for digest in old.iter().filter_map(|digest| digest.parse::<Digest>().ok()) {
        if board.digests().any(|named| *named == digest) {
            continue;
        }
        let keys = keys_of(&shard, &digest);
        let arguments = [bytes_of(&digest), bytes_of(KEPT.as_millis())];
        redis.link.run::<()>(&scripts::PRUNE_COMPONENT, &keys, &arguments).await;
    }
}

/// Keys: list of components, this component, parts of all components, reference counts of parts.
fn keys_of(shard: &Shard, digest: &Digest) -> [Bytes; 4] {
    [
        shard.key("components"),
        shard.component(digest),
        shard.key("parts"),
        shard.key("part-uses"),
    ]
}

/// A connection of its own, so that events do not queue behind large transfers.
fn own_link(redis: &Redis) -> Link {
    Link::new(redis.server.clone())
}
