//! Unusual sequences within a session of Engine.IO and Socket.IO: handled as the protocols' documents and Node's server do.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use hyper::Method;
use hyper::body::Bytes;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::case::{Case, CaseResult, ENGINE, OURS};
use crate::server::Server;
use crate::socket::Heard;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "second-websocket-of-a-session",
            "opens a websocket with the sid of a session that has been upgraded",
            "it is refused or closed, and the first stays",
            ENGINE,
            second_websocket_of_a_session,
        ),
        Case::new(
            "eight-hundred-websockets",
            "opens 800 websockets with the sid of one polling session, and sends no probe on any",
            "at most two stay open",
            OURS,
            eight_hundred_websockets,
        )
        .seconds(25),
        Case::new(
            "probe-of-nonsense",
            "opens a websocket for a polling session and sends no probe but other packets",
            "it is closed, or ignores them; the session goes on by polling",
            ENGINE,
            probe_of_nonsense,
        ),
        Case::new(
            "upgrade-and-noop-on-websocket",
            "sends the packets 5 and 6 on a websocket that is not an upgrade",
            "they are ignored",
            OURS,
            upgrade_and_noop_on_websocket,
        ),
        Case::new(
            "second-connect",
            "sends `40` twice",
            "the connection is closed",
            "Socket.IO protocol 5, and its test suite",
            second_connect,
        ),
        Case::new(
            "second-connect-by-polling",
            "POSTs `40` twice while a poll is pending",
            "the pending poll ends with the packet 1 or with 400",
            OURS,
            second_connect_by_polling,
        ),
        Case::new(
            "event-before-connect",
            "sends an event and no `40` before it",
            "the connection is closed",
            "Socket.IO protocol 5, and its test suite",
            event_before_connect,
        ),
        Case::new(
            "two-polls-at-once",
            "polls while a poll is pending",
            "the second is refused, and the session ends",
            ENGINE,
            two_polls_at_once,
        ),
        Case::new(
            "two-posts-at-once",
            "POSTs while the body of another POST of the session is incomplete",
            "the second is refused, and the session ends",
            ENGINE,
            two_posts_at_once,
        ),
        Case::new(
            "polls-are-not-kept",
            "opens a session and polls",
            "answers say cache-control: no-store",
            OURS,
            polls_are_not_kept,
        ),
        Case::new(
            "post-of-2-mb",
            "POSTs 2 MB where messages may have 1 MB",
            "413 or 400, or the end of the connection",
            "CVE-2020-36048, GHSA-j4f2-536g-r55m (engine.io)",
            post_of_2_mb,
        ),
    ]
}

async fn second_websocket_of_a_session(server: Server) -> CaseResult {
    let polling = server.polling_client().await?;
    let query = format!("&sid={}", polling.sid);
    let mut first = server.upgrade(&query, "").await?.socket()?;
    first.send("2probe").await?;
    first.hear("3probe").await?;
    first.send("5").await?;
    first.is_served().await?;
    let second = server.upgrade(&query, "").await?;
    let status = second.status;
    if status == 101 {
        second.socket()?.closed().await.context("the second")?;
    }
    first.is_served().await.context("the first")?;
    Ok(format!("the second is answered by {status} and not open"))
}

async fn eight_hundred_websockets(server: Server) -> CaseResult {
    let polling = server.polling_client().await?;
    let query = format!("&sid={}", polling.sid);
    let mut open = Vec::new();
    for _ in 0..800 {
        let opened = server.upgrade(&query, "").await?;
        if opened.status == 101 {
            open.push(opened.socket()?);
        }
    }
    let mut left = 0;
    for socket in &mut open {
        // A closed websocket reports that at once.
        left += usize::from(timeout(Duration::from_millis(20), socket.next()).await.is_err());
        if left > 2 {
            bail!("more than two of 800 are open");
        }
    }
    Ok(format!("{left} are open"))
}

async fn probe_of_nonsense(server: Server) -> CaseResult {
    let mut polling = server.polling_client().await?;
    for packet in ["2nonsense", "40", "42[\"message\",1]", "3probe", "x"] {
        let mut socket = server.upgrade(&format!("&sid={}", polling.sid), "").await?.socket()?;
        let _ = socket.send(packet).await;
        if !matches!(
            timeout(Duration::from_millis(300), socket.next()).await,
            Ok(Heard::End | Heard::Close(_)) | Err(_)
        ) {
            bail!("{packet} is answered");
        }
    }
    polling.post("429[\"message-with-ack\",1]").await?;
    ensure!(
        polling.gather("439[1]", 1).await.len() == 1,
        "the session answers nothing"
    );
    Ok("the session goes on".into())
}

async fn upgrade_and_noop_on_websocket(server: Server) -> CaseResult {
    let mut client = server.client().await?;
    for packet in ["5", "6"] {
        client.send(packet).await?;
        client.is_served().await.with_context(|| packet.to_owned())?;
    }
    Ok("they are ignored".into())
}

async fn second_connect(server: Server) -> CaseResult {
    let mut client = server.client().await?;
    client.send("40").await?;
    client.closed().await?;
    Ok("closed".into())
}

async fn second_connect_by_polling(server: Server) -> CaseResult {
    let mut polling = server.polling_client().await?;
    let path = server.query("polling", &format!("&sid={}", polling.sid));
    let mut http = server.http();
    let post = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        http.request(Method::POST, &path, &[], Bytes::from("40")).await
    };
    let (over, posted) = tokio::join!(polling.is_over(), post);
    over?;
    Ok(format!(
        "it ends; the POST is answered by {}",
        posted.map_or(0, |answer| answer.status)
    ))
}

async fn event_before_connect(server: Server) -> CaseResult {
    let mut socket = server.socket().await?;
    socket.send("42[\"message\",1]").await?;
    socket.closed().await?;
    Ok("closed".into())
}

async fn two_polls_at_once(server: Server) -> CaseResult {
    let mut polling = server.polling_client().await?;
    // Fetch everything first, so that the next poll waits.
    polling.post("429[\"message-with-ack\",1]").await?;
    polling.gather("439", 1).await;
    let path = server.query("polling", &format!("&sid={}", polling.sid));
    let (mut one, mut two) = (server.http(), server.http());
    let later = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        two.get(&path, &[]).await
    };
    let (first, second) = tokio::join!(timeout(Duration::from_secs(4), one.get(&path, &[])), later);
    let second = second?;
    second.must_be(&[400], "the second")?;
    let end = first
        .context("the first still waits")?
        .map_or(0, |answer| answer.status);
    polling.is_over().await?;
    Ok(format!("the second is refused, the first ends with {end}"))
}

async fn two_posts_at_once(server: Server) -> CaseResult {
    let mut polling = server.polling_client().await?;
    let path = server.query("polling", &format!("&sid={}", polling.sid));
    let head = format!(
        "POST {path} HTTP/1.1\r\nHost: {}\r\nContent-Length: 1000\r\n\r\n42[",
        server.host
    );
    let mut first = server.dial().await?;
    first.write_all(head.as_bytes()).await?;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let second = polling.try_post("42[\"message\",1]").await?;
    second.must_be(&[400], "the second")?;
    polling.is_over().await?;
    Ok("the second is refused".into())
}

async fn polls_are_not_kept(server: Server) -> CaseResult {
    let mut polling = server.polling_client().await?;
    let opened = server.http().get(&server.query("polling", ""), &[]).await?;
    polling.post("429[\"message-with-ack\",1]").await?;
    for answer in [opened, polling.try_poll().await?] {
        let control = answer
            .headers
            .get("cache-control")
            .map(|value| value.to_str().unwrap_or_default());
        ensure!(
            control.is_some_and(|control| control.contains("no-store")),
            "cache-control is {control:?}"
        );
    }
    Ok("no-store".into())
}

async fn post_of_2_mb(server: Server) -> CaseResult {
    let mut polling = server.polling_client().await?;
    let status = match polling.try_post("x".repeat(2_000_000)).await {
        Ok(answer) => answer.status,
        // Closed while the body was sent, so that the answer is lost.
        Err(_) => 0,
    };
    ensure!([0, 400, 413].contains(&status), "answered by {status}");
    Ok(format!("answered by {status}"))
}
