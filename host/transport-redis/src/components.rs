//! Components in Redis: each is a list of parts, which are written and read one at a time, so that neither Redis nor a
//! connection is busy with one for long.
//!
//! A part is kept once, under its own digest, whatever the number of components that have it: those of the same runtime differ
//! in what stands at the end, their scripts. It goes with the last component that names it.
//!
//! A component is there when it is marked as complete. Its name tells its bytes, so whoever writes a part writes the same,
//! and two that put the same component do not disturb each other.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use tokio::time::sleep;
use tracing::warn;

use super::connection::Link;
use super::keys::Shard;
use super::{Redis, bytes_of, scripts};
use plugnode_message::now_ms;
use plugnode_process::pause::{Pause, jittered};
use plugnode_release::{Board, Digest};
use plugnode_transport::Result;
use plugnode_transport::releases::{KEPT, Parts, check_size, digest_of};

/// How long to wait before it is looked whether all parts are there, at first, and at the most.
const AGAIN: (Duration, Duration) = (Duration::from_millis(2), Duration::from_secs(5));

/// Puts a component, unless it is there: then it is kept for as long again.
pub(super) async fn put(redis: &Redis, bytes: Bytes) -> Result<Digest> {
    check_size(bytes.len() as u64, redis.settings.max_component)?;
    let Parts { digest, parts } = Parts::of(bytes.clone()).await;
    let shard = redis.layout.shard(0);
    let keys = keys_of(&shard, &digest);
    let mut arguments = vec![bytes_of(&digest), bytes_of(bytes.len())];
    arguments.extend(parts.iter().map(|(digest, _)| bytes_of(digest)));
    let link = own_link(redis);
    let mut pause = Pause::new(AGAIN.0, AGAIN.1);
    loop {
        // Twice as a rule; again when Redis has forgotten parts.
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
        sleep(jittered(pause.take())).await;
    }
}

/// A component, if all of it is there.
pub(super) async fn get(redis: &Redis, digest: &Digest) -> Result<Option<Bytes>> {
    let [_, component, parts, _] = keys_of(&redis.layout.shard(0), digest);
    let mut question = ::redis::cmd("HMGET");
    question.arg(&component[..]).arg("bytes").arg("parts");
    let (size, count): (Option<String>, Option<String>) = redis.link.ask(&question).await;
    let number = |text: Option<String>| text.and_then(|text| text.parse::<u64>().ok());
    let (Some(size), Some(count)) = (number(size), number(count)) else {
        return Ok(None);
    };
    check_size(size, redis.settings.max_component)?;
    // However it was cut, a part has a byte at least.
    if count > size {
        return Ok(None);
    }
    let link = own_link(redis);
    let mut bytes = BytesMut::with_capacity(size as usize);
    let mut damaged = Vec::new();
    for number in 0..count {
        let mut question = ::redis::cmd("HGET");
        question.arg(&component[..]).arg(number);
        let Some(name) = link.ask::<Option<Bytes>>(&question).await else {
            return Ok(None);
        };
        let mut question = ::redis::cmd("HGET");
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
    // Whoever puts it, or another that has them, writes them anew.
    for name in damaged {
        link.ask::<()>(::redis::cmd("HDEL").arg(&parts[..]).arg(&name[..]))
            .await;
    }
    link.ask::<()>(::redis::cmd("HDEL").arg(&component[..]).arg("bytes"))
        .await;
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
        let keys = keys_of(&shard, &digest);
        let arguments = [bytes_of(&digest), bytes_of(KEPT.as_millis())];
        redis.link.run::<()>(&scripts::PRUNE_COMPONENT, &keys, &arguments).await;
    }
}

/// The list of components, a component, the parts of all, and how often each is named.
fn keys_of(shard: &Shard, digest: &Digest) -> [Bytes; 4] {
    [
        shard.key("components"),
        shard.component(digest),
        shard.key("parts"),
        shard.key("part-uses"),
    ]
}

/// What is large goes over a connection of its own: events do not wait behind it.
fn own_link(redis: &Redis) -> Link {
    Link::new(redis.server.clone())
}
