//! Node: socket.io 4 in one process, and the usual setup of several processes with Redis.
//!
//! The scripts, their settings, and the settings that were tried, are in `node/`.

use std::path::Path;

use super::probe::answering;
use super::{redis_server, script, url};
use crate::server::{Process, Server};

/// A single process.
pub(crate) async fn node_alone(folder: &Path) -> Server {
    let mut alone = script("alone", "alone.mjs", &[], folder);
    answering(Server {
        name: "socket.io alone",
        ports: vec![alone.port().await],
        in_order: true,
        processes: vec![alone],
    })
    .await
}

/// Processes that hold connections, processes that handle messages, and Redis between them.
pub(crate) async fn node(folder: &Path, io: usize, app: usize) -> Server {
    let (redis, port) = redis_server(folder).await;
    let url = url(port);
    // A consumer group gives messages to any worker, so several workers do not keep order.
    let in_order = app == 1;
    let start = |name, file| {
        let url = &url;
        move |_| script(name, file, &[url], folder)
    };
    let mut io: Vec<Process> = (0..io).map(start("io", "io.mjs")).collect();
    let mut app: Vec<Process> = (0..app).map(start("app", "app.mjs")).collect();
    let mut ports = Vec::new();
    for process in &mut io {
        ports.push(process.port().await);
    }
    for process in &mut app {
        process.wait_for("reading the stream").await;
    }
    answering(Server {
        name: "socket.io, redis streams",
        ports,
        in_order,
        processes: io.into_iter().chain(app).chain([redis]).collect(),
    })
    .await
}
