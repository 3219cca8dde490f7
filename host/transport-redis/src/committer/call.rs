//! One call of the script that commits, as its keys and arguments.

use std::collections::HashMap;

use bytes::Bytes;

use super::{End, Part};
use crate::keys::Shard;
use crate::outbox::{COMMANDS, SETTLED};
use crate::routes::Target;
use crate::wire::{Run, encode};
use crate::{Redis, bytes_of};
use plugnode_message::id_map::ById;
use plugnode_message::{NodeId, Partition, Write};
use plugnode_transport::Load;

/// One call of the script that commits.
pub(super) struct CommitCall<'a> {
    redis: &'a Redis,
    shard: &'a Shard,
    keys: Vec<Bytes>,
    places: HashMap<Bytes, usize>,
    parts: Vec<Bytes>,
    entries: Outboxes<'a>,
    letters: Vec<Bytes>,
    writes: Vec<Bytes>,
    kept: Vec<Bytes>,
    unkept: Vec<Bytes>,
    unbegun: Vec<Bytes>,
    ends: Vec<Bytes>,
    is_one_refused: bool,
}

impl<'a> CommitCall<'a> {
    /// The call that commits what of these parts is to be applied. None when nothing is.
    pub(super) fn new(redis: &'a Redis, shard: &'a Shard, parts: &'a [Part]) -> Option<Self> {
        let mut call = Self::empty(redis, shard);
        let open = parts.iter().filter(|part| part.is_to_apply());
        open.for_each(|part| call.add(part));
        (!call.parts.is_empty()).then_some(call)
    }

    fn empty(redis: &'a Redis, shard: &'a Shard) -> Self {
        let names = [
            "owner", "io", "done", "dead", "who", "lost", "over", "kept", "begun", "sizes",
        ];
        Self {
            redis,
            shard,
            keys: names.map(|name| shard.key(name)).to_vec(),
            places: HashMap::new(),
            parts: Vec::new(),
            entries: Outboxes::default(),
            letters: Vec::new(),
            writes: Vec::new(),
            kept: Vec::new(),
            unkept: Vec::new(),
            unbegun: Vec::new(),
            ends: Vec::new(),
            is_one_refused: false,
        }
    }

    fn add(&mut self, part: &'a Part) {
        let partition = bytes_of(part.hold.partition);
        self.parts.extend([
            partition.clone(),
            bytes_of(&part.hold.lease),
            part.before.clone(),
            part.after.clone(),
        ]);
        let field = |number| bytes_of(format_args!("{}:{number}", part.hold.partition));
        for (number, event) in &part.kept {
            self.kept.extend([field(number), event.clone()]);
        }
        self.unkept.extend(part.unkept.iter().map(field));
        self.unbegun.extend(part.unbegun.iter().map(field));
        for outcome in &part.outcomes {
            for (target, run) in &outcome.commands {
                self.entries.add(target, run);
            }
            if let Some(io_node) = &outcome.io_node {
                self.entries.settled(io_node, &outcome.client, outcome.bytes);
            }
            if !outcome.letter.is_empty() {
                let (letter, app, client) = (&outcome.letter, &outcome.app, &outcome.client);
                self.letters.extend([letter.clone(), app.clone(), client.clone()]);
            }
            outcome.writes.iter().for_each(|write| self.add_write(write));
            for (field, patch) in &outcome.patches {
                self.add_patch(part.hold.partition, field, Some(patch));
            }
            let end: &[u8] = match outcome.end {
                End::None => continue,
                End::Disconnected => b"d",
                End::Refused => b"r",
            };
            self.is_one_refused |= outcome.end == End::Refused;
            self.ends
                .extend([Bytes::from_static(end), outcome.client.clone(), partition.clone()]);
        }
        // Behind the outcomes: one of them may have made such a patch, and be of a client that is gone by now.
        for field in &part.forgotten {
            self.add_patch(part.hold.partition, field, None);
        }
    }

    /// Keeps a patch of attributes for the next owner of its partition, or forgets it.
    fn add_patch(&mut self, partition: Partition, field: &Bytes, patch: Option<&Bytes>) {
        let place = self.place_of(self.shard.patches(partition));
        let how: &'static [u8] = if patch.is_some() { b"s" } else { b"d" };
        self.writes.extend([
            bytes_of(place),
            Bytes::from_static(how),
            field.clone(),
            patch.cloned().unwrap_or_default(),
        ]);
    }

    /// The place of a key among those of the call.
    fn place_of(&mut self, key: Bytes) -> usize {
        *self.places.entry(key.clone()).or_insert_with(|| {
            self.keys.push(key);
            self.keys.len()
        })
    }

    fn add_write(&mut self, write: &Write) {
        let home = self.redis.layout.shard_of_key(&write.bucket, &write.key);
        let (key, how, value) = if home != self.shard.number {
            (self.shard.writes_to(home), "x", Some(encode(write)))
        } else {
            let how = if write.value.is_some() { "s" } else { "d" };
            (self.shard.bucket(&write.bucket), how, write.value.clone())
        };
        let place = self.place_of(key);
        self.writes.extend([
            bytes_of(place),
            Bytes::from_static(how.as_bytes()),
            write.key.clone().into_bytes(),
            value.unwrap_or_default(),
        ]);
    }

    pub(super) fn finish(self) -> (Vec<Bytes>, Vec<Bytes>) {
        let settings = &self.redis.settings;
        let mut arguments = Vec::new();
        let mut section = |name: &'static str, width: usize, values: Vec<Bytes>| {
            if !values.is_empty() {
                let name = Bytes::from_static(name.as_bytes());
                arguments.extend([name, bytes_of(values.len() / width), bytes_of(width)]);
                arguments.extend(values);
            }
        };
        let live = match self.is_one_refused {
            true => self.shard.live(""),
            false => Bytes::new(),
        };
        let limits = [
            self.shard.outbox(""),
            self.shard.outbox_in(""),
            self.shard.outbox_read(""),
            bytes_of(settings.outbox.entries),
            bytes_of(settings.outbox.bytes),
            live,
        ];
        section("settings", limits.len(), limits.to_vec());
        section("parts", 4, self.parts);
        section("entries", 3, self.entries.finish());
        section("letters", 3, self.letters);
        section("writes", 4, self.writes);
        section("kept", 2, self.kept);
        section("unkept", 1, self.unkept);
        section("unbegun", 1, self.unbegun);
        section("ends", 3, self.ends);
        (self.keys, arguments)
    }
}

/// What goes to outboxes: as few entries as keep, for each io-node, the order of what reaches it.
#[derive(Default)]
struct Outboxes<'a> {
    runs: Vec<(&'a Target, Vec<&'a Run>)>,
    /// The run of each io-node since the last that is for all.
    open: ById<&'a NodeId, usize>,
    settled: ById<&'a NodeId, ById<&'a Bytes, Load>>,
}

impl<'a> Outboxes<'a> {
    fn add(&mut self, target: &'a Target, commands: &'a Run) {
        let last = self.runs.len().checked_sub(1);
        let open = match target {
            Target::All => last.filter(|last| *self.runs[*last].0 == Target::All),
            Target::Node(node) => self.open.get(node).copied(),
        };
        if let Some(run) = open {
            self.runs[run].1.push(commands);
            return;
        }
        match target {
            Target::All => self.open.clear(),
            Target::Node(node) => drop(self.open.insert(node, self.runs.len())),
        }
        self.runs.push((target, vec![commands]));
    }

    /// An event of this client is committed.
    fn settled(&mut self, io_node: &'a NodeId, client: &'a Bytes, bytes: usize) {
        let clients = self.settled.entry(io_node).or_default();
        clients.entry(client).or_default().add(bytes);
    }

    /// For each entry its target, the name of the field, and the value.
    fn finish(self) -> Vec<Bytes> {
        let mut entries = Vec::with_capacity(3 * (self.runs.len() + self.settled.len()));
        for (target, commands) in self.runs {
            let target = match target {
                Target::All => Bytes::from_static(b"*"),
                Target::Node(node) => bytes_of(node),
            };
            entries.extend([target, Bytes::from_static(COMMANDS.as_bytes()), Run::join(&commands)]);
        }
        for (io_node, clients) in self.settled {
            let clients = clients.into_iter();
            let clients: Vec<(&Bytes, usize, usize)> = clients
                .map(|(client, load)| (client, load.events, load.bytes))
                .collect();
            entries.extend([
                bytes_of(io_node),
                Bytes::from_static(SETTLED.as_bytes()),
                encode(&clients),
            ]);
        }
        entries
    }
}
