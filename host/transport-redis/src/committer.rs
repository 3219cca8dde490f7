//! Sends commits: those of all partitions of a shard that wait at the same moment go together, in calls of a script that are
//! cut by bytes.
//!
//! A call takes effect whole or not at all. What became of it is judged for each partition by itself: one that has gone to
//! another node, or that was committed by an earlier copy of the call, says nothing of the others, which are sent again
//! without it.

mod call;
mod part;
mod round;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep};
use tracing::warn;

use self::call::CommitCall;
use self::part::Part;
use self::round::Round;
use super::gather::gather;
use super::keys::Shard;
use super::lease::Hold;
use super::routes::Target;
use super::wire::Run;
use super::{Redis, bytes_of, dead, scripts};
use plugnode_message::{NodeId, Write};
use plugnode_process::{Backoff, jittered};
use plugnode_transport::Result;

/// How long to wait for an outbox to empty, at first, and at the most.
const FULL: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(200));

/// The outcomes of one partition that are to be committed.
pub(super) struct Commit {
    pub(super) hold: Arc<Hold>,
    pub(super) outcomes: VecDeque<Settled>,
    /// Events up to this number that are still open are kept aside from the log.
    pub(super) keep: Option<u64>,
    /// Other shards that outcomes write to. They have that when this is answered, and nobody else waits for them.
    pub(super) elsewhere: BTreeSet<u16>,
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
    pub(super) commands: Vec<(Target, Run)>,
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
pub(super) async fn run(redis: Redis, shard: Shard, commits: mpsc::Receiver<Commit>) {
    let mut committer = Committer {
        redis,
        shard,
        commits,
        next: None,
    };
    while let Some(round) = committer.gathered().await {
        let (begun, outcomes) = (Instant::now(), round.outcomes);
        committer.commit(round).await;
        gather(begun, outcomes).await;
    }
}

struct Committer {
    redis: Redis,
    shard: Shard,
    commits: mpsc::Receiver<Commit>,
    /// What of a commit did not fit into the call before.
    next: Option<Commit>,
}

impl Committer {
    /// What the next call commits. None when nobody is left who could send.
    async fn gathered(&mut self) -> Option<Round> {
        let mut next = match self.next.take() {
            Some(rest) => Some(rest),
            None => Some(self.commits.recv().await?),
        };
        let mut round = Round::default();
        while let Some(commit) = next {
            self.next = round.add(commit);
            if self.next.is_some() {
                break;
            }
            next = self.commits.try_recv().ok();
        }
        Some(round)
    }

    /// Commits a round, without the partitions of it that have gone to others.
    async fn commit(&self, mut round: Round) {
        while let Some(call) = CommitCall::new(&self.redis, &self.shard, &round.parts) {
            let (keys, arguments) = call.finish();
            let open = round.parts.iter_mut().filter(|part| part.is_to_apply());
            match self.until_there_is_room(&keys, &arguments).await {
                Answer::Done => open.for_each(|part| part.judge(Verdict::Done)),
                Answer::Parts(verdicts) => {
                    let verdicts = verdicts.into_iter().chain(std::iter::repeat(Verdict::Lost));
                    open.zip(verdicts).for_each(|(part, verdict)| part.judge(verdict));
                }
                Answer::Full(_) => {}
            }
        }
        if round.parts.iter().any(Part::puts_aside) {
            dead::trim(&self.redis, &self.shard).await;
        }
        for notice in round.notices() {
            if notice.elsewhere.is_empty() {
                notice.send();
                continue;
            }
            let (redis, shard) = (self.redis.clone(), self.shard.clone());
            self.redis.shutdown.spawn(async move {
                redis.forward(&shard, notice.elsewhere.iter().copied()).await;
                notice.send();
            });
        }
    }

    /// Calls until outboxes have room. An io-node that does not read its own for a whole lease is as good as dead.
    async fn until_there_is_room(&self, keys: &[Bytes], arguments: &[Bytes]) -> Answer {
        let mut backoff = Backoff::new(FULL.0, FULL.1);
        let mut full_since: HashMap<String, Instant> = HashMap::new();
        loop {
            let answer: Vec<String> = self.redis.change(&self.shard, &scripts::COMMIT, keys, arguments).await;
            let full = match Answer::of(&answer) {
                Answer::Full(full) => full,
                answer => return answer,
            };
            full_since.retain(|member, _| full.contains(member));
            for member in full {
                let since = *full_since.entry(member.clone()).or_insert_with(Instant::now);
                if since.elapsed() >= self.redis.settings.lease {
                    self.fence(&member).await;
                }
            }
            sleep(jittered(backoff.next_delay())).await;
        }
    }

    async fn fence(&self, member: &str) {
        let Some((incarnation, name)) = member.split_once('@') else {
            return;
        };
        let keys = [
            self.shard.key("io"),
            self.shard.key("io:until"),
            self.shard.key("lost"),
            self.shard.outbox(member),
            self.shard.outbox_in(member),
            self.shard.outbox_read(member),
        ];
        let outbox = self.redis.settings.outbox;
        let arguments = [
            bytes_of(name),
            bytes_of(incarnation),
            bytes_of(outbox.entries),
            bytes_of(outbox.bytes),
        ];
        if self
            .redis
            .change(&self.shard, &scripts::FENCE_IO, &keys, &arguments)
            .await
        {
            warn!(
                io_node = name,
                shard = self.shard.number,
                "an io-node has not read its outbox for a whole lease and loses its place, so that others are served"
            );
        }
    }
}

/// What a call is answered.
enum Answer {
    /// All of it took effect.
    Done,
    /// None of it did: of each of its parts this is so.
    Parts(Vec<Verdict>),
    /// None of it did: the outboxes of these members have no room.
    Full(Vec<String>),
}

/// What becomes of a part of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verdict {
    /// It may take effect.
    Apply,
    /// It took effect.
    Done,
    /// The partition has gone to another.
    Lost,
}

impl Answer {
    fn of(answer: &[String]) -> Self {
        match answer.split_first() {
            Some((word, _)) if word == "done" => Self::Done,
            Some((word, members)) if word == "full" => Self::Full(members.to_vec()),
            Some((_, verdicts)) => Self::Parts(verdicts.iter().map(|verdict| Verdict::of(verdict)).collect()),
            None => Self::Parts(Vec::new()),
        }
    }
}

impl Verdict {
    fn of(word: &str) -> Self {
        match word {
            "apply" => Self::Apply,
            "done" => Self::Done,
            _ => Self::Lost,
        }
    }
}

#[cfg(test)]
mod counted;
#[cfg(test)]
mod tests;
