//! The conformance list of releases over the socket, and malformed, silent and dead peers.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::*;
use plugnode_process::shutdown::Shutdown;
use plugnode_release::{Board, Digest};
use plugnode_transport::releases_conformance::{MAX_COMPONENT, ReleaseFixture};
use plugnode_transport::{Memory, Nodes, Operations, Releases, Transport, TransportError, TransportSettings};

const SOON: Duration = Duration::from_secs(20);

plugnode_transport::releases_conform! {
    over_the_socket: crate::admin::tests::stage(),
}

/// A folder for the socket, and the server's shutdown.
struct Fixture {
    folder: TempDir,
    shutdown: Shutdown,
}

impl Fixture {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shutdown = Shutdown::new();
        Self { folder, shutdown }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("made/8080.sock")
    }

    async fn serve(&self, memory: &Memory) -> AdminClient {
        let socket = AdminListener::bind(&self.path()).unwrap();
        let serving = socket.serve(
            Transport::from(memory.clone()).operations(),
            MAX_COMPONENT,
            self.shutdown.clone(),
        );
        self.shutdown.spawn(serving);
        AdminClient::connect(&self.path(), MAX_COMPONENT).await.unwrap()
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

fn memory() -> Memory {
    Memory::new(TransportSettings {
        max_component: MAX_COMPONENT,
        ..TransportSettings::default()
    })
}

async fn stage() -> (ReleaseFixture, Fixture) {
    let fixture = Fixture::new();
    let memory = memory();
    let operations = Operations::of(Arc::new(fixture.serve(&memory).await));
    let transport = Transport::from(memory);
    (ReleaseFixture { transport, operations }, fixture)
}

async fn refused<T: std::fmt::Debug>(call: impl Future<Output = plugnode_transport::Result<T>>) -> String {
    match timeout(SOON, call).await.expect("a response comes") {
        Err(TransportError::Unusable(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn malformed_requests_harm_no_others() {
    let fixture = Fixture::new();
    let client = fixture.serve(&memory()).await;
    let garbage: Vec<Vec<u8>> = vec![
        Vec::new(),
        vec![1],
        vec![0, 0, 0, 0],
        vec![255, 255, 255, 255],
        vec![0, 0, 0, 1, 1],
        vec![1, 0, 0, 0, 99],
        vec![2, 0, 0, 0, 1, 200],
        vec![3, 0, 0, 0, 1, 3, 7],
        b"GET / HTTP/1.1\r\nHost: here\r\n\r\n".to_vec(),
        (0..255).collect(),
    ];
    for bytes in garbage {
        let mut stream = UnixStream::connect(fixture.path()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(SOON, stream.read_to_end(&mut answer)).await;
        let _ = read.expect("the connection is ended");
        assert_eq!(client.backlog().await.unwrap(), 0, "after {bytes:?}");
    }
}

#[tokio::test]
async fn silent_connections_delay_others_only_briefly() {
    let fixture = Fixture::new();
    let client = fixture.serve(&memory()).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        let mut stream = UnixStream::connect(fixture.path()).await.unwrap();
        stream.write_all(&[9, 0, 0]).await.unwrap();
        silent.push(stream);
    }
    silent.truncate(20);
    // Closed connections free their permits at once, silent ones after the timeout.
    assert_eq!(timeout(2 * SOON, client.backlog()).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn cancelled_board_request_frees_its_connection() {
    let fixture = Fixture::new();
    let client = fixture.serve(&memory()).await;
    for _ in 0..100 {
        let waits = timeout(Duration::from_millis(2), client.board_after(0));
        assert!(waits.await.is_err());
    }
    assert_eq!(
        timeout(SOON, client.board()).await.unwrap().unwrap(),
        (0, Board::default())
    );
}

#[tokio::test]
async fn absent_process_is_reported_with_remedy() {
    let fixture = Fixture::new();
    let reason = refused(AdminClient::connect(&fixture.path(), MAX_COMPONENT)).await;
    assert!(reason.starts_with("no plugnode runs at "), "{reason}");
    assert!(
        reason.contains("start it, or name the one that you mean by -c"),
        "{reason}"
    );
    let client = fixture.serve(&memory()).await;
    let wide = AdminClient::connect(&fixture.path(), 100 * MAX_COMPONENT)
        .await
        .unwrap();
    let reason = refused(wide.put_component(Bytes::from(vec![0; 20 * MAX_COMPONENT]))).await;
    assert!(reason.contains("bytes"), "{reason}");
    fixture.shutdown.begin();
    assert!(fixture.shutdown.drained(SOON).await);
    assert!(!fixture.path().exists(), "it is removed at the end");
    let reason = refused(client.component(&Digest::of(b""))).await;
    assert!(reason.starts_with("no plugnode runs at "), "{reason}");
}

#[tokio::test]
async fn client_does_not_wait_for_dead_process() {
    let fixture = Fixture::new();
    let client = fixture.serve(&memory()).await;
    let asked = tokio::spawn(async move { refused(client.board_after(0)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    fixture.shutdown.begin();
    let reason = timeout(SOON, asked).await.unwrap().unwrap();
    assert!(
        reason.contains("has ended the connection") || reason.starts_with("no plugnode runs"),
        "{reason}"
    );
}

#[tokio::test]
async fn socket_is_accessible_to_its_user_only() {
    let fixture = Fixture::new();
    let _client = fixture.serve(&memory()).await;
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&fixture.path()), 0o600);
    assert_eq!(mode(fixture.path().parent().unwrap()), 0o700);
}

#[tokio::test]
async fn replaces_stale_socket_but_not_live_one() {
    let fixture = Fixture::new();
    let path = fixture.path();
    fs::create_dir(path.parent().unwrap()).unwrap();
    // A listener of the standard library leaves its file behind, as a killed process does.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let client = fixture.serve(&memory()).await;
    let error = format!("{:#}", AdminListener::bind(&path).unwrap_err());
    assert!(
        error.contains("another process listens at") && error.contains("8080.sock"),
        "{error}"
    );
    assert_eq!(client.backlog().await.unwrap(), 0, "the first one still answers");
}

#[tokio::test]
async fn refuses_path_that_others_can_replace() {
    let fixture = Fixture::new();
    let open = fixture.folder.path().join("open");
    fs::create_dir(&open).unwrap();
    let file = fixture.folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    let link = fixture.folder.path().join("link");
    std::os::unix::fs::symlink(fixture.folder.path(), &link).unwrap();
    let long = fixture.folder.path().join("x".repeat(100)).join("8080.sock");
    for mode in [0o770, 0o702, 0o777] {
        fs::set_permissions(&open, Permissions::from_mode(mode)).unwrap();
        let error = format!("{:#}", AdminListener::bind(&open.join("a.sock")).unwrap_err());
        assert!(error.contains("chmod go-w"), "{error}");
    }
    for (path, expected) in [
        (file.clone(), "is no socket"),
        (file.join("a.sock"), "cannot create the folder"),
        (link.join("a.sock"), "is no folder"),
        (long, "choose a shorter one by [admin] socket"),
    ] {
        let error = format!("{:#}", AdminListener::bind(&path).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "precious");
    assert_eq!(path(Some(Path::new("")), 8080), None);
    assert_eq!(path(Some(Path::new("/a/b")), 8080), Some("/a/b".into()));
    let default = path(None, 8080).unwrap();
    assert!(default.is_absolute() && default.ends_with("8080.sock"), "{default:?}");
}
