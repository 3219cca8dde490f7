//! What goes over the socket: a request and its answer, each a length in four bytes, a byte that tells the version, and postcard.
//!
//! Boards and reports are JSON in it, as they are in Redis: of those of another version is read what is known.

use std::io;

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

use crate::message::NodeId;
use crate::release::Digest;

/// The version that is spoken here.
const VERSION: u8 = 1;
/// What may come with a component, or be there instead: the board, reports.
const SLACK: usize = 8 << 20;

/// What is asked. A board is given with the version that it is to take the place of.
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
}

/// What is answered. A board comes with its version.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Answer {
    Digest(Digest),
    Component(Option<Bytes>),
    Done,
    Board(u64, String),
    Posted(bool),
    AppNodes(Vec<(NodeId, Option<String>)>),
    Backlog(u64),
    /// It cannot be done, for this reason.
    Refused(String),
}

/// The most bytes of a message where components may have so many.
pub(super) fn most(max_component: usize) -> usize {
    max_component.saturating_add(SLACK)
}

/// Writes a message.
pub(super) async fn write(to: &mut (impl AsyncWrite + Unpin), message: &impl Serialize) -> io::Result<()> {
    let frame = postcard::to_extend(message, vec![0, 0, 0, 0, VERSION]);
    let mut frame = frame.expect("memory takes what is written to it");
    let length = u32::try_from(frame.len() - 4).map_err(|_| invalid("a message of more than 4 GB".into()))?;
    frame[..4].copy_from_slice(&length.to_le_bytes());
    to.write_all(&frame).await?;
    to.flush().await
}

/// Reads a message of no more than so many bytes. It takes no more memory than has come in.
pub(super) async fn read<T: DeserializeOwned>(from: &mut (impl AsyncRead + Unpin), most: usize) -> io::Result<T> {
    let length = from.read_u32_le().await?;
    if length as usize > most {
        return Err(invalid(format!("a message of {length} bytes, and {most} are allowed")));
    }
    let mut message = Vec::new();
    from.take(length.into()).read_to_end(&mut message).await?;
    if message.len() < length as usize {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    match message.split_first() {
        Some((&VERSION, message)) => match postcard::take_from_bytes(message) {
            Ok((message, [])) => Ok(message),
            Ok(_) => Err(invalid("a message with more behind it".into())),
            Err(error) => Err(invalid(format!("a message that is malformed: {error}"))),
        },
        Some((version, _)) => Err(invalid(format!(
            "a message of version {version} where {VERSION} is spoken: use the same version of plugnode for both"
        ))),
        None => Err(invalid("an empty message".into())),
    }
}

fn invalid(reason: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}
