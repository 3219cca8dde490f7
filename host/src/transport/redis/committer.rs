//! Sends commits: those of all partitions of a shard that wait at the same moment go together, in one script.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;
use tracing::warn;

use super::keys::Shard;
use super::routes::Target;
use super::wire::encode;
use super::{Redis, bytes_of, scripts};
use crate::message::{Command, Partition, Question, Write};
use crate::transport::{Result, TransportError};

/// How many outcomes go together at the most,
const OUTCOMES: usize = 512;
/// unless they have so many bytes before.
const BYTES: usize = 2 << 20;
/// How long to wait for an outbox to empty, at first, and at the most.
const FULL: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(200));

/// The outcomes of one partition that are to be committed.
pub(super) struct Commit {
    pub(super) partition: Partition,
    /// The lease, as it was claimed.
    pub(super) lease: String,
    pub(super) outcomes: Vec<Settled>,
    pub(super) done: oneshot::Sender<Result<()>>,
}

/// An outcome, ready to be written.
pub(super) struct Settled {
    pub(super) sequence: u64,
    /// The client's key; empty for none.
    pub(super) client: Bytes,
    pub(super) end: End,
    /// What to put aside; empty for nothing.
    pub(super) letter: Bytes,
    pub(super) writes: Vec<Write>,
    pub(super) commands: Vec<(Target, Vec<Command>)>,
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
        commit(&redis, &shard, std::mem::take(&mut batch)).await;
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

async fn commit(redis: &Redis, shard: &Shard, batch: Vec<Commit>) {
    let mut call = CommitCall::new(redis, shard, &batch);
    for (place, commit) in batch.iter().enumerate() {
        commit.outcomes.iter().for_each(|outcome| call.add(place, outcome));
    }
    let elsewhere = std::mem::take(&mut call.elsewhere);
    let (keys, arguments) = call.finish();
    let held = until_there_is_room(redis, shard, &keys, &arguments).await;
    for other in elsewhere {
        redis.forward(shard, other).await;
    }
    for (commit, held) in batch.into_iter().zip(held) {
        // A partition that was given up meanwhile does not listen any more.
        let _ = commit
            .done
            .send(if held { Ok(()) } else { Err(TransportError::Fenced) });
    }
}

async fn until_there_is_room(redis: &Redis, shard: &Shard, keys: &[Bytes], arguments: &[Bytes]) -> Vec<bool> {
    let (mut pause, longest) = FULL;
    loop {
        if let Value::Array(held) = redis.change(shard, &scripts::COMMIT, keys, arguments).await {
            return held.iter().map(|held| *held == Value::Int(1)).collect();
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

/// One call of the script that commits.
struct CommitCall<'a> {
    redis: &'a Redis,
    shard: &'a Shard,
    keys: Vec<Bytes>,
    places: HashMap<Bytes, usize>,
    arguments: Vec<Bytes>,
    /// The shards that writes of these outcomes belong to, other than this one.
    elsewhere: BTreeSet<u16>,
}

impl<'a> CommitCall<'a> {
    fn new(redis: &'a Redis, shard: &'a Shard, batch: &[Commit]) -> Self {
        let names = ["owner", "io", "open", "dead", "who", "lost"];
        let mut keys = names.map(|name| shard.key(name)).to_vec();
        let mut outcomes = batch.iter().flat_map(|commit| &commit.outcomes);
        let is_one_refused = outcomes.any(|outcome| outcome.end == End::Refused);
        let mut arguments = vec![
            shard.outbox(""),
            bytes_of(redis.settings.outbox),
            bytes_of(redis.settings.dead_letters),
            if is_one_refused { shard.live("") } else { Bytes::new() },
            bytes_of(batch.len()),
        ];
        for commit in batch {
            keys.push(shard.log(commit.partition));
            arguments.push(bytes_of(commit.partition));
            arguments.push(bytes_of(&commit.lease));
        }
        Self {
            redis,
            shard,
            keys,
            places: HashMap::new(),
            arguments,
            elsewhere: BTreeSet::new(),
        }
    }

    fn add(&mut self, place: usize, outcome: &Settled) {
        self.arguments.extend([
            bytes_of(place + 1),
            bytes_of(outcome.sequence),
            outcome.client.clone(),
            Bytes::from_static(match outcome.end {
                End::None => b"m",
                End::Disconnected => b"d",
                End::Refused => b"r",
            }),
            outcome.letter.clone(),
            bytes_of(outcome.writes.len()),
        ]);
        for write in &outcome.writes {
            self.add_write(write);
        }
        self.arguments.push(bytes_of(outcome.commands.len()));
        for (target, commands) in &outcome.commands {
            self.arguments.push(match target {
                Target::All => Bytes::from_static(b"*"),
                Target::Node(node) => bytes_of(node),
            });
            self.arguments.push(encode(commands));
        }
    }

    fn add_write(&mut self, write: &Write) {
        let home = self.redis.layout.shard_of_key(&write.bucket, &write.key);
        let (key, how, value) = if home != self.shard.number {
            self.elsewhere.insert(home);
            (self.shard.writes_to(home), "x", Some(encode(write)))
        } else {
            let how = if write.value.is_some() { "s" } else { "d" };
            (self.shard.bucket(&write.bucket), how, write.value.clone())
        };
        let place = *self.places.entry(key.clone()).or_insert_with(|| {
            self.keys.push(key);
            self.keys.len()
        });
        self.arguments.extend([
            bytes_of(place),
            Bytes::from_static(how.as_bytes()),
            write.key.clone().into_bytes(),
            value.unwrap_or_default(),
        ]);
    }

    fn finish(self) -> (Vec<Bytes>, Vec<Bytes>) {
        (self.keys, self.arguments)
    }
}
