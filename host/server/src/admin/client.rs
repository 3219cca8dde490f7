//! The client side, for the command line: the operations of a transport in another process.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::socket_path::is_trusted;
use super::wire::{self, Request, Response};
use plugnode_message::{EventId, NodeId};
use plugnode_release::{Board, Digest, NodeReport};
use plugnode_transport::{
    DeadLetter, DeadLetters, IoNode, Nodes, Releases, Result, RetryResult, Sweep, SweepCursor, Swept, TransportError,
};

/// Time for connection, request and response together.
const TIMEOUT: Duration = Duration::from_secs(60);

/// The transport of the process that listens at a socket. If the process cannot be reached, calls fail at once.
#[derive(Debug, Clone)]
pub struct AdminClient {
    path: PathBuf,
    max_message: usize,
}

impl AdminClient {
    /// Connects to the process. Components have at most `max_component` bytes.
    ///
    /// # Errors
    /// If the process cannot be reached, with what to do.
    pub async fn connect(path: &Path, max_component: usize) -> Result<Self> {
        let client = Self {
            path: path.into(),
            max_message: wire::max_message(max_component),
        };
        client.backlog().await?;
        Ok(client)
    }

    async fn send(&self, request: &Request) -> Result<Response> {
        let response = timeout(TIMEOUT, self.exchange(request)).await;
        match response.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(Response::Refused(reason)) => Err(TransportError::Unusable(reason)),
            Ok(response) => Ok(response),
            Err(error) => Err(self.connection_error(&error)),
        }
    }

    async fn exchange(&self, request: &Request) -> io::Result<Response> {
        let mut stream = UnixStream::connect(&self.path).await?;
        if !is_trusted(stream.peer_cred()?.uid()) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let written = wire::write(&mut stream, request).await;
        // A process that refuses a request before it has read all of it has sent the reason.
        match (wire::read(&mut stream, self.max_message).await, written) {
            (Err(_), Err(error)) => Err(error),
            (response, _) => response,
        }
    }

    fn connection_error(&self, error: &io::Error) -> TransportError {
        let path = self.path.display();
        TransportError::Unusable(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                format!("no plugnode runs at {path}: start it, or name the one that you mean by -c, --port or --socket")
            }
            io::ErrorKind::PermissionDenied => {
                format!("the plugnode at {path} runs as another user: use this command as that user")
            }
            io::ErrorKind::TimedOut => format!("the plugnode at {path} does not answer; see its log"),
            io::ErrorKind::InvalidData => format!("the plugnode at {path} has sent {error}"),
            _ => format!("the plugnode at {path} has ended the connection ({error}); see its log, and try again"),
        })
    }

    /// The error for a response of another kind than the request asks for.
    fn unexpected_response(&self) -> TransportError {
        let path = self.path.display();
        TransportError::Unusable(format!(
            "the plugnode at {path} has sent an unexpected response; use the same version of plugnode for both"
        ))
    }

    /// Parses JSON from the process.
    fn parse<T: DeserializeOwned>(&self, json: &str) -> Result<T> {
        serde_json::from_str(json).map_err(|error| {
            let path = self.path.display();
            TransportError::Unusable(format!(
                "the plugnode at {path} has sent JSON that cannot be read: {error}; use the same version of plugnode for both"
            ))
        })
    }

    async fn request_board(&self, request: &Request) -> Result<(u64, Board)> {
        match self.send(request).await? {
            Response::Board(version, board) => Ok((version, self.parse(&board)?)),
            _ => Err(self.unexpected_response()),
        }
    }
}

#[async_trait]
impl Releases for AdminClient {
    async fn put_component(&self, bytes: Bytes) -> Result<Digest> {
        match self.send(&Request::PutComponent(bytes)).await? {
            Response::Digest(digest) => Ok(digest),
            _ => Err(self.unexpected_response()),
        }
    }

    async fn component(&self, digest: &Digest) -> Result<Option<Bytes>> {
        match self.send(&Request::Component(digest.clone())).await? {
            Response::Component(component) => Ok(component),
            _ => Err(self.unexpected_response()),
        }
    }

    async fn prune_components(&self) -> Result<()> {
        match self.send(&Request::PruneComponents).await? {
            Response::Done => Ok(()),
            _ => Err(self.unexpected_response()),
        }
    }

    async fn board(&self) -> Result<(u64, Board)> {
        self.request_board(&Request::Board).await
    }

    async fn board_after(&self, version: u64) -> Result<(u64, Board)> {
        loop {
            let (present, board) = self.request_board(&Request::BoardAfter(version)).await?;
            if present != version {
                return Ok((present, board));
            }
        }
    }

    async fn post_board(&self, version: u64, board: &Board) -> Result<bool> {
        match self.send(&Request::PostBoard(version, json(board)?)).await? {
            Response::Posted(posted) => Ok(posted),
            _ => Err(self.unexpected_response()),
        }
    }
}

#[async_trait]
impl Nodes for AdminClient {
    async fn io_nodes(&self) -> Result<Vec<IoNode>> {
        match self.send(&Request::IoNodes).await? {
            Response::IoNodes(nodes) => Ok(nodes),
            _ => Err(self.unexpected_response()),
        }
    }

    async fn report(&self, report: &NodeReport) -> Result<()> {
        match self.send(&Request::Report(json(report)?)).await? {
            Response::Done => Ok(()),
            _ => Err(self.unexpected_response()),
        }
    }

    async fn app_nodes(&self) -> Result<Vec<(NodeId, Option<NodeReport>)>> {
        let nodes = match self.send(&Request::AppNodes).await? {
            Response::AppNodes(nodes) => nodes,
            _ => return Err(self.unexpected_response()),
        };
        let parse = |(node, report): (NodeId, Option<String>)| {
            let report = report.map(|report| self.parse(&report)).transpose()?;
            Ok((node, report))
        };
        nodes.into_iter().map(parse).collect()
    }

    async fn timers(&self) -> Result<u64> {
        match self.send(&Request::Timers).await? {
            Response::Timers(timers) => Ok(timers),
            _ => Err(self.unexpected_response()),
        }
    }

    async fn backlog(&self) -> Result<u64> {
        match self.send(&Request::Backlog).await? {
            Response::Backlog(backlog) => Ok(backlog),
            _ => Err(self.unexpected_response()),
        }
    }
}

#[async_trait]
impl DeadLetters for AdminClient {
    /// Fetched one by one, because all of them may exceed the size of a message.
    async fn dead_letters(&self, most: usize) -> Result<Vec<DeadLetter>> {
        let ids = match self.send(&Request::DeadLetters(most)).await? {
            Response::DeadLetters(ids) => ids,
            _ => return Err(self.unexpected_response()),
        };
        let mut letters = Vec::with_capacity(ids.len());
        for id in ids {
            // One that was removed meanwhile is left out.
            letters.extend(self.dead_letter(id).await?);
        }
        Ok(letters)
    }

    async fn dead_letter(&self, id: EventId) -> Result<Option<DeadLetter>> {
        match self.send(&Request::DeadLetter(id)).await? {
            Response::DeadLetter(letter) => Ok(letter.map(|letter| (*letter).into())),
            _ => Err(self.unexpected_response()),
        }
    }

    async fn retry(&self, dead: EventId) -> Result<RetryResult> {
        match self.send(&Request::RetryDead(dead)).await? {
            Response::Retried(result) => Ok(result),
            _ => Err(self.unexpected_response()),
        }
    }

    async fn delete(&self, dead: EventId) -> Result<bool> {
        match self.send(&Request::DeleteDead(dead)).await? {
            Response::Deleted(was_there) => Ok(was_there),
            _ => Err(self.unexpected_response()),
        }
    }

    async fn sweep(&self, sweep: &Sweep, from: Option<SweepCursor>) -> Result<Swept> {
        match self.send(&Request::Sweep(sweep.clone(), from)).await? {
            Response::Swept(swept) => Ok(swept),
            _ => Err(self.unexpected_response()),
        }
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| TransportError::Unusable(format!("cannot serialize the request: {error}")))
}
