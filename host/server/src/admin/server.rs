//! The server side, in the running process: answers one request on each connection.

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

use super::socket_path::{is_trusted, prepare};
use super::wire::{self, Request, Response};
use plugnode_process::shutdown::Shutdown;
use plugnode_transport::Operations;

/// Number of connections that are served at once. Further ones wait.
const MAX_CONNECTIONS: usize = 16;
/// Time to read a request, and to write a response.
const IO_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a request waits for a change of the board. After it, the response is the present board, and the client asks again.
const BOARD_TIMEOUT: Duration = Duration::from_secs(5);
/// Pause after an accept that failed for lack of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A bound socket. Its file is removed when this is dropped.
#[derive(Debug)]
pub struct AdminListener {
    listener: UnixListener,
    path: PathBuf,
    /// Device and inode of its file: another process may have replaced it.
    file: (u64, u64),
}

impl AdminListener {
    /// Binds a socket that only this user can use. The file of a dead process is replaced.
    ///
    /// # Errors
    /// If another process listens there, or other users could replace the socket, with what to do.
    pub fn bind(path: &Path) -> Result<Self> {
        prepare(path)?;
        remove_stale(path)?;
        let shown = path.display();
        let listener = UnixListener::bind(path).with_context(|| format!("cannot listen at {shown}"))?;
        fs::set_permissions(path, Permissions::from_mode(0o600)).with_context(|| format!("cannot protect {shown}"))?;
        let file = identity(path).with_context(|| format!("cannot look at {shown}"))?;
        let path = path.into();
        Ok(Self { listener, path, file })
    }

    /// Answers requests until shutdown begins. Components have at most `max_component` bytes.
    pub async fn serve(self, operations: Operations, max_component: usize, shutdown: Shutdown) {
        let max_message = wire::max_message(max_component);
        let permits = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let serving = async {
            loop {
                let permit = permits.clone().acquire_owned().await;
                let permit = permit.expect("the semaphore is never closed");
                match self.listener.accept().await {
                    Ok((stream, _)) => {
                        let (operations, ending) = (operations.clone(), shutdown.clone());
                        shutdown.spawn(async move {
                            tokio::select! {
                                () = ending.begun() => {}
                                () = serve_connection(stream, &operations, max_message) => {}
                            }
                            drop(permit);
                        });
                    }
                    Err(error) => {
                        warn!(%error, socket = %self.path.display(), "cannot accept a connection of the command line; trying again");
                        sleep(ACCEPT_PAUSE).await;
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

impl Drop for AdminListener {
    fn drop(&mut self) {
        if identity(&self.path).is_ok_and(|file| file == self.file) {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the socket file of a dead process.
fn remove_stale(path: &Path) -> Result<()> {
    let shown = path.display();
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).with_context(|| format!("cannot look at {shown}")),
        Ok(found) if !found.file_type().is_socket() => {
            bail!("{shown} is no socket: remove it, or choose another path by [admin] socket")
        }
        Ok(_) => {}
    }
    match std::os::unix::net::UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).with_context(|| format!("cannot remove {shown}, the socket of a dead process"))
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("cannot find out whether a process listens at {shown}")),
        Ok(_) => bail!("another process listens at {shown}: stop it, or choose another path by [admin] socket"),
    }
}

fn identity(path: &Path) -> io::Result<(u64, u64)> {
    let found = fs::symlink_metadata(path)?;
    Ok((found.dev(), found.ino()))
}

async fn serve_connection(mut stream: UnixStream, operations: &Operations, max_message: usize) {
    match stream.peer_cred() {
        Ok(peer) if is_trusted(peer.uid()) => {}
        Ok(peer) => {
            return warn!(
                user = peer.uid(),
                "[admin] socket: refused a connection of another user"
            );
        }
        Err(error) => return warn!(%error, "[admin] socket: refused a connection whose user is not known"),
    }
    let request = match timeout(IO_TIMEOUT, wire::read(&mut stream, max_message)).await {
        Ok(Ok(request)) => request,
        Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
            let refused = Response::Refused(format!("the request is {error}"));
            return respond(&mut stream, &refused).await;
        }
        Ok(Err(error)) => return debug!(%error, "[admin] socket: the connection ended before a request"),
        Err(_) => return debug!("[admin] socket: no request in time"),
    };
    let response = tokio::select! {
        response = respond_to(request, operations) => response,
        // A client sends nothing after its request, so it has closed the connection.
        _ = stream.read_u8() => return,
    };
    respond(&mut stream, &response).await;
}

async fn respond(stream: &mut UnixStream, response: &Response) {
    match timeout(IO_TIMEOUT, wire::write(stream, response)).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => debug!(%error, "[admin] socket: cannot send the response"),
        Err(_) => debug!("[admin] socket: the client did not read the response in time"),
    }
}

async fn respond_to(request: Request, operations: &Operations) -> Response {
    let result = match request {
        Request::PutComponent(bytes) => operations.releases.put_component(bytes).await.map(Response::Digest),
        Request::Component(digest) => operations.releases.component(&digest).await.map(Response::Component),
        Request::PruneComponents => operations.releases.prune_components().await.map(|()| Response::Done),
        Request::Board => board(operations).await,
        Request::BoardAfter(version) => match timeout(BOARD_TIMEOUT, operations.releases.board_after(version)).await {
            Ok(Ok((version, board))) => Ok(Response::Board(version, json(&board))),
            Ok(Err(error)) => Err(error),
            Err(_) => board(operations).await,
        },
        Request::PostBoard(version, board) => match serde_json::from_str(&board) {
            Ok(board) => operations
                .releases
                .post_board(version, &board)
                .await
                .map(Response::Posted),
            Err(error) => Ok(Response::Refused(format!("it has no valid board: {error}"))),
        },
        Request::Report(report) => match serde_json::from_str(&report) {
            Ok(report) => operations.nodes.report(&report).await.map(|()| Response::Done),
            Err(error) => Ok(Response::Refused(format!("it has no valid report: {error}"))),
        },
        Request::AppNodes => operations.nodes.app_nodes().await.map(|nodes| {
            let nodes = nodes
                .into_iter()
                .map(|(node, report)| (node, report.as_ref().map(json)));
            Response::AppNodes(nodes.collect())
        }),
        Request::Backlog => operations.nodes.backlog().await.map(Response::Backlog),
        Request::IoNodes => operations.nodes.io_nodes().await.map(Response::IoNodes),
        Request::Timers => operations.nodes.timers().await.map(Response::Timers),
        Request::DeadLetters(most) => operations.dead_letters.dead_letters(most).await.map(|letters| {
            let ids = letters.iter().map(|letter| letter.id);
            Response::DeadLetters(ids.collect())
        }),
        Request::DeadLetter(id) => {
            let found = operations.dead_letters.dead_letter(id).await;
            found.map(|letter| Response::DeadLetter(letter.map(|letter| Box::new(letter.into()))))
        }
        Request::RetryDead(id) => operations.dead_letters.retry(id).await.map(Response::Retried),
        Request::DeleteDead(id) => operations.dead_letters.delete(id).await.map(Response::Deleted),
        Request::Sweep(sweep, from) => operations.dead_letters.sweep(&sweep, from).await.map(Response::Swept),
    };
    result.unwrap_or_else(|error| Response::Refused(error.to_string()))
}

async fn board(operations: &Operations) -> plugnode_transport::Result<Response> {
    let (version, board) = operations.releases.board().await?;
    Ok(Response::Board(version, json(&board)))
}

fn json(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("boards and reports have string keys")
}
