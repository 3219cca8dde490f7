//! A lease of the Redis transport: the log of a partition and the way to commit, for as long as the partition is held.
//!
//! Its halves say so when it is over. That it has gone to another, the commit script finds out for itself.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{Notify, mpsc, oneshot};
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::committer::{Commit, End, Settled};
use super::dead::app_key;
use super::progress::{Open, Progress};
use super::reader::{Found, Read, Tap, foreign};
use super::routes::Routes;
use super::store::Use;
use super::suspects::{Suspects, spare};
use super::wire::{Content, Letter, Run, Unread, encode};
use super::{Redis, batch, bytes_of_client, client_key};
use plugnode_message::{AttributePatch, Effects, Event, EventId, EventKind, Partition, now_ms};
use plugnode_process::metrics;
use plugnode_transport::{Commits, Delivery, Log, Lost, Outcome, Rank, Result, TransportError, Verdict};

/// How long an outcome waits for keys that others hold, at first: then twice as long each time,
const FIRST_HELD: Duration = Duration::from_millis(1);
/// and so often. After that its event is handled again.
const ROUNDS: u32 = 6;

/// How a lease is told that it is over.
#[derive(Default)]
pub(super) struct Over {
    /// It is to be given back.
    pub(super) revoked: CancellationToken,
    /// It has gone to another.
    pub(super) lost: CancellationToken,
}

/// A lease that was dropped.
pub(super) struct Returned {
    pub(super) partition: Partition,
    pub(super) lease: String,
}

/// A held lease; dropping it gives the partition back.
pub(super) struct Hold {
    pub(super) partition: Partition,
    /// The lease, as it was claimed.
    pub(super) lease: String,
    pub(super) over: Arc<Over>,
    pub(super) progress: Mutex<Progress>,
    /// Fields of patches that the next owner need not know of.
    pub(super) forgotten: Mutex<Vec<Bytes>>,
    /// Told of whatever becomes of the partition's events, and of the end of this.
    pub(super) changed: Arc<Notify>,
    pub(super) returns: mpsc::UnboundedSender<Returned>,
}

impl Hold {
    /// How far the partition's events are committed.
    pub(super) fn progress(&self) -> MutexGuard<'_, Progress> {
        self.progress.lock().expect("nothing panics while it holds this lock")
    }

    /// Takes the fields of patches that are not to be kept any more.
    pub(super) fn take_forgotten(&self) -> Vec<Bytes> {
        let mut forgotten = self.forgotten.lock().expect("nothing panics while it holds this lock");
        std::mem::take(&mut *forgotten)
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.changed.notify_waiters();
        let returned = Returned {
            partition: self.partition,
            lease: std::mem::take(&mut self.lease),
        };
        // The dealer is gone when the node was fenced; then there is nothing to give back.
        let _ = self.returns.send(returned);
    }
}

pub(super) struct RedisLog {
    pub(super) tap: Tap,
    /// What an owner before has kept aside from the log.
    pub(super) first: Vec<Found>,
    /// Clients that were refused, whose disconnects nobody is to hear of.
    pub(super) ends: HashSet<Bytes>,
    pub(super) suspects: Suspects,
    pub(super) commits: RedisCommits,
}

/// Whoever reads a log keeps it until no event of it is in hand any more.
impl Drop for RedisLog {
    fn drop(&mut self) {
        let RedisCommits { redis, hold, .. } = &self.commits;
        if hold.over.lost.is_cancelled() {
            let begun = hold.progress().take_begun();
            spare(redis, hold.partition, &hold.lease, &begun);
        }
    }
}

#[async_trait]
impl Log for RedisLog {
    async fn next(&mut self) -> Result<Option<Vec<Delivery>>> {
        loop {
            let hold = &self.commits.hold;
            let Read { found, up_to } = tokio::select! {
                biased;
                () = hold.over.lost.cancelled() => return Err(TransportError::Fenced),
                () = hold.over.revoked.cancelled() => return Ok(None),
                deliveries = self.suspects.next(&self.commits), if !self.suspects.is_empty() => {
                    return Ok(Some(deliveries));
                }
                read = next(&mut self.first, &mut self.tap), if self.suspects.is_empty() => {
                    read.ok_or(TransportError::Fenced)?
                }
            };
            let deliveries: Vec<Delivery> = found.into_iter().filter_map(|found| self.delivery(found)).collect();
            self.commits.hold.progress().met(up_to);
            let deliveries = self.suspects.sift(deliveries);
            if !deliveries.is_empty() {
                return Ok(Some(deliveries));
            }
        }
    }
}

impl RedisLog {
    /// An event that is to be handled. What is none, or for nobody, is passed over.
    fn delivery(&self, found: Found) -> Option<Delivery> {
        let Found { number, bytes, event } = found;
        let hold = &self.commits.hold;
        let open = match &event {
            Ok(event) => Open::Event(event.clone()),
            Err((content, Unread::Version(version))) => Open::Other(*version, content.clone()),
            Err((_, Unread::Broken(_))) => Open::Broken,
        };
        if !hold.progress().meet(number, open, bytes) {
            return None;
        }
        let id = EventId {
            partition: hold.partition,
            sequence: number,
        };
        let nothing = Settled::nothing(number);
        match event {
            Ok(event) if is_end(&event) && self.ends.contains(&client_key(&event)) => self.commits.pass_over(Settled {
                client: client_key(&event),
                end: End::Disconnected,
                ..nothing
            }),
            Ok(event) => {
                return Some(Delivery { id, event, attempts: 0 });
            }
            Err((_, Unread::Version(version))) => {
                let redis = &self.commits.redis;
                let shard = redis.layout.shard_of(hold.partition);
                redis.strangers.tell("events", shard, version);
            }
            Err((content, Unread::Broken(reason))) => {
                warn!(messaging.message.id = %id, "put aside: {reason}");
                metrics::DEAD_LETTERS.increment();
                self.commits.pass_over(Settled {
                    letter: encode(&foreign(id, content, &reason)),
                    ..nothing
                });
            }
        }
        None
    }
}

#[derive(Clone)]
pub(super) struct RedisCommits {
    pub(super) redis: Redis,
    pub(super) routes: Routes,
    pub(super) commits: mpsc::Sender<Commit>,
    pub(super) hold: Arc<Hold>,
}

#[async_trait]
impl Commits for RedisCommits {
    async fn commit(&self, outcomes: Vec<Outcome>) -> Result<Vec<Lost>> {
        let (mut settled, mut writers) = (Vec::with_capacity(outcomes.len()), Vec::new());
        for mut outcome in outcomes {
            // What was committed before is open no longer.
            let event = self.hold.progress().event(outcome.id.sequence);
            if let Some((event, bytes)) = event {
                let used = use_of(&event, &mut outcome);
                let outcome = self.settle(outcome.id, &event, bytes, outcome.verdict).await;
                match used {
                    Some(used) => writers.push((outcome, used)),
                    None => settled.push(outcome),
                }
            }
        }
        if writers.is_empty() {
            self.settled(settled).await?;
            return Ok(Vec::new());
        }
        self.commit_writers(settled, writers).await
    }

    fn forget_patches(&self, patches: Vec<AttributePatch>) {
        let mut forgotten = self
            .hold
            .forgotten
            .lock()
            .expect("nothing panics while it holds this lock");
        forgotten.extend(patches.iter().map(patch_field));
    }
}

/// The field of a patch among those of its partition.
fn patch_field(patch: &AttributePatch) -> Bytes {
    let client = bytes_of_client(&patch.namespace, &patch.client);
    [&client[..], b"\0", patch.number.to_string().as_bytes()]
        .concat()
        .into()
}

/// What an outcome has to do with the key-value store. None when it writes nothing.
fn use_of(event: &Event, outcome: &mut Outcome) -> Option<Use> {
    let Verdict::Done(effects) = &mut outcome.verdict else {
        return None;
    };
    let (reads, changes) = (std::mem::take(&mut effects.reads), std::mem::take(&mut effects.writes));
    if changes.is_empty() {
        return None;
    }
    let turn_ms = outcome.keep_turn.map_or(0, |time| time.as_millis() as u64);
    let rank = Rank::of(outcome.id, event).to_string();
    Some(Use::new(outcome.id, rank, turn_ms, reads, changes))
}

impl RedisCommits {
    /// Commits outcomes that write to the key-value store, with others, once the keys that they have used are locked. Those
    /// whose reads do not hold are lost. One that has read nothing waits for keys that others hold.
    async fn commit_writers(&self, mut settled: Vec<Settled>, mut writers: Vec<(Settled, Use)>) -> Result<Vec<Lost>> {
        let (mut lost, mut pause) = (Vec::new(), FIRST_HELD);
        for round in 1.. {
            let mut uses: Vec<&mut Use> = writers.iter_mut().map(|(_, used)| used).collect();
            let mut refused = self.redis.lock(&self.hold, &mut uses).await;
            let (mut waiting, mut committed) = (Vec::new(), Vec::new());
            for (outcome, used) in writers {
                let place = refused.iter().position(|refusal| refusal.lost.id == used.id());
                match place.map(|place| refused.swap_remove(place)) {
                    Some(refusal) if refusal.may_wait && round < ROUNDS => waiting.push((outcome, used)),
                    Some(refusal) => lost.push(refusal.lost),
                    None => {
                        settled.push(Settled {
                            writes: used.writes(),
                            ..outcome
                        });
                        committed.push(used);
                    }
                }
            }
            self.settled(std::mem::take(&mut settled)).await?;
            let committed: Vec<&Use> = committed.iter().collect();
            self.redis.unlock("done", &self.hold, &committed).await;
            if waiting.is_empty() {
                break;
            }
            writers = waiting;
            sleep(pause).await;
            pause *= 2;
        }
        Ok(lost)
    }

    async fn settled(&self, outcomes: Vec<Settled>) -> Result<()> {
        if outcomes.is_empty() {
            return Ok(());
        }
        let layout = &self.redis.layout;
        let own = layout.shard_of(self.hold.partition);
        let writes = outcomes.iter().flat_map(|outcome| &outcome.writes);
        let homes = writes.map(|write| layout.shard_of_key(&write.bucket, &write.key));
        let (done, answer) = oneshot::channel();
        let commit = Commit {
            hold: self.hold.clone(),
            keep: None,
            elsewhere: homes.filter(|home| *home != own).collect(),
            outcomes: outcomes.into(),
            done,
        };
        // The committer works for as long as there is anyone to send.
        if self.commits.send(commit).await.is_err() {
            return Err(TransportError::Fenced);
        }
        answer.await.unwrap_or(Err(TransportError::Fenced))
    }

    /// Commits an event that nobody is to handle.
    fn pass_over(&self, settled: Settled) {
        let commits = self.clone();
        // When the lease is lost, the next owner does it.
        self.redis
            .shutdown
            .spawn(async move { drop(commits.settled(vec![settled]).await) });
    }

    async fn settle(&self, id: EventId, event: &Event, bytes: usize, verdict: Verdict) -> Settled {
        let end = match event.kind {
            _ if verdict.refuses() => End::Refused,
            EventKind::Disconnect(_) => End::Disconnected,
            _ => End::None,
        };
        let (effects, letter, app) = match verdict {
            Verdict::Done(effects) => (effects, Bytes::new(), Bytes::new()),
            Verdict::Dead(death, commands) => {
                let app = app_key(death.app.as_ref());
                let letter = Letter {
                    id,
                    death,
                    died_at_ms: now_ms(),
                    content: Content::Event(event.clone()),
                };
                let effects = Effects {
                    commands,
                    ..Effects::default()
                };
                (effects, encode(&letter), app)
            }
        };
        let patches = effects
            .commands
            .iter()
            .filter_map(|command| AttributePatch::of(command, id));
        let patches = patches.map(|patch| (patch_field(&patch), encode(&patch))).collect();
        let commands = self.routes.sort(&self.redis, event, effects.commands).await;
        let commands = commands
            .into_iter()
            .map(|(target, commands)| (target, Run::of(&commands)));
        Settled {
            number: id.sequence,
            bytes,
            patches,
            client: client_key(event),
            io_node: event.client.as_ref().map(|client| client.io_node.clone()),
            end,
            letter,
            app,
            writes: Vec::new(),
            commands: commands.collect(),
        }
    }
}

fn is_end(event: &Event) -> bool {
    matches!(event.kind, EventKind::Disconnect(_))
}

/// What comes first, and then what is read.
async fn next(first: &mut Vec<Found>, tap: &mut Tap) -> Option<Read> {
    if first.is_empty() {
        return tap.next().await;
    }
    let (found, up_to) = (std::mem::take(first), 0);
    Some(Read { found, up_to })
}

/// An event that was kept aside, by its field: a batch of one.
pub(super) fn found(field: &str, kept: &Bytes) -> Option<Found> {
    let number = field.split(':').nth(1)?.parse().ok()?;
    Some(match batch::read(kept) {
        Ok(mut batch) => Found::new(number, batch.version, batch.events.remove(0).1),
        Err(reason) => Found {
            number,
            bytes: kept.len(),
            event: Err((kept.clone(), reason.into())),
        },
    })
}

#[cfg(test)]
mod counted;
