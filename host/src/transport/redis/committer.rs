//! Sends commits: those of all partitions of a shard that wait at the same moment go together, in one script.

mod call;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tracing::warn;

use self::call::CommitCall;
use super::gather::gather;
use super::keys::Shard;
use super::lease::Hold;
use super::routes::Target;
use super::{Redis, bytes_of, dead, scripts};
use crate::message::{Command, Event, NodeId, Question, Write};
use crate::transport::{Result, TransportError};

/// How many outcomes go together at the most,
const OUTCOMES: usize = 512;
/// unless they have so many bytes before.
const BYTES: usize = 2 << 20;
/// How long to wait for an outbox to empty, at first, and at the most.
const FULL: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(200));

/// The outcomes of one partition that are to be committed.
pub(super) struct Commit {
    pub(super) hold: Arc<Hold>,
    pub(super) outcomes: Vec<Settled>,
    /// Events up to this number that are still open are kept aside from the log.
    pub(super) keep: Option<u64>,
    pub(super) done: oneshot::Sender<Result<()>>,
}

/// An outcome, ready to be written.
pub(super) struct Settled {
    pub(super) number: u64,
    /// The event's bytes in the log.
    pub(super) bytes: usize,
    /// The client's key; empty for none.
    pub(super) client: Bytes,
    /// The io-node that counts what is open of the client.
    pub(super) io_node: Option<NodeId>,
    pub(super) end: End,
    /// What to put aside; empty for nothing.
    pub(super) letter: Bytes,
    /// The app whose letter it is; empty for none.
    pub(super) app: Bytes,
    pub(super) writes: Vec<Write>,
    /// Patches of attributes that are kept for the next owner, by their fields.
    pub(super) patches: Vec<(Bytes, Bytes)>,
    pub(super) commands: Vec<(Target, Vec<Command>)>,
}

impl Settled {
    /// The end of an event of nobody that did nothing.
    pub(super) fn nothing(number: u64) -> Self {
        Self {
            number,
            bytes: 0,
            client: Bytes::new(),
            io_node: None,
            end: End::None,
            letter: Bytes::new(),
            app: Bytes::new(),
            writes: Vec::new(),
            patches: Vec::new(),
            commands: Vec::new(),
        }
    }
}

/// What an outcome means to the client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It goes on.
    None,
    /// That was its last event.
    Disconnected,
    /// It was refused, and there is to be no other event of it.
    Refused,
}

/// Commits what comes until nobody is left who could send.
pub(super) async fn run(redis: Redis, shard: Shard, mut commits: mpsc::Receiver<Commit>) {
    let mut batch = Vec::new();
    while let Some(first) = commits.recv().await {
        let mut size = Size::default();
        size.add(&first);
        batch.push(first);
        while !size.is_enough()
            && let Ok(more) = commits.try_recv()
        {
            size.add(&more);
            batch.push(more);
        }
        let begun = Instant::now();
        commit(&redis, &shard, std::mem::take(&mut batch)).await;
        gather(begun, size.outcomes).await;
    }
}

#[derive(Default)]
struct Size {
    outcomes: usize,
    bytes: usize,
}

impl Size {
    fn add(&mut self, commit: &Commit) {
        self.outcomes += commit.outcomes.len();
        for outcome in &commit.outcomes {
            let values = outcome.writes.iter().filter_map(|write| write.value.as_ref());
            self.bytes += outcome.letter.len() + values.map(Bytes::len).sum::<usize>();
            let commands = outcome.commands.iter().flat_map(|(_, commands)| commands);
            self.bytes += commands.map(weight).sum::<usize>();
        }
    }

    fn is_enough(&self) -> bool {
        self.outcomes >= OUTCOMES || self.bytes >= BYTES
    }
}

/// What a command weighs, roughly.
fn weight(command: &Command) -> usize {
    const REST: usize = 64;
    REST + match command {
        Command::Publish { args, .. } | Command::Ack { args, .. } | Command::Request { args, .. } => args.size(),
        Command::Ask {
            question: Question::Acks { args, .. },
            ..
        } => args.size(),
        _ => 0,
    }
}

/// Commits a batch. Partitions of it that have gone to others are left out.
async fn commit(redis: &Redis, shard: &Shard, batch: Vec<Commit>) {
    let mut parts: Vec<Part> = Vec::new();
    let mut waiting = Vec::with_capacity(batch.len());
    for Commit {
        hold,
        outcomes,
        keep,
        done,
    } in batch
    {
        let place = parts.iter().position(|part| Arc::ptr_eq(&part.hold, &hold));
        let place = place.unwrap_or_else(|| {
            parts.push(Part::new(hold));
            parts.len() - 1
        });
        parts[place].add(outcomes, keep);
        waiting.push((place, done));
    }
    let mut elsewhere = BTreeSet::new();
    while parts.iter().any(Part::is_to_be_done) {
        let mut call = CommitCall::new(redis, shard);
        parts
            .iter()
            .filter(|part| !part.is_lost)
            .for_each(|part| call.add(part));
        elsewhere = std::mem::take(&mut call.elsewhere);
        let (keys, arguments) = call.finish();
        let strange = until_there_is_room(redis, shard, &keys, &arguments).await;
        if strange.is_empty() {
            break;
        }
        for part in parts.iter_mut() {
            part.is_lost |= strange.contains(&part.hold.partition.to_string());
        }
    }
    for other in elsewhere {
        redis.forward(shard, other).await;
    }
    if parts.iter().any(Part::puts_aside) {
        dead::trim(redis, shard).await;
    }
    for (place, done) in waiting {
        let is_lost = parts[place].is_lost;
        // A partition that was given up meanwhile does not listen any more.
        let _ = done.send(if is_lost { Err(TransportError::Fenced) } else { Ok(()) });
    }
}

/// The partitions of a call that are not as was said; none when it was done.
async fn until_there_is_room(redis: &Redis, shard: &Shard, keys: &[Bytes], arguments: &[Bytes]) -> Vec<String> {
    let (mut pause, longest) = FULL;
    loop {
        match redis.change(shard, &scripts::COMMIT, keys, arguments).await {
            Value::Array(strange) => {
                return strange
                    .into_iter()
                    .filter_map(|partition| redis::from_redis_value(partition).ok())
                    .collect();
            }
            Value::BulkString(word) if word == b"done" => return Vec::new(),
            _ => {}
        }
        if pause >= longest {
            warn!(
                shard = shard.number,
                "an io-node's outbox is full: commits wait until it is read"
            );
        }
        sleep(pause).await;
        pause = (pause * 2).min(longest);
    }
}

/// What a call commits of one partition under one lease.
struct Part {
    hold: Arc<Hold>,
    /// What was committed of it before,
    before: Bytes,
    /// and what is with this call.
    after: Bytes,
    outcomes: Vec<Settled>,
    /// Events that leave the log before they are committed,
    kept: Vec<(u64, Arc<Event>)>,
    /// and those of them that now are.
    done_with: Vec<u64>,
    /// Fields of patches that are kept no longer.
    forgotten: Vec<Bytes>,
    is_lost: bool,
}

impl Part {
    fn new(hold: Arc<Hold>) -> Self {
        let before = bytes_of(&*hold.progress());
        Self {
            hold,
            after: before.clone(),
            before,
            outcomes: Vec::new(),
            kept: Vec::new(),
            done_with: Vec::new(),
            forgotten: Vec::new(),
            is_lost: false,
        }
    }

    /// What stands there says whether a call was made before, so it must be changed by it.
    fn is_to_be_done(&self) -> bool {
        !self.is_lost && self.after != self.before
    }

    fn puts_aside(&self) -> bool {
        self.outcomes.iter().any(|outcome| !outcome.letter.is_empty())
    }

    fn add(&mut self, outcomes: Vec<Settled>, keep: Option<u64>) {
        // Without outcomes there may be no call.
        if !outcomes.is_empty() {
            self.forgotten.extend(self.hold.take_forgotten());
        }
        let mut progress = self.hold.progress();
        for outcome in outcomes {
            let Some(was_kept) = progress.commit(outcome.number) else {
                continue;
            };
            self.done_with.extend(was_kept.then_some(outcome.number));
            self.outcomes.push(outcome);
        }
        self.kept.extend(keep.into_iter().flat_map(|keep| progress.keep(keep)));
        self.after = bytes_of(&*progress);
    }
}

#[cfg(test)]
mod counted;
