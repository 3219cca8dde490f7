//! The socket held to the list of what registries do, and against whoever means no good or is no more.

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
use plugnode_transport::releases_conformance::{MAX_COMPONENT, Stage};
use plugnode_transport::{Memory, MemorySettings, Nodes, Operations, Releases, Transport, TransportError};

const SOON: Duration = Duration::from_secs(20);

plugnode_transport::releases_conform! {
    over_the_socket: crate::admin::tests::stage(),
}

/// A folder that is removed, and a server that ends, with it.
struct Place {
    folder: TempDir,
    shutdown: Shutdown,
}

impl Place {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let shutdown = Shutdown::new();
        Self { folder, shutdown }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("made/8080.sock")
    }

    async fn serve(&self, memory: &Memory) -> Remote {
        let socket = Socket::bind(&self.path()).unwrap();
        let serving = socket.serve(
            Transport::from(memory.clone()).operations(),
            MAX_COMPONENT,
            self.shutdown.clone(),
        );
        self.shutdown.spawn(serving);
        Remote::connect(&self.path(), MAX_COMPONENT).await.unwrap()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

fn memory() -> Memory {
    Memory::new(MemorySettings {
        max_component: MAX_COMPONENT,
        ..MemorySettings::default()
    })
}

async fn stage() -> (Stage, Place) {
    let place = Place::new();
    let memory = memory();
    let operations = Operations::of(Arc::new(place.serve(&memory).await));
    let transport = Transport::from(memory);
    (Stage { transport, operations }, place)
}

async fn refused<T: std::fmt::Debug>(asked: impl Future<Output = plugnode_transport::Result<T>>) -> String {
    match timeout(SOON, asked).await.expect("it is answered") {
        Err(TransportError::Unusable(reason)) => reason,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn what_is_no_request_harms_nobody() {
    let place = Place::new();
    let remote = place.serve(&memory()).await;
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
        let mut stream = UnixStream::connect(place.path()).await.unwrap();
        stream.write_all(&bytes).await.unwrap();
        stream.shutdown().await.unwrap();
        let mut answer = Vec::new();
        let read = timeout(SOON, stream.read_to_end(&mut answer)).await;
        let _ = read.expect("the connection is ended");
        assert_eq!(remote.backlog().await.unwrap(), 0, "after {bytes:?}");
    }
}

#[tokio::test]
async fn those_who_say_nothing_keep_others_waiting_for_a_moment_only() {
    let place = Place::new();
    let remote = place.serve(&memory()).await;
    let mut silent = Vec::new();
    for _ in 0..40 {
        let mut stream = UnixStream::connect(place.path()).await.unwrap();
        stream.write_all(&[9, 0, 0]).await.unwrap();
        silent.push(stream);
    }
    silent.truncate(20);
    // Those who are gone make room at once, and those who stay when their time is over.
    assert_eq!(timeout(2 * SOON, remote.backlog()).await.unwrap().unwrap(), 0);
}

#[tokio::test]
async fn whoever_waits_for_the_board_and_goes_makes_room() {
    let place = Place::new();
    let remote = place.serve(&memory()).await;
    for _ in 0..100 {
        let waits = timeout(Duration::from_millis(2), remote.board_after(0));
        assert!(waits.await.is_err());
    }
    assert_eq!(
        timeout(SOON, remote.board()).await.unwrap().unwrap(),
        (0, Board::default())
    );
}

#[tokio::test]
async fn nobody_there_is_said_with_what_to_do() {
    let place = Place::new();
    let reason = refused(Remote::connect(&place.path(), MAX_COMPONENT)).await;
    assert!(reason.starts_with("no plugnode runs at "), "{reason}");
    assert!(reason.contains("start it, or name its config file by -c"), "{reason}");
    let remote = place.serve(&memory()).await;
    let wide = Remote::connect(&place.path(), 100 * MAX_COMPONENT).await.unwrap();
    let reason = refused(wide.put_component(Bytes::from(vec![0; 20 * MAX_COMPONENT]))).await;
    assert!(reason.contains("bytes"), "{reason}");
    place.shutdown.begin();
    assert!(place.shutdown.drained(SOON).await);
    assert!(!place.path().exists(), "it is removed at the end");
    let reason = refused(remote.component(&Digest::of(b""))).await;
    assert!(reason.starts_with("no plugnode runs at "), "{reason}");
}

#[tokio::test]
async fn a_process_that_dies_while_it_is_asked_is_not_waited_for() {
    let place = Place::new();
    let remote = place.serve(&memory()).await;
    let asked = tokio::spawn(async move { refused(remote.board_after(0)).await });
    tokio::time::sleep(Duration::from_millis(50)).await;
    place.shutdown.begin();
    let reason = timeout(SOON, asked).await.unwrap().unwrap();
    assert!(
        reason.contains("has ended the connection") || reason.starts_with("no plugnode runs"),
        "{reason}"
    );
}

#[tokio::test]
async fn the_socket_is_for_its_user_alone() {
    let place = Place::new();
    let _remote = place.serve(&memory()).await;
    let mode = |path: &Path| fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&place.path()), 0o600);
    assert_eq!(mode(place.path().parent().unwrap()), 0o700);
}

#[tokio::test]
async fn a_stale_socket_is_replaced_and_a_live_one_is_left() {
    let place = Place::new();
    let path = place.path();
    fs::create_dir(path.parent().unwrap()).unwrap();
    // A listener of the standard library leaves its file behind, as a killed process does.
    drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
    assert!(path.exists());
    let remote = place.serve(&memory()).await;
    let error = format!("{:#}", Socket::bind(&path).unwrap_err());
    assert!(
        error.contains("another process listens at") && error.contains("8080.sock"),
        "{error}"
    );
    assert_eq!(remote.backlog().await.unwrap(), 0, "the first one goes on");
}

#[tokio::test]
async fn a_place_that_others_can_meddle_with_is_refused() {
    let place = Place::new();
    let open = place.folder.path().join("open");
    fs::create_dir(&open).unwrap();
    let file = place.folder.path().join("file");
    fs::write(&file, "precious").unwrap();
    let link = place.folder.path().join("link");
    std::os::unix::fs::symlink(place.folder.path(), &link).unwrap();
    let long = place.folder.path().join("x".repeat(100)).join("8080.sock");
    for mode in [0o770, 0o702, 0o777] {
        fs::set_permissions(&open, Permissions::from_mode(mode)).unwrap();
        let error = format!("{:#}", Socket::bind(&open.join("a.sock")).unwrap_err());
        assert!(error.contains("chmod go-w"), "{error}");
    }
    for (path, expected) in [
        (file.clone(), "is no socket"),
        (file.join("a.sock"), "cannot make the folder"),
        (link.join("a.sock"), "is no folder"),
        (long, "name a shorter one by [admin] socket"),
    ] {
        let error = format!("{:#}", Socket::bind(&path).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!(fs::read_to_string(file).unwrap(), "precious");
    assert_eq!(path(Some(Path::new("")), 8080), None);
    assert_eq!(path(Some(Path::new("/a/b")), 8080), Some("/a/b".into()));
    let default = path(None, 8080).unwrap();
    assert!(default.is_absolute() && default.ends_with("8080.sock"), "{default:?}");
}
