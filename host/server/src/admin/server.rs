//! The side of the process that runs: answers one request a connection.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use tokio::io::AsyncReadExt;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tracing::{debug, warn};

use super::place::{is_trusted, prepare};
use super::wire::{self, Answer, Request};
use plugnode_process::shutdown::Shutdown;
use plugnode_transport::Operations;

/// So many are served at once; the others wait, and not for long:
const CONNECTIONS: usize = 16;
/// a request comes within this time, and is read, as its answer is,
const PATIENCE: Duration = Duration::from_secs(10);
/// and who waits for a change of the board is told after this time that there is none, and asks again.
const CHANGE: Duration = Duration::from_secs(5);
/// The pause when a connection cannot be taken, for want of open files.
const PAUSE: Duration = Duration::from_millis(100);

/// A bound socket, which is removed when this is dropped.
#[derive(Debug)]
pub struct Socket {
    listener: UnixListener,
    path: PathBuf,
    /// Device and number of its file: another process may have put another there.
    file: (u64, u64),
}

impl Socket {
    /// Binds a socket that this user alone can use. One that a dead process left there is replaced.
    ///
    /// # Errors
    /// When somebody listens there, or others could meddle with it, with what to do.
    pub fn bind(path: &Path) -> Result<Self> {
        prepare(path)?;
        clear(path)?;
        let shown = path.display();
        let listener = UnixListener::bind(path).with_context(|| format!("cannot listen at {shown}"))?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).with_context(|| format!("cannot protect {shown}"))?;
        let file = identity(path).with_context(|| format!("cannot look at {shown}"))?;
        let path = path.into();
        Ok(Self { listener, path, file })
    }

    /// Answers until shutdown begins. A component may have so many bytes.
    pub async fn serve(self, operations: Operations, max_component: usize, shutdown: Shutdown) {
        let most = wire::most(max_component);
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let serving = async {
            loop {
                let place = places.clone().acquire_owned().await;
                let place = place.expect("nobody closes the semaphore");
                match self.listener.accept().await {
                    Ok((stream, _)) => {
                        let (operations, ending) = (operations.clone(), shutdown.clone());
                        shutdown.spawn(async move {
                            tokio::select! {
                                () = ending.begun() => {}
                                () = converse(stream, &operations, most) => {}
                            }
                            drop(place);
                        });
                    }
                    Err(error) => {
                        warn!(%error, "cannot take a connection at {}", self.path.display());
                        sleep(PAUSE).await;
                    }
                }
            }
        };
        tokio::select! {
            () = shutdown.begun() => {}
            () = serving => {}
        }
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes what a dead process left.
fn clear(path: &Path) -> Result<()> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {shown}")),
        Ok(found) if !found.file_type().is_socket() => {
            bail!("{shown} is no socket: remove it, or name another place by [admin] socket")
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(|| format!("cannot remove {shown}, which a process left that is gone"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot find out who listens at {shown}")),
        Ok(_) => bail!("another process listens at {shown}: end it, or name another place by [admin] socket"),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

async fn converse(mut stream: UnixStream, operations: &Operations, most: usize) {
    match stream.peer_cred() {
        Ok(peer) if is_trusted(peer.uid()) => {}
        Ok(peer) => {
            return warn!(
                user = peer.uid(),
                "a user was refused who may not use the [admin] socket"
            );
        }
        Err(error) => return warn!(%error, "somebody was refused who uses the [admin] socket and cannot be known"),
    }
    let request = match timeout(PATIENCE, wire::read(&mut stream, most)).await {
        Ok(Ok(request)) => request,
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            let refused = Answer::Refused(format!("it was asked by {error}"));
            return tell(&mut stream, &refused).await;
        }
        Ok(Err(error)) => return debug!(%error, "somebody left the [admin] socket without a word"),
        Err(_) => return debug!("somebody said too little at the [admin] socket"),
    };
    let answer = tokio::select! {
        answer = answer(request, operations) => answer,
        // Whoever has asked says nothing more: this is the end of the connection.
        _ = stream.read_u8() => return,
    };
    tell(&mut stream, &answer).await;
}

async fn tell(stream: &mut UnixStream, answer: &Answer) {
    match timeout(PATIENCE, wire::write(stream, answer)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "an answer at the [admin] socket was not taken"),
        Err(_) => debug!("an answer at the [admin] socket was not taken in time"),
    }
}

async fn answer(request: Request, operations: &Operations) -> Answer {
    let answered = match request {
        Request::PutComponent(bytes) => operations.releases.put_component(bytes).await.map(Answer::Digest),
        Request::Component(digest) => operations.releases.component(&digest).await.map(Answer::Component),
        Request::PruneComponents => operations.releases.prune_components().await.map(|()| Answer::Done),
        Request::Board => board(operations).await,
        Request::BoardAfter(version) => match timeout(CHANGE, operations.releases.board_after(version)).await {
            Ok(Ok((version, board))) => Ok(Answer::Board(version, json(&board))),
            Ok(Err(error)) => Err(error),
            Err(_) => board(operations).await,
        },
        Request::PostBoard(version, board) => match serde_json::from_str(&board) {
            Ok(board) => operations
                .releases
                .post_board(version, &board)
                .await
                .map(Answer::Posted),
            Err(error) => Ok(Answer::Refused(format!("this is no board: {error}"))),
        },
        Request::Report(report) => match serde_json::from_str(&report) {
            Ok(report) => operations.nodes.report(&report).await.map(|()| Answer::Done),
            Err(error) => Ok(Answer::Refused(format!("this is no report: {error}"))),
        },
        Request::AppNodes => operations.nodes.app_nodes().await.map(|nodes| {
            let nodes = nodes
                .into_iter()
                .map(|(node, report)| (node, report.as_ref().map(json)));
            Answer::AppNodes(nodes.collect())
        }),
        Request::Backlog => operations.nodes.backlog().await.map(Answer::Backlog),
        Request::IoNodes => operations.nodes.io_nodes().await.map(Answer::IoNodes),
        Request::Timers => operations.nodes.timers().await.map(Answer::Timers),
        Request::DeadLetters(most) => operations.dead_letters.dead_letters(most).await.map(|letters| {
            let ids = letters.iter().map(|letter| letter.id);
            Answer::DeadLetters(ids.collect())
        }),
        Request::DeadLetter(id) => {
            let found = operations.dead_letters.dead_letter(id).await;
            found.map(|letter| Answer::DeadLetter(letter.map(|letter| Box::new(letter.into()))))
        }
        Request::Revive(id) => operations.dead_letters.revive(id).await.map(Answer::Revived),
        Request::Bury(id) => operations.dead_letters.bury(id).await.map(Answer::Buried),
        Request::Sweep(sweep, from) => operations.dead_letters.sweep(&sweep, from).await.map(Answer::Swept),
    };
    answered.unwrap_or_else(|error| Answer::Refused(error.to_string()))
}

async fn board(operations: &Operations) -> plugnode_transport::Result<Answer> {
    let (version, board) = operations.releases.board().await?;
    Ok(Answer::Board(version, json(&board)))
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("boards and reports have texts for keys, and finite numbers or none")
}
