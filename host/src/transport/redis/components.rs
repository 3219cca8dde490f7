//! Components in Redis: a key each, in parts that are written and read one at a time, so that neither Redis nor a
//! connection is busy with one for long.
//!
//! A component is there when it is marked as complete. Its name tells its bytes, so whoever writes a part writes the same,
//! and two that put the same component do not disturb each other.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::sleep;
use tracing::warn;

use super::connection::Link;
use super::{Redis, bytes_of, scripts};
use crate::message::now_ms;
use crate::pause::{Pause, jittered};
use crate::release::{Board, Digest};
use crate::transport::Result;
use crate::transport::registry::{KEPT, check_size, digest_of};

/// The bytes of a part; the last may have fewer.
const PART: usize = 256 * 1024;

/// How long to wait before it is looked whether all parts are there, at first, and at the most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_secs(5));

/// Puts a component, unless it is there: then it is kept for as long again.
pub(super) async fn put(redis: &Redis, bytes: Bytes) -> Result<Digest> {
    check_size(bytes.len() as u64, redis.settings.max_component)?;
    let digest = digest_of(bytes.clone()).await;
    let shard = redis.layout.shard(0);
    let component = shard.component(&digest);
    let keys = [shard.key("components"), component.clone()];
    let arguments = [
        bytes_of(&digest),
        bytes_of(bytes.len()),
        bytes_of(bytes.len().div_ceil(PART)),
    ];
    let link = own_link(redis);
    let mut pause = Pause::new(AGAIN.0, AGAIN.1);
    // Once as a rule; again when Redis has forgotten parts.
    while !redis
        .change::<bool>(&shard, &scripts::PUT_COMPONENT, &keys, &arguments)
        .await
    {
        for (number, part) in bytes.chunks(PART).enumerate() {
            let mut write = ::redis::cmd("HSET");
            write.arg(&component[..]).arg(number).arg(part);
            link.ask::<()>(&write).await;
        }
        sleep(jittered(pause.take())).await;
    }
    Ok(digest)
}

/// A component, if all of it is there.
pub(super) async fn get(redis: &Redis, digest: &Digest) -> Result<Option<Bytes>> {
    let component = redis.layout.shard(0).component(digest);
    let mut question = ::redis::cmd("HGET");
    question.arg(&component[..]).arg("bytes");
    let size: Option<String> = redis.link.ask(&question).await;
    let Some(size) = size.and_then(|size| size.parse::<u64>().ok()) else {
        return Ok(None);
    };
    check_size(size, redis.settings.max_component)?;
    let size = size as usize;
    let link = own_link(redis);
    let mut bytes = BytesMut::with_capacity(size);
    for number in 0..size.div_ceil(PART) {
        let mut question = ::redis::cmd("HGET");
        question.arg(&component[..]).arg(number);
        let Some(part) = link.ask::<Option<Bytes>>(&question).await else {
            return Ok(None);
        };
        bytes.extend_from_slice(&part);
    }
    let bytes = bytes.freeze();
    if digest_of(bytes.clone()).await == *digest {
        return Ok(Some(bytes));
    }
    warn!(%digest, "this component in Redis is damaged, and is forgotten: deploy it again");
    link.ask::<()>(::redis::cmd("DEL").arg(&component[..])).await;
    Ok(None)
}

/// Forgets what the board does not name and nobody has put of late. What is too young by this clock is not asked about: after
/// many deploys in a row that would be all of them, one by one.
pub(super) async fn prune(redis: &Redis, board: &Board) {
    let shard = redis.layout.shard(0);
    let mut question = ::redis::cmd("ZRANGEBYSCORE");
    let old = now_ms().saturating_sub(KEPT.as_millis() as u64);
    question.arg(&shard.key("components")[..]).arg("-inf").arg(old);
    let old: Vec<String> = redis.link.ask(&question).await;
    // What is no digest is not ours.
    for digest in old.iter().filter_map(|digest| digest.parse::<Digest>().ok()) {
        if board.digests().any(|named| *named == digest) {
            continue;
        }
        let keys = [shard.key("components"), shard.component(&digest)];
        let arguments = [bytes_of(&digest), bytes_of(KEPT.as_millis())];
        redis.link.run::<()>(&scripts::PRUNE_COMPONENT, &keys, &arguments).await;
    }
}

/// What is large goes over a connection of its own: events do not wait behind it.
fn own_link(redis: &Redis) -> Link {
    Link::new(redis.server.clone())
}
