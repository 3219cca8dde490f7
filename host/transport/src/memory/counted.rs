//! Instruction counts: the path of events through the transport in memory. See `plugnode_testing::counted`.

use futures_util::FutureExt;

use crate::{Events, IoNode, IoSession, Lease, Memory, Outcome, TransportSettings, Verdict};
use plugnode_message::{Command, Effects, Event};
use plugnode_testing::counted::{answer, io_node, message};

/// Events in a batch.
const TOGETHER: usize = 64;
/// Every call completes at once: there is no runtime.
const AT_ONCE: &str = "there is nothing to wait for";

#[test]
fn events_through_memory() {
    let memory = Memory::new(TransportSettings {
        partitions: 1,
        ..TransportSettings::default()
    });
    let node = IoNode {
        id: io_node(),
        host: "localhost".into(),
        port: 1,
        probes: Vec::new(),
        scheme: String::new(),
        path: String::new(),
    };
    let mut io = memory.join_io(node).now_or_never().expect(AT_ONCE).expect("it may");
    let leases = memory.join_app("app-1".into()).now_or_never().expect(AT_ONCE);
    let mut leases = leases.expect("it may");
    let lease = leases.next().now_or_never().expect(AT_ONCE);
    let mut lease = lease.expect("there is a partition");
    let numbers = 0..8 * TOGETHER;
    let events: Vec<Event> = numbers.clone().map(message).collect();
    let answers: Vec<Command> = numbers.map(answer).collect();
    let rounds = events.chunks(TOGETHER).map(<[_]>::to_vec);
    let rounds = rounds.zip(answers.chunks(TOGETHER).map(<[_]>::to_vec)).collect();
    assert_eq!(counted_events_through_memory(&mut io, &mut lease, rounds), answers);
}

#[inline(never)]
fn counted_events_through_memory(
    io: &mut IoSession,
    lease: &mut Lease,
    rounds: Vec<(Vec<Event>, Vec<Command>)>,
) -> Vec<Command> {
    let mut heard = Vec::new();
    for (events, answers) in rounds {
        let refused = io.inbox.ingest(events).now_or_never().expect(AT_ONCE);
        assert!(refused.expect("it is not fenced").is_empty(), "there is room");
        let read = lease.log.next().now_or_never().expect(AT_ONCE);
        let deliveries = read.expect("it is not fenced").expect("it is not revoked");
        let mut outcomes = Vec::with_capacity(deliveries.len());
        for (delivery, answer) in deliveries.iter().zip(answers) {
            let effects = Effects {
                commands: vec![answer],
                ..Effects::default()
            };
            outcomes.push(Outcome::new(delivery.id, Verdict::Done(effects)));
        }
        let committed = lease.commits.commit(outcomes).now_or_never().expect(AT_ONCE);
        committed.expect("it is not fenced");
        let commands = io.outbox.next().now_or_never().expect(AT_ONCE);
        heard.extend(commands.expect("it is not fenced"));
    }
    heard
}
