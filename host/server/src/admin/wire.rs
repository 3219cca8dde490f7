//! The protocol of the socket: a request and its response. Each is a length in 4 bytes (little endian), a version byte, and
//! postcard.
//!
//! Boards and reports within are JSON, as in Redis, so that unknown fields of another version are skipped.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use plugnode_message::{Event, EventId, NodeId};
use plugnode_release::Digest;
use plugnode_transport::{DeadContent, DeadLetter, DeadLetterCause, IoNode, RetryResult, Sweep, SweepCursor, Swept};

/// Version of the protocol.
const VERSION: u8 = 1;
/// Bytes of a message beyond the largest component, also for boards and reports.
const MAX_OTHER_CONTENT: usize = 8 << 20;

/// A request. A board comes with the version that it replaces.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Request {
    PutComponent(Bytes),
    Component(Digest),
    PruneComponents,
    Board,
    BoardAfter(u64),
    PostBoard(u64, String),
    Report(String),
    AppNodes,
    Backlog,
    /// The ids of the latest dead letters, at most this many.
    DeadLetters(usize),
    DeadLetter(EventId),
    RetryDead(EventId),
    DeleteDead(EventId),
    Sweep(Sweep, Option<SweepCursor>),
    Timers,
    IoNodes,
}

/// A response. A board comes with its version.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Response {
    Digest(Digest),
    Component(Option<Bytes>),
    Done,
    Board(u64, String),
    Posted(bool),
    AppNodes(Vec<(NodeId, Option<String>)>),
    Backlog(u64),
    DeadLetters(Vec<EventId>),
    DeadLetter(Option<Box<WireDeadLetter>>),
    Retried(RetryResult),
    Deleted(bool),
    /// The request failed, for this reason.
    Refused(String),
    Swept(Swept),
    Timers(u64),
    IoNodes(Vec<IoNode>),
}

/// A dead letter, as it is sent.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct WireDeadLetter {
    id: EventId,
    content: WireContent,
    cause: DeadLetterCause,
    died_at_ms: u64,
}

#[derive(Debug, Serialize, Deserialize)]
enum WireContent {
    Event(Event),
    Foreign(Bytes),
}

impl From<DeadLetter> for WireDeadLetter {
    fn from(letter: DeadLetter) -> Self {
        Self {
            id: letter.id,
            content: match letter.content {
                DeadContent::Event(event) => WireContent::Event(Arc::unwrap_or_clone(event)),
                DeadContent::Foreign(bytes) => WireContent::Foreign(bytes),
            },
            cause: letter.cause,
            died_at_ms: letter.died_at_ms,
        }
    }
}

impl From<WireDeadLetter> for DeadLetter {
    fn from(letter: WireDeadLetter) -> Self {
        Self {
            id: letter.id,
            content: match letter.content {
                WireContent::Event(event) => DeadContent::Event(event.into()),
                WireContent::Foreign(bytes) => DeadContent::Foreign(bytes),
            },
            cause: letter.cause,
            died_at_ms: letter.died_at_ms,
        }
    }
}

/// Largest message in bytes, given the largest component.
pub(super) fn max_message(max_component: usize) -> usize {
    max_component.saturating_add(MAX_OTHER_CONTENT)
}

/// Writes a message.
pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    let frame = postcard::to_extend(message, vec![0, 0, 0, 0, VERSION]);
    let mut frame = frame.expect("a write to memory succeeds");
    let length = u32::try_from(frame.len() - 4).map_err(|_| invalid("a message of more than 4 GB".into()))?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    to.write_all(&frame).await?;
    to.flush().await
}

/// Reads a message of at most `max` bytes. It allocates no more than was received.
pub(super) async fn read<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin), max: usize) -> io::Result<T> {
    let length = from.read_u32_le().await?;
    if length as usize > max {
        return Err(invalid(format!(
            "a message of {length} bytes; at most {max} are allowed"
        )));
    }
    let mut message = Vec::new();
    from.take(length.into()).read_to_end(&mut message).await?;
    if message.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match message.split_first() {
        Some((&VERSION, message)) => match postcard::take_from_bytes(message) {
            Ok((message, [])) => Ok(message),
            Ok(_) => Err(invalid("a message with extra bytes".into())),
            Err(error) => Err(invalid(format!("a malformed message: {error}"))),
        },
        Some((version, _)) => Err(invalid(format!(
            "a message of version {version}, not {VERSION}; use the same version of plugnode for both"
        ))),
        None => Err(invalid("an empty message".into())),
    }
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    mod arbitrary {
        use proptest::prelude::*;

        use super::super::*;
        use plugnode_testing::arbitrary::{bytes, nearly, peak, text};

        fn run<T>(work: impl Future<Output = T>) -> T {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .build()
                .expect("a runtime can be made");
            runtime.block_on(work)
        }

        fn frame(message: &impl Serialize) -> Vec<u8> {
            let mut frame = Vec::new();
            run(write(&mut frame, message)).expect("a write to memory succeeds");
            frame
        }

        fn message() -> impl Strategy<Value = Vec<u8>> {
            prop_oneof![
                bytes(40).prop_map(|component| frame(&Request::PutComponent(component.into()))),
                (any::<u64>(), text()).prop_map(|(version, board)| frame(&Request::PostBoard(version, board))),
                text().prop_map(|report| frame(&Request::Report(report))),
                (any::<u64>(), text()).prop_map(|(version, board)| frame(&Response::Board(version, board))),
                (text(), proptest::option::of(text()))
                    .prop_map(|(node, report)| frame(&Response::AppNodes(vec![(NodeId::from(node), report)]))),
                Just(frame(&Request::Backlog)),
                any::<u64>().prop_map(|sequence| {
                    let id = EventId {
                        partition: plugnode_message::Partition(7),
                        sequence,
                    };
                    frame(&Response::DeadLetters(vec![id]))
                }),
            ]
        }

        proptest! {
            #[test]
            fn arbitrary_messages_are_read_or_refused(
                sent in prop_oneof![3 => nearly(message()), 1 => bytes(100)],
                most in prop_oneof![Just(1_000_usize), Just(usize::MAX)],
            ) {
                let (_, peak) = peak(|| run(async {
                    let _ = read::<Request>(&mut &sent[..], most).await;
                    read::<Response>(&mut &sent[..], most).await.is_ok()
                }));
                prop_assert!(peak <= 64 * sent.len() as u64 + (64 << 10), "{peak} bytes for {}", sent.len());
            }

            #[test]
            fn written_message_is_read(version in any::<u64>(), board in text()) {
                let sent = frame(&Request::PostBoard(version, board.clone()));
                let read = run(read::<Request>(&mut &sent[..], sent.len())).expect("it is well formed");
                prop_assert!(matches!(read, Request::PostBoard(same, text) if same == version && text == board));
                prop_assert!(run(super::super::read::<Request>(&mut &sent[..sent.len() - 1], sent.len())).is_err());
            }
        }
    }
}
