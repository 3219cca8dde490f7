//! Settings of the transport under test, and helpers of the tests.

use std::collections::BTreeMap;

use bytes::Bytes;

use crate::*;
use plugnode_message::*;

/// Number of partitions of the transport under test.
pub const PARTITIONS: u16 = 8;

pub const BACKLOG: usize = 20;

pub const CLIENT_BACKLOG: usize = 5;

pub const BUDGETS: Backlog = Backlog {
    events: BACKLOG,
    bytes: 1_000_000,
    client_events: CLIENT_BACKLOG,
    client_bytes: 100_000,
};

pub const OUTBOX: OutboxBudget = OutboxBudget {
    entries: 1_000,
    bytes: 1_000_000,
};

/// Maximum bytes of a bucket.
pub const BUCKET_BYTES: usize = 8_000_000;

/// Maximum number of timers.
pub const TIMERS: TimerBudget = TimerBudget {
    of_app: 90,
    of_client: 3,
};

pub const DEAD_LETTERS: DeadLetterBudget = DeadLetterBudget {
    letters: 100,
    bytes: 1_000_000,
};

pub(super) async fn join_io(transport: &Transport, id: &str) -> IoSession {
    transport
        .events
        .join_io(IoNode {
            host: "localhost".into(),
            port: 1,
            ..IoNode::without_address(id)
        })
        .await
        .unwrap()
}

pub(super) async fn accept(io: &IoSession, events: Vec<Event>) {
    assert!(io.inbox.ingest(events).await.unwrap().is_empty(), "nothing is refused");
}

/// The lease of a client's partition. Leases of other partitions are leaked, so that they are not handed out again.
pub(super) async fn lease_of(client: &str, leases: &mut dyn Leases) -> Lease {
    let partition = partition_of(&client.into(), PARTITIONS);
    loop {
        let lease = leases.next().await.unwrap();
        if lease.partition == partition {
            return lease;
        }
        std::mem::forget(lease);
    }
}

pub(super) async fn read(lease: &mut Lease, count: usize) -> Vec<Delivery> {
    let mut deliveries = Vec::new();
    while deliveries.len() < count {
        deliveries.extend(lease.log.next().await.unwrap().expect("the lease holds"));
    }
    assert_eq!(deliveries.len(), count);
    deliveries
}

/// The names of the next events published.
pub(super) async fn hear(outbox: &mut dyn Outbox, count: usize) -> Vec<String> {
    let name = |command| match command {
        Command::Publish { event, .. } => event.to_string(),
        other => panic!("{other:?} was not expected"),
    };
    commands(outbox, count).await.into_iter().map(name).collect()
}

/// The next commands.
pub(super) async fn commands(outbox: &mut dyn Outbox, count: usize) -> Vec<Command> {
    let mut commands = Vec::new();
    while commands.len() < count {
        commands.extend(outbox.next().await.unwrap());
    }
    commands
}

pub(super) fn refusal(client: &str) -> Command {
    Command::Admit {
        namespace: "/".into(),
        client: client.into(),
        refusal: Some(Refusal {
            message: "no".into(),
            data: Some("{\"code\":7}".into()),
        }),
    }
}

pub(super) fn event(client: &str, kind: EventKind) -> Event {
    let client = Client {
        id: client.into(),
        io_node: "io".into(),
        attributes: Text::from_static("{}"),
        patched: 0,
    };
    Event {
        namespace: "/".into(),
        client: Some(client),
        received_at_ms: now_ms(),
        kind,
    }
}

/// A call of this caller to the node `io`, in this order.
pub(super) fn call(caller: &str, id: u64, order: &str) -> Event {
    Event {
        client: None,
        ..event(
            order,
            EventKind::Call(Box::new(Call {
                api_node: "io".into(),
                id,
                caller: caller.into(),
                order: order.into(),
                key: None,
                action: CallAction::Commands(Vec::new()),
            })),
        )
    }
}

pub(super) fn connection(client: &str, io_node: &str) -> Event {
    let handshake = Handshake {
        auth: None,
        query: "".into(),
        headers: [].into(),
        remote_addr: None,
        transport: "websocket".into(),
        recovered: false,
    };
    let mut event = event(client, EventKind::Connection(Box::new(handshake)));
    event.client.as_mut().unwrap().io_node = io_node.into();
    event
}

pub(super) fn event_of_its_end(client: &str) -> Event {
    event(client, EventKind::Disconnect(DisconnectReason::Client.into()))
}

pub(super) fn cause(reason: &str) -> DeadLetterCause {
    DeadLetterCause {
        reason: reason.into(),
        attempts: 3,
        release: Some("app-1".into()),
        app: Some("/".into()),
    }
}

/// The keys of bucket `b` with this prefix, sorted.
pub(super) async fn all_keys(store: &dyn KeyValue, prefix: &str) -> Vec<String> {
    let (mut keys, mut cursor) = (Vec::new(), Some(0));
    while let Some(from) = cursor {
        let page = store.keys("b", prefix, from, MOST).await.unwrap();
        keys.extend(page.0.into_iter().map(String::from));
        cursor = page.1;
    }
    keys.sort_unstable();
    keys
}

/// The values of these keys in bucket `b`.
pub(super) async fn values(store: &dyn KeyValue, keys: &[&str]) -> Vec<Option<String>> {
    let keys: Vec<Text> = keys.iter().map(|key| (*key).into()).collect();
    let values = store.get("b", &keys, MOST).await.unwrap().into_iter();
    values
        .map(|value| value.map(|value| String::from_utf8(value.into()).unwrap()))
        .collect()
}

pub(super) fn write(key: &str, change: Change) -> KeyChange {
    KeyChange {
        bucket: "b".into(),
        key: key.into(),
        change,
    }
}

/// A read that saw this value under a key of bucket `b`.
pub(super) fn saw(key: &str, value: Option<&str>) -> Read {
    let value = value.map(|value| Bytes::copy_from_slice(value.as_bytes()));
    Read {
        bucket: "b".into(),
        key: key.into(),
        seen: Seen::of(value.as_ref()),
    }
}

pub(super) fn wrote(id: EventId, reads: Vec<Read>, writes: Vec<KeyChange>) -> Outcome {
    let effects = Effects {
        commands: vec![to_all("done")],
        writes,
        reads,
    };
    outcome(id, Verdict::Done(effects))
}

pub(super) fn outcome(id: EventId, verdict: Verdict) -> Outcome {
    Outcome::new(id, verdict)
}

pub(super) fn changed(id: EventId) -> ConflictedOutcome {
    ConflictedOutcome {
        id,
        conflict: Conflict::Changed,
        has_reservation: false,
    }
}

pub(super) fn message(client: &str, number: u64) -> Event {
    let args = Payload {
        json: format!("[{number}]").into(),
        attachments: Vec::new(),
    };
    event(
        client,
        EventKind::Message {
            event: "n".into(),
            args,
            ack: None,
        },
    )
}

/// A message with an attachment of `bytes` bytes.
pub(super) fn large(client: &str, number: u64, bytes: usize) -> Event {
    let mut event = message(client, number);
    let EventKind::Message { args, .. } = &mut event.kind else {
        unreachable!("it is a message")
    };
    args.attachments.push(vec![0; bytes].into());
    event
}

/// The number of attachment bytes in a message.
pub(super) fn size_of(event: &Event) -> usize {
    let EventKind::Message { args, .. } = &event.kind else {
        panic!("not a message")
    };
    args.attachments.iter().map(Bytes::len).sum()
}

/// Names of clients in a partition.
pub(super) fn clients_in(partition: Partition) -> impl Iterator<Item = String> {
    let clients = (0..).map(|n| format!("client-{n}"));
    clients.filter(move |id| partition_of(&id.as_str().into(), PARTITIONS) == partition)
}

pub(super) fn number(event: &Event) -> u64 {
    let EventKind::Message { args, .. } = &event.kind else {
        panic!("not a message")
    };
    args.json.trim_matches(['[', ']']).parse().unwrap()
}

pub(super) fn numbers(deliveries: &[Delivery]) -> Vec<u64> {
    deliveries.iter().map(|delivery| number(&delivery.event)).collect()
}

pub(super) fn done(id: EventId, commands: Vec<Command>) -> Outcome {
    let effects = Effects {
        commands,
        ..Effects::default()
    };
    outcome(id, Verdict::Done(effects))
}

pub(super) fn to_all(event: &str) -> Command {
    publish(Scope::All, event)
}

pub(super) fn to_client(client: &str, event: &str) -> Command {
    publish(
        Scope::Only(Selection {
            clients: vec![SessionId::from(client)],
            channels: Vec::new(),
        }),
        event,
    )
}

pub(super) fn publish(to: Scope, event: &str) -> Command {
    Command::Publish {
        to: Audience {
            namespace: Namespace::from("/"),
            to,
            except: Selection::default(),
        },
        event: event.into(),
        args: Payload {
            json: Text::from_static("[]"),
            attachments: Vec::new(),
        },
        volatile: false,
        local: false,
    }
}

/// Leases of all partitions.
pub(super) async fn hold_all(leases: &mut dyn Leases) -> BTreeMap<Partition, Lease> {
    let mut held = BTreeMap::new();
    while held.len() < usize::from(PARTITIONS) {
        let lease = leases.next().await.unwrap();
        held.insert(lease.partition, lease);
    }
    held
}

/// A limit for reads that no test reaches.
pub(super) const MOST: usize = 10_000_000;
