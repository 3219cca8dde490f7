//! Commits the outcomes of a shard's partitions. Commits that wait at the same moment share one script call, up to a size limit.
//!
//! A call takes effect as a whole or not at all. If it does not, the script gives each partition its own verdict: one that
//! another node holds, or that an earlier copy of the call has committed, is left out, and the others are sent again.

mod answer;
mod call;
pub(crate) mod commit;
mod part;
mod round;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};
use tracing::warn;

use self::answer::{CommitAnswer, PartVerdict};
use self::call::CommitCall;
use self::commit::Commit;
use self::part::CommitPart;
use self::round::Round;
use crate::arguments::bytes_of;
use crate::keys::Shard;
use crate::linger::linger;
use crate::redis::Redis;
use crate::{dead_letters, scripts};
use plugnode_process::Backoff;

/// First and longest pause while an outbox is full.
const FULL: (Duration, Duration) = (Duration::from_millis(2), Duration::from_millis(200));

/// Commits until all senders are dropped.
pub(crate) async fn run(redis: Redis, shard: Shard, commits: mpsc::Receiver<Commit>) {
    let mut committer = Committer {
        redis,
        shard,
        commits,
        rest: None,
    };
    while let Some(round) = committer.next_round().await {
        let (begun, outcomes) = (Instant::now(), round.outcomes);
        committer.commit(round).await;
        linger(begun, outcomes).await;
    }
}

struct Committer {
    redis: Redis,
    shard: Shard,
    commits: mpsc::Receiver<Commit>,
    /// The rest of a commit that did not fit into the last round.
    rest: Option<Commit>,
}

impl Committer {
    /// Collects the waiting commits. None after all senders are dropped.
    async fn next_round(&mut self) -> Option<Round> {
        let mut next = match self.rest.take() {
            Some(rest) => Some(rest),
            None => Some(self.commits.recv().await?),
        };
        let mut round = Round::default();
        while let Some(commit) = next {
            self.rest = round.add(commit);
            if self.rest.is_some() {
                break;
            }
            next = self.commits.try_recv().ok();
        }
        Some(round)
    }

    /// Commits a round, except for partitions that other nodes hold by now.
    async fn commit(&self, mut round: Round) {
        while let Some(call) = CommitCall::new(&self.redis, &self.shard, &round.parts) {
            let (keys, arguments) = call.finish();
            let sent = round.parts.iter_mut().filter(|part| part.is_to_apply());
            match self.call(&keys, &arguments).await {
                CommitAnswer::Done => sent.for_each(|part| part.judge(PartVerdict::Done)),
                CommitAnswer::Parts(verdicts) => {
                    let verdicts = verdicts.into_iter().chain(std::iter::repeat(PartVerdict::Lost));
                    sent.zip(verdicts).for_each(|(part, verdict)| part.judge(verdict));
                }
                CommitAnswer::Full(_) => {}
            }
        }
        if round.parts.iter().any(CommitPart::has_dead_letters) {
            dead_letters::trim(&self.redis, &self.shard).await;
        }
        for notice in round.notices() {
            if notice.other_shards.is_empty() {
                notice.send();
                continue;
            }
            let (redis, shard) = (self.redis.clone(), self.shard.clone());
            self.redis.shutdown.spawn(async move {
                redis.forward(&shard, notice.other_shards.iter().copied()).await;
                notice.send();
            });
        }
    }

    /// Repeats a call until no outbox is full. Fences an io-node whose outbox stays full for a whole lease.
    async fn call(&self, keys: &[Bytes], arguments: &[Bytes]) -> CommitAnswer {
        let mut pause = Backoff::new(FULL.0, FULL.1);
        let mut full_since: HashMap<String, Instant> = HashMap::new();
        loop {
            let answer: Vec<String> = self.redis.change(&self.shard, &scripts::COMMIT, keys, arguments).await;
            let full = match CommitAnswer::of(&answer) {
                CommitAnswer::Full(full) => full,
                answer => return answer,
            };
            full_since.retain(|member, _| full.contains(member));
            for member in full {
                let since = *full_since.entry(member.clone()).or_insert_with(Instant::now);
                if since.elapsed() >= self.redis.settings.lease {
                    self.fence(&member).await;
                }
            }
            sleep(pause.next_delay()).await;
        }
    }

    async fn fence(&self, member: &str) {
        let Some((incarnation, name)) = member.split_once('@') else {
            return;
        };
        let [all, all_in, all_read] = self.shard.broadcasts();
        let keys = [
            self.shard.key("io"),
            self.shard.key("io:until"),
            self.shard.key("lost"),
            self.shard.outbox(member),
            self.shard.outbox_in(member),
            self.shard.outbox_read(member),
            self.shard.key("clock"),
            all,
            all_in,
            all_read,
        ];
        let outbox = self.redis.settings.common.outbox;
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
                "the outbox of an io-node, or the broadcasts that it has to read, stayed full for a whole lease: it loses its place, so that commits \
                 go on; if this repeats, raise [transport] outbox, or find what slows the io-node"
            );
        }
    }
}

#[cfg(test)]
mod counted;
#[cfg(test)]
mod tests;
