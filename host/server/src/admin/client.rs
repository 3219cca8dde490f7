//! The side of the command line: what an operator does with a transport that is in another process.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::place::is_trusted;
use super::wire::{self, Answer, Request};
use plugnode_message::{EventId, NodeId};
use plugnode_release::{Board, Digest, NodeReport};
use plugnode_transport::{
    DeadLetter, DeadLetters, IoNode, Nodes, Releases, Result, Revival, Sweep, SweepPlace, Swept, TransportError,
};

/// The time for an answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// The transport of a process that listens at a socket. A process that cannot be reached is not waited for: what is asked then
/// is an error that says so.
#[derive(Debug, Clone)]
pub struct Remote {
    path: PathBuf,
    most: usize,
}

impl Remote {
    /// Looks whether the process is there. A component may have so many bytes.
    ///
    /// # Errors
    /// When it is not, with what to do.
    pub async fn connect(path: &Path, max_component: usize) -> Result<Self> {
        let remote = Self {
            path: path.into(),
            most: wire::most(max_component),
        };
        remote.backlog().await?;
        Ok(remote)
    }

    async fn ask(&self, request: &Request) -> Result<Answer> {
        let asked = timeout(PATIENCE, self.converse(request)).await;
        match asked.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
            Ok(Answer::Refused(reason)) => Err(TransportError::Unusable(reason)),
            Ok(answer) => Ok(answer),
            Err(error) => Err(self.trouble(&error)),
        }
    }

    async fn converse(&self, request: &Request) -> io::Result<Answer> {
        let mut stream = UnixStream::connect(&self.path).await?;
        if !is_trusted(stream.peer_cred()?.uid()) {
            return Err(io::ErrorKind::PermissionDenied.into());
        }
        let written = wire::write(&mut stream, request).await;
        // Who does not want to hear all of it has said why.
        match (wire::read(&mut stream, self.most).await, written) {
            (Err(_), Err(error)) => Err(error),
            (answer, _) => answer,
        }
    }

    fn trouble(&self, error: &io::Error) -> TransportError {
        let path = self.path.display();
        TransportError::Unusable(match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => {
                format!("no plugnode runs at {path}: start it, or name its config file by -c")
            }
            io::ErrorKind::PermissionDenied => {
                format!("the plugnode at {path} runs as another user: use this command as that user")
            }
            io::ErrorKind::TimedOut => format!("the plugnode at {path} does not answer: look at its log"),
            io::ErrorKind::InvalidData => format!("the plugnode at {path} has answered with {error}"),
            _ => format!("the plugnode at {path} has ended the connection ({error}): look at its log, and try again"),
        })
    }

    /// It answered what answers another question.
    fn astray(&self) -> TransportError {
        let path = self.path.display();
        TransportError::Unusable(format!(
            "the plugnode at {path} has answered something else than it was asked: use the same version of plugnode for both"
        ))
    }

    /// What a JSON text of the process says.
    fn read<T: DeserializeOwned>(&self, json: &str) -> Result<T> {
        serde_json::from_str(json).map_err(|error| {
            let path = self.path.display();
            TransportError::Unusable(format!(
                "the plugnode at {path} has answered what cannot be read: {error}; use the same version of plugnode for both"
            ))
        })
    }

    async fn ask_board(&self, request: &Request) -> Result<(u64, Board)> {
        match self.ask(request).await? {
            Answer::Board(version, board) => Ok((version, self.read(&board)?)),
            _ => Err(self.astray()),
        }
    }
}

#[async_trait]
impl Releases for Remote {
    async fn put_component(&self, bytes: Bytes) -> Result<Digest> {
        match self.ask(&Request::PutComponent(bytes)).await? {
            Answer::Digest(digest) => Ok(digest),
            _ => Err(self.astray()),
        }
    }

    async fn component(&self, digest: &Digest) -> Result<Option<Bytes>> {
        match self.ask(&Request::Component(digest.clone())).await? {
            Answer::Component(component) => Ok(component),
            _ => Err(self.astray()),
        }
    }

    async fn prune_components(&self) -> Result<()> {
        match self.ask(&Request::PruneComponents).await? {
            Answer::Done => Ok(()),
            _ => Err(self.astray()),
        }
    }

    async fn board(&self) -> Result<(u64, Board)> {
        self.ask_board(&Request::Board).await
    }

    async fn board_after(&self, version: u64) -> Result<(u64, Board)> {
        loop {
            let (present, board) = self.ask_board(&Request::BoardAfter(version)).await?;
            if present != version {
                return Ok((present, board));
            }
        }
    }

    async fn post_board(&self, version: u64, board: &Board) -> Result<bool> {
        match self.ask(&Request::PostBoard(version, json(board)?)).await? {
            Answer::Posted(posted) => Ok(posted),
            _ => Err(self.astray()),
        }
    }
}

#[async_trait]
impl Nodes for Remote {
    async fn io_nodes(&self) -> Result<Vec<IoNode>> {
        match self.ask(&Request::IoNodes).await? {
            Answer::IoNodes(nodes) => Ok(nodes),
            _ => Err(self.astray()),
        }
    }

    async fn report(&self, report: &NodeReport) -> Result<()> {
        match self.ask(&Request::Report(json(report)?)).await? {
            Answer::Done => Ok(()),
            _ => Err(self.astray()),
        }
    }

    async fn app_nodes(&self) -> Result<Vec<(NodeId, Option<NodeReport>)>> {
        let nodes = match self.ask(&Request::AppNodes).await? {
            Answer::AppNodes(nodes) => nodes,
            _ => return Err(self.astray()),
        };
        let read = |(node, report): (NodeId, Option<String>)| {
            let report = report.map(|report| self.read(&report)).transpose()?;
            Ok((node, report))
        };
        nodes.into_iter().map(read).collect()
    }

    async fn timers(&self) -> Result<u64> {
        match self.ask(&Request::Timers).await? {
            Answer::Timers(timers) => Ok(timers),
            _ => Err(self.astray()),
        }
    }

    async fn backlog(&self) -> Result<u64> {
        match self.ask(&Request::Backlog).await? {
            Answer::Backlog(backlog) => Ok(backlog),
            _ => Err(self.astray()),
        }
    }
}

#[async_trait]
impl DeadLetters for Remote {
    /// One by one, since all of them may be more than a message can be.
    async fn dead_letters(&self, most: usize) -> Result<Vec<DeadLetter>> {
        let ids = match self.ask(&Request::DeadLetters(most)).await? {
            Answer::DeadLetters(ids) => ids,
            _ => return Err(self.astray()),
        };
        let mut letters = Vec::with_capacity(ids.len());
        for id in ids {
            // One that has gone meanwhile is none of them any more.
            letters.extend(self.dead_letter(id).await?);
        }
        Ok(letters)
    }

    async fn dead_letter(&self, id: EventId) -> Result<Option<DeadLetter>> {
        match self.ask(&Request::DeadLetter(id)).await? {
            Answer::DeadLetter(letter) => Ok(letter.map(|letter| (*letter).into())),
            _ => Err(self.astray()),
        }
    }

    async fn revive(&self, dead: EventId) -> Result<Revival> {
        match self.ask(&Request::Revive(dead)).await? {
            Answer::Revived(revival) => Ok(revival),
            _ => Err(self.astray()),
        }
    }

    async fn bury(&self, dead: EventId) -> Result<bool> {
        match self.ask(&Request::Bury(dead)).await? {
            Answer::Buried(was_there) => Ok(was_there),
            _ => Err(self.astray()),
        }
    }

    async fn sweep(&self, sweep: &Sweep, from: Option<SweepPlace>) -> Result<Swept> {
        match self.ask(&Request::Sweep(sweep.clone(), from)).await? {
            Answer::Swept(swept) => Ok(swept),
            _ => Err(self.astray()),
        }
    }
}

fn json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| TransportError::Unusable(format!("it cannot be written: {error}")))
}
