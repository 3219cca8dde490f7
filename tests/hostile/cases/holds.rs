//! Connections that are held without use: new clients are served meanwhile, and the server closes the held ones in time.

use std::time::Duration;

use anyhow::{Context, ensure};
use futures_util::future::join_all;
use plugnode_tests::raw_client::frame;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::bystander::Bystander;
use crate::case::{Case, CaseResult, OURS};
use crate::server::Server;

const MUST: &str = "new clients are served at once; held connections are closed within --patience";
const SLOWLORIS: &str = "CVE-2007-6750 (Apache, Slowloris)";

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "idle-connections",
            "300 connections that send nothing",
            MUST,
            SLOWLORIS,
            |server| held(server, 300, String::new()),
        )
        .patient(),
        Case::new(
            "slow-headers",
            "100 connections that send a header a byte every 200 ms",
            MUST,
            SLOWLORIS,
            slow_headers,
        )
        .patient(),
        Case::new(
            "slow-bodies",
            "100 POSTs to sessions whose body comes a byte every 200 ms",
            MUST,
            "CVE-2007-6750 and its kind (R-U-Dead-Yet)",
            slow_bodies,
        )
        .patient(),
        Case::new(
            "unread-files",
            "300 connections that ask for a file three times and read nothing",
            MUST,
            "CVE-2019-9517 (the same of HTTP/2), and found by attacking plugnode",
            unread_files,
        )
        .patient(),
        Case::new(
            "unread-pipelines",
            "300 connections that send 2,000 requests each at once and read nothing, in segments of 536 bytes so that no kernel holds the answers",
            MUST,
            OURS,
            unread_pipelines,
        )
        .patient()
        .seconds(30),
        Case::new(
            "unfinished-messages",
            "267 websockets of one address with 950 KB of an unfinished message each, 254 MB together",
            "their total memory is bounded, and messages of 200 KB of others pass",
            OURS,
            unfinished_messages,
        )
        .seconds(40)
        .megabytes(350),
        Case::new(
            "unfinished-bodies",
            "267 POSTs of one address that send 950 KB of 960 KB, 254 MB together",
            "their total memory is bounded, and messages of 200 KB of others pass",
            OURS,
            unfinished_bodies,
        )
        .seconds(40)
        .megabytes(350),
    ]
}

async fn held(server: Server, connections: usize, bytes: String) -> CaseResult {
    let files = server.files();
    let held = server.hold(connections, bytes.as_bytes()).await?;
    server.assert_released(held, files).await
}

async fn slow_headers(server: Server) -> CaseResult {
    let begin = format!(
        "GET {} HTTP/1.1\r\nHost: {}\r\nX-Slow: ",
        server.query("polling", ""),
        server.host
    );
    dripping(&server, vec![begin; 100]).await
}

async fn slow_bodies(server: Server) -> CaseResult {
    let mut begins = Vec::new();
    for _ in 0..100 {
        let path = server.query("polling", &format!("&sid={}", server.session().await?.sid));
        begins.push(format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 100000\r\n\r\n42[",
            server.host
        ));
    }
    dripping(&server, begins).await
}

/// Connections that start with this text and then send a byte every 200 ms.
async fn dripping(server: &Server, begins: Vec<String>) -> CaseResult {
    let files = server.files();
    let streams = join_all(begins.iter().map(|begin| server.hold(1, begin.as_bytes()))).await;
    let (readers, writers): (Vec<_>, Vec<_>) = streams
        .into_iter()
        .collect::<anyhow::Result<Vec<_>>>()?
        .into_iter()
        .flatten()
        .map(TcpStream::into_split)
        .unzip();
    let drips = tokio::spawn(join_all(writers.into_iter().map(|mut writer| async move {
        while writer.write_all(b"x").await.is_ok() {
            sleep(Duration::from_millis(200)).await;
        }
    })));
    let end = server.assert_released_count(readers.len(), files).await;
    drips.abort();
    end
}

async fn unread_files(server: Server) -> CaseResult {
    let request = format!("GET {} HTTP/1.1\r\nHost: {}\r\n\r\n", server.file()?, server.host);
    held(server, 300, request.repeat(3)).await
}

async fn unread_pipelines(server: Server) -> CaseResult {
    let request = format!(
        "GET {}?EIO=4&transport=none HTTP/1.1\r\nHost: {}\r\n\r\n",
        server.path, server.host
    );
    let files = server.files();
    let held = server.hold_small(300, request.repeat(2_000).as_bytes()).await?;
    server.assert_released(held, files).await
}

async fn unfinished_messages(server: Server) -> CaseResult {
    let part = frame(0x01, &vec![b'x'; 950_000]);
    let mut sockets = Vec::new();
    for _ in 0..267 {
        let mut socket = server.socket().await?;
        // The server may close it, which is fine.
        let _ = tokio::time::timeout(Duration::from_secs(1), socket.write(&part)).await;
        sockets.push(socket);
    }
    others_pass(&server).await
}

async fn unfinished_bodies(server: Server) -> CaseResult {
    let mut streams = Vec::new();
    for _ in 0..267 {
        let path = server.query("polling", &format!("&sid={}", server.session().await?.sid));
        let head = format!(
            "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 960000\r\n\r\n",
            server.host
        );
        streams.extend(
            server
                .hold(1, format!("{head}{}", "x".repeat(950_000)).as_bytes())
                .await?,
        );
    }
    others_pass(&server).await
}

/// Fails unless messages of 200 KB of the bystander are echoed in time.
async fn others_pass(server: &Server) -> CaseResult {
    let mut other = Bystander::connect(server).await.context("a newcomer is not served")?;
    let text = "x".repeat(200_000);
    for _ in 0..3 {
        let took = other.echo(&text).await.context("a message of 200 KB of another")?;
        ensure!(
            took < Duration::from_secs(1).mul_f64(server.slack),
            "a message of 200 KB takes {took:.1?}"
        );
    }
    Ok("others' messages pass".into())
}
