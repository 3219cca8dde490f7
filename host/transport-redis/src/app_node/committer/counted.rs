//! Instruction counts: encoding a commit call. See `plugnode_testing::counted`.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio::sync::oneshot;

use super::*;
use crate::app_node::committer::commit::PreparedOutcome;
use crate::app_node::held_lease::HeldLease;
use crate::app_node::progress::DecodedEvent;
use crate::app_node::routes::OutboxTarget;
use crate::arguments::client_key;
use crate::client::server::Server;
use crate::settings::RedisSettings;
use crate::wire::CommandRun;
use plugnode_process::shutdown::Shutdown;
use plugnode_testing::counted::{answer, io_node, message};
use plugnode_transport::LeaseHealth;

/// Number of outcomes in one call.
const TOGETHER: usize = 64;

#[test]
fn a_call_that_commits() {
    let redis = unconnected();
    let held_lease = HeldLease::unmanaged();
    let rounds: Vec<Vec<PreparedOutcome>> = (0..8)
        .map(|round| (round * TOGETHER..(round + 1) * TOGETHER).map(settled).collect())
        .collect();
    for outcome in rounds.iter().flatten() {
        assert!(
            held_lease.progress().add(outcome.number, DecodedEvent::Broken, 100),
            "it is new"
        );
    }
    let shard = redis.layout.shard(0);
    let arguments = counted_a_call_that_commits(&redis, &shard, &held_lease, rounds);
    assert!(arguments > 8 * 10, "{arguments}");
    assert_eq!(held_lease.progress().to_string(), "512 512 51200");
}

#[inline(never)]
fn counted_a_call_that_commits(
    redis: &Redis,
    shard: &Shard,
    held_lease: &Arc<HeldLease>,
    rounds: Vec<Vec<PreparedOutcome>>,
) -> usize {
    let mut made = 0;
    for outcomes in rounds {
        let mut round = Round::default();
        let (done, _) = oneshot::channel();
        let rest = round.add(Commit {
            held_lease: held_lease.clone(),
            outcomes: outcomes.into(),
            set_aside: None,
            other_shards: BTreeSet::new(),
            done,
        });
        assert!(rest.is_none(), "it fits into a call");
        let call = CommitCall::new(redis, shard, &round.parts).expect("there is something to do");
        let (keys, arguments) = call.finish();
        made += keys.len() + arguments.len();
    }
    made
}

/// Outcome of an echoed message.
fn settled(number: usize) -> PreparedOutcome {
    PreparedOutcome {
        account: client_key(&message(number)),
        io_node: Some(io_node()),
        commands: vec![(OutboxTarget::Node(io_node()), CommandRun::of(&[answer(number)]))],
        ..PreparedOutcome::nothing(1 + number as u64)
    }
}

/// A transport that never connects.
fn unconnected() -> Redis {
    let settings = RedisSettings {
        prefix: "test".into(),
        lease: Duration::from_secs(1),
        ..RedisSettings::default()
    };
    let server = Arc::new(Server::new("redis://127.0.0.1:1", &settings.tls).expect("it is a URL"));
    let mut redis = Redis::with_server(server, settings, &Shutdown::new(), false);
    redis.lease_health = LeaseHealth::default();
    redis.durability = None;
    redis
}
