//! Workloads of the instruction counts: the events and commands of an app that echoes.
//!
//! A counted test is in a module `counted` beside the code that it measures. It prepares the input of a hot function, passes it to
//! a function `counted_NAME`, where NAME is the name of the test, and checks the result. `.ci/counts` runs each test under callgrind,
//! which counts the instructions of that function and its callees, and compares them with `host/testing/counts.txt`. Preparation
//! and checks are not counted. A test must not depend on chance or time.

use bytes::Bytes;

use plugnode_message::{AckId, Audience, Client, Command, Event, EventKind, NodeId, Payload, Scope, Selection, Text};

/// Number of clients that the events come from.
pub const CLIENTS: usize = 16;

/// The io-node of all clients.
pub fn io_node() -> NodeId {
    "io-1".into()
}

/// A message that asks for an acknowledgement. Consecutive numbers come from the clients in turn.
pub fn message(number: usize) -> Event {
    let client = Client {
        id: format!("qPTf4v7TZW9cAAA{:x}", number % CLIENTS).into(),
        io_node: io_node(),
        attributes: Text::from_static(r#"{"name":"somebody","rank":7}"#),
        patched: 0,
    };
    Event {
        namespace: "/chat".into(),
        received_at_ms: 1_700_000_000_000 + number as u64,
        kind: EventKind::Message {
            event: Text::from_static("say"),
            args: payload(number),
            ack: Some(AckId {
                namespace: "/chat".into(),
                client: client.id.clone(),
                number: number as i64,
            }),
        },
        client: Some(client),
    }
}

/// The arguments of [`message`].
pub fn payload(number: usize) -> Payload {
    Payload {
        json: format!(r#"[{{"n":{number},"text":"hello to \"all\" of you","tags":["a",true,null,1.5]}}]"#).into(),
        attachments: Vec::new(),
    }
}

/// The acknowledgement of [`message`], with the same arguments.
pub fn answer(number: usize) -> Command {
    let EventKind::Message {
        args, ack: Some(id), ..
    } = message(number).kind
    else {
        unreachable!("it is a message that asks for an acknowledgement");
    };
    Command::Ack { id, args }
}

/// A broadcast of the same arguments, with an attachment, to a channel.
pub fn broadcast(number: usize) -> Command {
    Command::Publish {
        to: Audience {
            namespace: "/chat".into(),
            to: Scope::Only(Selection {
                clients: Vec::new(),
                channels: vec!["lobby".into()],
            }),
            except: Selection::default(),
        },
        event: Text::from_static("said"),
        args: Payload {
            attachments: vec![Bytes::from_static(b"0123456789abcdef")],
            ..payload(number)
        },
        volatile: false,
        local: false,
    }
}
