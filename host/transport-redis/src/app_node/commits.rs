//! Commits outcomes of a leased partition. Outcomes with key-value writes lock their keys first. The commit script itself
//! detects a lease that another node holds by now.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::sleep;

use crate::app_node::committer::commit::{ClientEnd, Commit, PreparedOutcome};
use crate::app_node::held_lease::HeldLease;
use crate::app_node::routes::Routes;
use crate::arguments::{account, client_key_of};
use crate::dead_letters::app_key;
use crate::key_value::transaction::Transaction;
use crate::redis::Redis;
use crate::wire::{CommandRun, LetterContent, StoredLetter, encode};
use plugnode_message::{AttributePatch, Event, EventKind, KeyChange, NodeId, has_timers, names_of, now_ms};
use plugnode_transport::{Commits, ConflictedOutcome, Outcome, Rank, Result, TransportError, Verdict};

/// First pause of an outcome that waits for locked keys; each further one is twice as long.
const FIRST_LOCK_WAIT: Duration = Duration::from_millis(1);
/// Number of attempts to lock keys. After the last one, the event is handled again.
const LOCK_ATTEMPTS: u32 = 6;

#[derive(Clone)]
pub(crate) struct RedisCommits {
    pub(crate) redis: Redis,
    pub(crate) routes: Routes,
    pub(crate) commits: mpsc::Sender<Commit>,
    pub(crate) held_lease: Arc<HeldLease>,
}

#[async_trait]
impl Commits for RedisCommits {
    async fn commit(&self, outcomes: Vec<Outcome>) -> Result<Vec<ConflictedOutcome>> {
        let (mut prepared, mut writers) = (Vec::with_capacity(outcomes.len()), Vec::new());
        for mut outcome in outcomes {
            // A committed event is no longer in flight.
            let event = self.held_lease.progress().event(outcome.id.sequence);
            if let Some((event, bytes)) = event {
                let transaction = transaction_of(&event, &mut outcome);
                let outcome = self.prepare(outcome, &event, bytes).await;
                match transaction {
                    Some(transaction) => writers.push((outcome, transaction)),
                    None => prepared.push(outcome),
                }
            }
        }
        if writers.is_empty() {
            self.send(prepared).await?;
            return Ok(Vec::new());
        }
        self.commit_writers(prepared, writers).await
    }
}

impl RedisCommits {
    /// Commits outcomes with key-value writes, and others beside them, once their keys are locked. Returns those whose reads
    /// are outdated. An outcome without reads waits for locked keys.
    async fn commit_writers(
        &self,
        mut prepared: Vec<PreparedOutcome>,
        mut writers: Vec<(PreparedOutcome, Transaction)>,
    ) -> Result<Vec<ConflictedOutcome>> {
        let (mut lost, mut pause) = (Vec::new(), FIRST_LOCK_WAIT);
        for attempt in 1.. {
            let mut transactions: Vec<&mut Transaction> = writers.iter_mut().map(|(_, one)| one).collect();
            let mut refused = self.redis.lock(&self.held_lease, &mut transactions).await;
            let (mut waiting, mut committed) = (Vec::new(), Vec::new());
            for (outcome, transaction) in writers {
                let index = refused.iter().position(|refusal| refusal.lost.id == transaction.id);
                match index.map(|index| refused.swap_remove(index)) {
                    Some(refusal) if refusal.may_wait && attempt < LOCK_ATTEMPTS => {
                        waiting.push((outcome, transaction));
                    }
                    Some(refusal) => lost.push(refusal.lost),
                    None => {
                        prepared.push(PreparedOutcome {
                            writes: transaction.writes(),
                            ..outcome
                        });
                        committed.push(transaction);
                    }
                }
            }
            self.send(std::mem::take(&mut prepared)).await?;
            let committed: Vec<&Transaction> = committed.iter().collect();
            self.redis.unlock("done", &self.held_lease, &committed).await;
            if waiting.is_empty() {
                break;
            }
            writers = waiting;
            sleep(pause).await;
            pause *= 2;
        }
        Ok(lost)
    }

    /// Sends outcomes to the committer, and waits until they are committed.
    async fn send(&self, outcomes: Vec<PreparedOutcome>) -> Result<()> {
        if outcomes.is_empty() {
            return Ok(());
        }
        let layout = &self.redis.layout;
        let own = layout.shard_of(self.held_lease.partition);
        let writes = outcomes.iter().flat_map(|outcome| &outcome.writes);
        let shards = writes.map(|write| layout.shard_of_key(&write.bucket, &write.key));
        let (done, answer) = oneshot::channel();
        let commit = Commit {
            held_lease: self.held_lease.clone(),
            set_aside: None,
            other_shards: shards.filter(|shard| *shard != own).collect(),
            outcomes: outcomes.into(),
            done,
        };
        // The committer outlives all senders.
        if self.commits.send(commit).await.is_err() {
            return Err(TransportError::Fenced);
        }
        answer.await.unwrap_or(Err(TransportError::Fenced))
    }

    /// Commits, in the background, an event that no handler receives.
    pub(crate) fn pass_over(&self, outcome: PreparedOutcome) {
        let commits = self.clone();
        // If the lease is lost, the next owner repeats it.
        self.redis
            .shutdown
            .spawn(async move { drop(commits.send(vec![outcome]).await) });
    }

    /// Encodes an outcome, without its key-value writes.
    async fn prepare(&self, outcome: Outcome, event: &Event, bytes: usize) -> PreparedOutcome {
        let Outcome {
            id, verdict, forget, ..
        } = outcome;
        let end = match event.kind {
            _ if verdict.refuses() => ClientEnd::Refused,
            EventKind::Disconnect(_) => ClientEnd::Disconnected,
            _ => ClientEnd::None,
        };
        let (effects, letter, app) = match verdict {
            Verdict::Done(effects) => (effects, Bytes::new(), Bytes::new()),
            Verdict::Dead(cause, effects) => {
                let app = app_key(cause.app.as_ref());
                let letter = StoredLetter {
                    id,
                    cause,
                    died_at_ms: now_ms(),
                    content: LetterContent::Event(event.clone()),
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
            .map(|(destination, commands)| (destination, CommandRun::of(&commands)));
        PreparedOutcome {
            number: id.sequence,
            bytes,
            patches,
            forgotten_patches: forget.iter().map(patch_field).collect(),
            io_node: io_node_of(event),
            account: account(event),
            end,
            letter,
            app,
            writes: Vec::new(),
            commands: commands.collect(),
        }
    }
}

/// The io-node that counts an event while it is open.
fn io_node_of(event: &Event) -> Option<NodeId> {
    match &event.kind {
        EventKind::Call(call) => Some(call.api_node.clone()),
        _ => event.client.as_ref().map(|client| client.io_node.clone()),
    }
}

/// Field of a patch in the hash of its partition.
fn patch_field(patch: &AttributePatch) -> Bytes {
    let client = client_key_of(&patch.namespace, &patch.client);
    [&client[..], b"\0", patch.number.to_string().as_bytes()]
        .concat()
        .into()
}

/// Takes the key-value reads and writes of an outcome; none if it writes nothing.
fn transaction_of(event: &Event, outcome: &mut Outcome) -> Option<Transaction> {
    let effects = outcome.verdict.effects_mut();
    let (reads, changes) = (std::mem::take(&mut effects.reads), std::mem::take(&mut effects.writes));
    if changes.is_empty() {
        return None;
    }
    let turn_ms = outcome.reserve_for.map_or(0, |time| time.as_millis() as u64);
    let rank = Rank::of(outcome.id, event).to_string();
    // A client's events are handled one at a time, and only they write its timers.
    let own_timers = event
        .client
        .as_ref()
        .map(|client| names_of(outcome.id.partition, &event.namespace, &client.id));
    let is_own_timer = |change: &KeyChange| {
        has_timers(&change.bucket) && own_timers.as_ref().is_some_and(|own| change.key.starts_with(own))
    };
    let is_exclusive = reads.is_empty() && changes.iter().all(is_own_timer);
    let mut transaction = Transaction::new(outcome.id, rank, turn_ms, reads, changes);
    transaction.is_exclusive = is_exclusive;
    Some(transaction)
}
