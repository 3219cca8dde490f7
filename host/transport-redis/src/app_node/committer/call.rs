//! One call of the script `commit`, as keys and arguments.

use std::collections::HashMap;

use bytes::Bytes;

use crate::app_node::committer::commit::ClientEnd;
use crate::app_node::committer::part::CommitPart;
use crate::app_node::routes::OutboxTarget;
use crate::arguments::bytes_of;
use crate::keys::Shard;
use crate::redis::Redis;
use crate::wire::{CommandRun, OUTBOX_COMMANDS, OUTBOX_SETTLED, encode};
use plugnode_message::id_map::ById;
use plugnode_message::{NodeId, Partition, Write};
use plugnode_transport::Load;

/// One call of the script `commit`.
pub(crate) struct CommitCall<'a> {
    redis: &'a Redis,
    shard: &'a Shard,
    keys: Vec<Bytes>,
    indices: HashMap<Bytes, usize>,
    parts: Vec<Bytes>,
    entries: Outboxes<'a>,
    letters: Vec<Bytes>,
    writes: Vec<Bytes>,
    set_aside: Vec<Bytes>,
    no_longer_set_aside: Vec<Bytes>,
    unmarked: Vec<Bytes>,
    ends: Vec<Bytes>,
    has_refused: bool,
}

impl<'a> CommitCall<'a> {
    /// The call for those of these parts that are to apply; none if there are none.
    pub(crate) fn new(redis: &'a Redis, shard: &'a Shard, parts: &'a [CommitPart]) -> Option<Self> {
        let mut call = Self::empty(redis, shard);
        let to_apply = parts.iter().filter(|part| part.is_to_apply());
        to_apply.for_each(|part| call.add(part));
        (!call.parts.is_empty()).then_some(call)
    }

    fn empty(redis: &'a Redis, shard: &'a Shard) -> Self {
        let names = [
            "owner", "io", "done", "dead", "who", "lost", "over", "kept", "begun", "sizes",
        ];
        Self {
            redis,
            shard,
            keys: names
                .map(|name| shard.key(name))
                .into_iter()
                .chain(shard.broadcasts())
                .collect(),
            indices: HashMap::new(),
            parts: Vec::new(),
            entries: Outboxes::default(),
            letters: Vec::new(),
            writes: Vec::new(),
            set_aside: Vec::new(),
            no_longer_set_aside: Vec::new(),
            unmarked: Vec::new(),
            ends: Vec::new(),
            has_refused: false,
        }
    }

    fn add(&mut self, part: &'a CommitPart) {
        let partition = bytes_of(part.held_lease.partition);
        self.parts.extend([
            partition.clone(),
            bytes_of(&part.held_lease.lease),
            part.before.clone(),
            part.after.clone(),
        ]);
        let field = |number| bytes_of(format_args!("{}:{number}", part.held_lease.partition));
        for (number, event) in &part.set_aside {
            self.set_aside.extend([field(number), event.clone()]);
        }
        self.no_longer_set_aside
            .extend(part.no_longer_set_aside.iter().map(field));
        self.unmarked.extend(part.unmarked.iter().map(field));
        for outcome in &part.outcomes {
            for (destination, run) in &outcome.commands {
                self.entries.add(destination, run);
            }
            if let Some(io_node) = &outcome.io_node {
                self.entries.settled(io_node, &outcome.account, outcome.bytes);
            }
            if !outcome.letter.is_empty() {
                let (letter, app, account) = (&outcome.letter, &outcome.app, &outcome.account);
                self.letters.extend([letter.clone(), app.clone(), account.clone()]);
            }
            outcome.writes.iter().for_each(|write| self.add_write(write));
            for (field, patch) in &outcome.patches {
                self.add_patch(part.held_lease.partition, field, Some(patch));
            }
            // After its own patches, which a disconnect forgets as well.
            for field in &outcome.forgotten_patches {
                self.add_patch(part.held_lease.partition, field, None);
            }
            let end: &[u8] = match outcome.end {
                ClientEnd::None => continue,
                ClientEnd::Disconnected => b"d",
                ClientEnd::Refused => b"r",
            };
            self.has_refused |= outcome.end == ClientEnd::Refused;
            self.ends
                .extend([Bytes::from_static(end), outcome.account.clone(), partition.clone()]);
        }
    }

    /// Stores an attribute patch for the partition's next owner, or deletes it.
    fn add_patch(&mut self, partition: Partition, field: &Bytes, patch: Option<&Bytes>) {
        let index = self.index_of(self.shard.patches(partition));
        let how: &'static [u8] = if patch.is_some() { b"s" } else { b"d" };
        self.writes.extend([
            bytes_of(index),
            Bytes::from_static(how),
            field.clone(),
            patch.cloned().unwrap_or_default(),
        ]);
    }

    /// Index of a key in `KEYS`, from 1. A missing key is appended.
    fn index_of(&mut self, key: Bytes) -> usize {
        *self.indices.entry(key.clone()).or_insert_with(|| {
            self.keys.push(key);
            self.keys.len()
        })
    }

    fn add_write(&mut self, write: &Write) {
        let shard = self.redis.layout.shard_of_key(&write.bucket, &write.key);
        let (key, how, value) = if shard != self.shard.number {
            (self.shard.writes_to(shard), "x", Some(encode(write)))
        } else {
            let how = if write.value.is_some() { "s" } else { "d" };
            (self.shard.bucket(&write.bucket), how, write.value.clone())
        };
        let index = self.index_of(key);
        self.writes.extend([
            bytes_of(index),
            Bytes::from_static(how.as_bytes()),
            write.key.clone().into_bytes(),
            value.unwrap_or_default(),
        ]);
    }

    pub(crate) fn finish(self) -> (Vec<Bytes>, Vec<Bytes>) {
        let settings = &self.redis.settings;
        let mut arguments = Vec::new();
        let mut section = |name: &'static str, width: usize, values: Vec<Bytes>| {
            if !values.is_empty() {
                let name = Bytes::from_static(name.as_bytes());
                arguments.extend([name, bytes_of(values.len() / width), bytes_of(width)]);
                arguments.extend(values);
            }
        };
        let live = match self.has_refused {
            true => self.shard.live(""),
            false => Bytes::new(),
        };
        let limits = [
            self.shard.outbox(""),
            self.shard.outbox_in(""),
            self.shard.outbox_read(""),
            bytes_of(settings.common.outbox.entries),
            bytes_of(settings.common.outbox.bytes),
            live,
        ];
        section("settings", limits.len(), limits.to_vec());
        section("parts", 4, self.parts);
        section("entries", 3, self.entries.finish());
        section("letters", 3, self.letters);
        section("writes", 4, self.writes);
        section("kept", 2, self.set_aside);
        section("unkept", 1, self.no_longer_set_aside);
        section("unbegun", 1, self.unmarked);
        section("ends", 3, self.ends);
        (self.keys, arguments)
    }
}

/// Outbox entries: as few as keep the order of commands for each io-node.
#[derive(Default)]
struct Outboxes<'a> {
    runs: Vec<(&'a OutboxTarget, Vec<&'a CommandRun>)>,
    /// Index of each io-node's run since the last broadcast.
    current: ById<&'a NodeId, usize>,
    settled: ById<&'a NodeId, ById<&'a Bytes, Load>>,
}

impl<'a> Outboxes<'a> {
    fn add(&mut self, destination: &'a OutboxTarget, commands: &'a CommandRun) {
        let last = self.runs.len().checked_sub(1);
        let current = match destination {
            OutboxTarget::All => last.filter(|last| *self.runs[*last].0 == OutboxTarget::All),
            OutboxTarget::Node(node) => self.current.get(node).copied(),
        };
        if let Some(run) = current {
            self.runs[run].1.push(commands);
            return;
        }
        match destination {
            OutboxTarget::All => self.current.clear(),
            OutboxTarget::Node(node) => drop(self.current.insert(node, self.runs.len())),
        }
        self.runs.push((destination, vec![commands]));
    }

    /// Reports a committed event to the io-node that counts it.
    fn settled(&mut self, io_node: &'a NodeId, account: &'a Bytes, bytes: usize) {
        let accounts = self.settled.entry(io_node).or_default();
        accounts.entry(account).or_default().add(bytes);
    }

    /// For each entry its destination, field and value.
    fn finish(self) -> Vec<Bytes> {
        let mut entries = Vec::with_capacity(3 * (self.runs.len() + self.settled.len()));
        for (destination, commands) in self.runs {
            let destination = match destination {
                OutboxTarget::All => Bytes::from_static(b"*"),
                OutboxTarget::Node(node) => bytes_of(node),
            };
            entries.extend([
                destination,
                Bytes::from_static(OUTBOX_COMMANDS.as_bytes()),
                CommandRun::join(&commands),
            ]);
        }
        for (io_node, accounts) in self.settled {
            let accounts = accounts.into_iter();
            let accounts: Vec<(&Bytes, usize, usize)> = accounts
                .map(|(account, load)| (account, load.events, load.bytes))
                .collect();
            entries.extend([
                bytes_of(io_node),
                Bytes::from_static(OUTBOX_SETTLED.as_bytes()),
                encode(&accounts),
            ]);
        }
        entries
    }
}
