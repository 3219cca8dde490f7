//! One call of the script that commits, as its keys and arguments.

use std::collections::{BTreeSet, HashMap};

use bytes::Bytes;

use super::{End, Part};
use crate::ids::ById;
use crate::message::{Command, NodeId, Partition, Write};
use crate::transport::backlog::Load;
use crate::transport::redis::keys::Shard;
use crate::transport::redis::outbox::{COMMANDS, SETTLED};
use crate::transport::redis::routes::Target;
use crate::transport::redis::wire::encode;
use crate::transport::redis::{Redis, bytes_of};

/// One call of the script that commits.
pub(super) struct CommitCall<'a> {
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
    pub(super) elsewhere: BTreeSet<u16>,
}

impl<'a> CommitCall<'a> {
    pub(super) fn new(redis: &'a Redis, shard: &'a Shard) -> Self {
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

    pub(super) fn add(&mut self, part: &'a Part) {
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
            self.elsewhere.insert(home);
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
        let mut arguments = vec![
            self.shard.outbox(""),
            self.shard.outbox_in(""),
            self.shard.outbox_read(""),
            bytes_of(settings.outbox.entries),
            bytes_of(settings.outbox.bytes),
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
        add(3, self.letters);
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
    open: ById<&'a NodeId, usize>,
    settled: ById<&'a NodeId, ById<&'a Bytes, Load>>,
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
            entries.extend([target, Bytes::from_static(COMMANDS.as_bytes()), encode(&commands)]);
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
