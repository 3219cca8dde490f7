//! Echo: `plugnode` on the memory transport beside a bare socketioxide server, in one run.
//!
//! 100 clients with 8 messages in flight each, several rounds in turn, medians. The load shares the machine with the
//! servers, so read the ratios, and CPU time of the server per message before messages per second.
//! `cargo bench -p plugnode-tests --bench echo`, after `make build`.

mod load;
mod race;
mod server;

use std::net::SocketAddr;
use std::process::ExitCode;

use plugnode_tests::{app, component};
use server::{Process, Server};
use socketioxide::SocketIo;
use socketioxide::extract::{Data, Event, SocketRef};
use tokio::process::Command;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> ExitCode {
    if std::env::args().any(|arg| arg == "--bare") {
        bare().await;
    }
    let folder = tempfile::tempdir().expect("a temporary folder can be made");
    let config = format!(
        "[http]\nlisten = \"127.0.0.1:0\"\n{}",
        app("/", &component("echo"), "instances = 2")
    );
    std::fs::write(folder.path().join("plugnode.toml"), config).expect("it can be written");

    let mut command = Command::new(std::env::current_exe().expect("a program knows itself"));
    command.arg("--bare");
    let mut bare = Process::start("bare", command, folder.path());
    let mut command = Command::new(server::plugnode());
    command.args(["run", "-c", "plugnode.toml"]);
    let mut plugnode = Process::start("plugnode", command, folder.path());
    let servers = [
        Server {
            name: "bare socketioxide",
            port: bare.port().await,
            // Its handlers are async, as is usual, and each runs in a task of its own.
            in_order: false,
            processes: vec![bare],
        },
        Server {
            name: "plugnode, memory",
            port: plugnode.port().await,
            in_order: true,
            processes: vec![plugnode],
        },
    ];
    race::run("echo", &servers).await
}

/// The floor: socketioxide alone, with a handler that emits what it gets.
async fn bare() -> ! {
    let (service, io) = SocketIo::new_svc();
    io.ns("/", |socket: SocketRef| {
        socket.on_fallback(
            async |socket: SocketRef, Event(event): Event, Data(data): Data<serde_json::Value>| {
                socket.emit(event, &data).expect("there is room in the queue");
            },
        );
        // What is in an async closure runs later: a quick client's first events would find no handler and be dropped.
        async {}
    });
    let listener = tokio::net::TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0)))
        .await
        .expect("a port is free");
    eprintln!("listening on http://{}", listener.local_addr().expect("it listens"));
    loop {
        let (tcp, _) = listener.accept().await.expect("connections can be taken");
        tcp.set_nodelay(true).expect("it is TCP");
        let connection = hyper::server::conn::http1::Builder::new()
            .serve_connection(hyper_util::rt::TokioIo::new(tcp), service.clone())
            .with_upgrades();
        tokio::spawn(connection);
    }
}
