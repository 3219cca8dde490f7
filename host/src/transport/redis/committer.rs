//! Sends commits: those of all partitions of a shard that wait at the same moment go together, in one script.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use redis::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tracing::warn;

use super::app_side::Hold;
use super::gather::gather;
use super::keys::Shard;
use super::outbox::{COMMANDS, SETTLED};
use super::routes::Target;
use super::wire::encode;
use super::{Redis, bytes_of, scripts};
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
    /// The client's key; empty for none.
    pub(super) client: Bytes,
    /// The io-node that counts what is open of the client.
    pub(super) io_node: Option<NodeId>,
    pub(super) end: End,
    /// What to put aside; empty for nothing.
    pub(super) letter: Bytes,
    pub(super) writes: Vec<Write>,
    pub(super) commands: Vec<(Target, Vec<Command>)>,
}

impl Settled {
    /// The end of an event of nobody that did nothing.
    pub(super) fn nothing(number: u64) -> Self {
        Self {
            number,
            client: Bytes::new(),
            io_node: None,
            end: End::None,
            letter: Bytes::new(),
            writes: Vec::new(),
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
            is_lost: false,
        }
    }

    /// What stands there says whether a call was made before, so it must be changed by it.
    fn is_to_be_done(&self) -> bool {
        !self.is_lost && self.after != self.before
    }

    fn add(&mut self, outcomes: Vec<Settled>, keep: Option<u64>) {
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

/// One call of the script that commits.
struct CommitCall<'a> {
    redis: &'a Redis,
    shard: &'a Shard,
    keys: Vec<Bytes>,
    places: HashMap<Bytes, usize>,
    partitions: Vec<Bytes>,
    entries: Outboxes<'a>,
    letters: Vec<Bytes>,
    writes: Vec<Bytes>,
    kept: Vec<Bytes>,
    done_with: Vec<Bytes>,
    ends: Vec<Bytes>,
    is_one_refused: bool,
    /// The shards that writes of these outcomes belong to, other than this one.
    elsewhere: BTreeSet<u16>,
}

impl<'a> CommitCall<'a> {
    fn new(redis: &'a Redis, shard: &'a Shard) -> Self {
        let names = ["owner", "io", "done", "dead", "who", "lost", "over", "kept"];
        Self {
            redis,
            shard,
            keys: names.map(|name| shard.key(name)).to_vec(),
            places: HashMap::new(),
            partitions: Vec::new(),
            entries: Outboxes::default(),
            letters: Vec::new(),
            writes: Vec::new(),
            kept: Vec::new(),
            done_with: Vec::new(),
            ends: Vec::new(),
            is_one_refused: false,
            elsewhere: BTreeSet::new(),
        }
    }

    fn add(&mut self, part: &'a Part) {
        let partition = bytes_of(part.hold.partition);
        self.partitions.extend([
            partition.clone(),
            bytes_of(&part.hold.lease),
            part.before.clone(),
            part.after.clone(),
        ]);
        let field = |number| bytes_of(format_args!("{}:{number}", part.hold.partition));
        for (number, event) in &part.kept {
            self.kept.extend([field(number), encode(&**event)]);
        }
        self.done_with.extend(part.done_with.iter().map(field));
        for outcome in &part.outcomes {
            for (target, commands) in &outcome.commands {
                self.entries.add(target, commands);
            }
            if let Some(io_node) = &outcome.io_node {
                self.entries.settled(io_node, &outcome.client);
            }
            if !outcome.letter.is_empty() {
                self.letters.push(outcome.letter.clone());
            }
            outcome.writes.iter().for_each(|write| self.add_write(write));
            let end: &[u8] = match outcome.end {
                End::None => continue,
                End::Disconnected => b"d",
                End::Refused => b"r",
            };
            self.is_one_refused |= outcome.end == End::Refused;
            self.ends
                .extend([Bytes::from_static(end), outcome.client.clone(), partition.clone()]);
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
        self.writes.extend([
            bytes_of(place),
            Bytes::from_static(how.as_bytes()),
            write.key.clone().into_bytes(),
            value.unwrap_or_default(),
        ]);
    }

    fn finish(self) -> (Vec<Bytes>, Vec<Bytes>) {
        let settings = &self.redis.settings;
        let mut arguments = vec![
            self.shard.outbox(""),
            bytes_of(settings.outbox),
            bytes_of(settings.dead_letters),
            match self.is_one_refused {
                true => self.shard.live(""),
                false => Bytes::new(),
            },
        ];
        let mut add = |each: usize, values: Vec<Bytes>| {
            arguments.push(bytes_of(values.len() / each));
            arguments.extend(values);
        };
        add(4, self.partitions);
        add(3, self.entries.finish());
        add(1, self.letters);
        add(4, self.writes);
        add(2, self.kept);
        add(1, self.done_with);
        arguments.extend(self.ends);
        (self.keys, arguments)
    }
}

/// What goes to outboxes: as few entries as keep, for each io-node, the order of what reaches it.
#[derive(Default)]
struct Outboxes<'a> {
    runs: Vec<(&'a Target, Vec<&'a Command>)>,
    /// The run of each io-node since the last that is for all.
    open: HashMap<&'a NodeId, usize>,
    settled: HashMap<&'a NodeId, HashMap<&'a Bytes, usize>>,
}

impl<'a> Outboxes<'a> {
    fn add(&mut self, target: &'a Target, commands: &'a [Command]) {
        let last = self.runs.len().checked_sub(1);
        let open = match target {
            Target::All => last.filter(|last| *self.runs[*last].0 == Target::All),
            Target::Node(node) => self.open.get(node).copied(),
        };
        if let Some(run) = open {
            self.runs[run].1.extend(commands);
            return;
        }
        match target {
            Target::All => self.open.clear(),
            Target::Node(node) => drop(self.open.insert(node, self.runs.len())),
        }
        self.runs.push((target, commands.iter().collect()));
    }

    /// An event of this client is committed.
    fn settled(&mut self, io_node: &'a NodeId, client: &'a Bytes) {
        *self.settled.entry(io_node).or_default().entry(client).or_default() += 1;
    }

    /// For each entry its target, the name of the field, and the value.
    fn finish(self) -> Vec<Bytes> {
        let mut entries = Vec::with_capacity(3 * (self.runs.len() + self.settled.len()));
        for (target, commands) in self.runs {
            let target = match target {
                Target::All => Bytes::from_static(b"*"),
                Target::Node(node) => bytes_of(node),
            };
            entries.extend([target, Bytes::from_static(COMMANDS.as_bytes()), encode(&commands)]);
        }
        for (io_node, clients) in self.settled {
            let clients: Vec<(&Bytes, usize)> = clients.into_iter().collect();
            entries.extend([
                bytes_of(io_node),
                Bytes::from_static(SETTLED.as_bytes()),
                encode(&clients),
            ]);
        }
        entries
    }
}

#[cfg(test)]
mod counted;
