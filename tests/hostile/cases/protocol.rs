//! Odd turns of Engine.IO and Socket.IO: what the protocols' documents and Node's server do with them.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use hyper::Method;
use hyper::body::Bytes;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::time::timeout;

use crate::case::{Case, Did, OURS};
use crate::polling::Answer;
use crate::server::Server;
use crate::socket::{Heard, Opened};

const ENGINE: &str = "Engine.IO protocol 4, and its test suite";

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
            "opens 800 websockets with the sid of one polling session, and probes with none",
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
            "sends the packets 5 and 6 on a websocket that is no upgrade",
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
            "POSTs `40` twice while a poll waits",
            "the poll that waits ends, with the packet 1 or with 400",
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
            "unknown-sid",
            "polls, POSTs and upgrades with a sid that nobody has",
            r#"400, with {"code":1,"message":"Session ID unknown"}"#,
            ENGINE,
            unknown_sid,
        ),
        Case::new(
            "unknown-transport",
            "asks for the transports pigeon, constructor, __proto__ and none, by request and by websocket",
            r#"400, with {"code":0,…}, a number"#,
            "CVE-2023-31125, GHSA-q9mw-68c2-j6m5 (engine.io), and its kind",
            unknown_transport,
        ),
        Case::new(
            "unknown-version",
            "asks for versions 0, 5, 99, x and none of Engine.IO",
            "400, with a code that is a number",
            ENGINE,
            unknown_version,
        ),
        Case::new(
            "odd-methods",
            "PUT, DELETE, PATCH, HEAD, and a POST without a session",
            "400 or 405",
            ENGINE,
            odd_methods,
        ),
        Case::new(
            "two-polls-at-once",
            "polls while a poll waits",
            "the second is refused, and the session is over",
            ENGINE,
            two_polls_at_once,
        ),
        Case::new(
            "two-posts-at-once",
            "POSTs while the body of another POST of the session is on its way",
            "the second is refused, and the session is over",
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
            "subprotocol",
            "opens a websocket with a subprotocol",
            "it is answered with that one, which browsers insist on",
            "RFC 6455, 4.1, and Node's server",
            subprotocol,
        ),
        Case::new(
            "subprotocol-of-spaces",
            "opens a websocket with a header Sec-WebSocket-Protocol of 7,000 spaces between two names",
            "an answer at once",
            "CVE-2021-32640, GHSA-6fc8-4gx4-v693 (ws)",
            subprotocol_of_spaces,
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

async fn second_websocket_of_a_session(server: Server) -> Did {
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

async fn eight_hundred_websockets(server: Server) -> Did {
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
        // What is closed says so at once, by now.
        left += usize::from(timeout(Duration::from_millis(20), socket.next()).await.is_err());
        if left > 2 {
            bail!("more than two of {} are open", 800);
        }
    }
    Ok(format!("{left} are open"))
}

async fn probe_of_nonsense(server: Server) -> Did {
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

async fn upgrade_and_noop_on_websocket(server: Server) -> Did {
    let mut client = server.client().await?;
    for packet in ["5", "6"] {
        client.send(packet).await?;
        client.is_served().await.with_context(|| packet.to_owned())?;
    }
    Ok("they are ignored".into())
}

async fn second_connect(server: Server) -> Did {
    let mut client = server.client().await?;
    client.send("40").await?;
    client.closed().await?;
    Ok("closed".into())
}

async fn second_connect_by_polling(server: Server) -> Did {
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

async fn event_before_connect(server: Server) -> Did {
    let mut socket = server.socket().await?;
    socket.send("42[\"message\",1]").await?;
    socket.closed().await?;
    Ok("closed".into())
}

async fn unknown_sid(server: Server) -> Did {
    for sid in [
        "nobody",
        "AAAAAAAAAAAAAAAAAAAA",
        "__proto__",
        "constructor",
        "%00",
        "../../x",
    ] {
        let mut http = server.http();
        let path = server.query("polling", &format!("&sid={sid}"));
        let poll = http.get(&path, &[]).await?;
        refused(&poll, Some((1, "Session ID unknown"))).with_context(|| format!("a poll with {sid}"))?;
        let post = http.request(Method::POST, &path, &[], Bytes::from("40")).await?;
        refused(&post, Some((1, "Session ID unknown"))).with_context(|| format!("a POST with {sid}"))?;
        let upgrade = server.upgrade(&format!("&sid={sid}"), "").await?;
        ensure!(
            upgrade.status == 400,
            "a websocket with {sid} is answered by {}",
            upgrade.status
        );
    }
    Ok("400 and code 1".into())
}

async fn unknown_transport(server: Server) -> Did {
    for transport in ["pigeon", "constructor", "__proto__", "toString", "", "webtransport"] {
        let path = format!("{}?EIO=4&transport={transport}", server.path);
        let answer = server.http().get(&path, &[]).await?;
        refused(&answer, None).with_context(|| transport.to_owned())?;
        let upgrade = server.handshake(&path, "");
        let answer = Opened::read(server.dial().await?, upgrade.as_bytes()).await?;
        ensure!(
            answer.status == 400,
            "a websocket for {transport} is answered by {}",
            answer.status
        );
    }
    Ok("400 and a number".into())
}

async fn unknown_version(server: Server) -> Did {
    for version in ["EIO=0", "EIO=5", "EIO=99", "EIO=x", "EIO=4&EIO=5", ""] {
        let path = format!("{}?transport=polling&{version}", server.path);
        let answer = server.http().get(&path, &[]).await?;
        // Of two, one may be taken.
        if version != "EIO=4&EIO=5" {
            refused(&answer, None).with_context(|| version.to_owned())?;
        }
    }
    Ok("400 and a number".into())
}

async fn odd_methods(server: Server) -> Did {
    let path = server.query("polling", "");
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD, Method::POST] {
        let answer = server.http().request(method.clone(), &path, &[], Bytes::new()).await?;
        ensure!(
            [400, 405].contains(&answer.status),
            "{method} is answered by {}",
            answer.status
        );
    }
    Ok("refused".into())
}

async fn two_polls_at_once(server: Server) -> Did {
    let mut polling = server.polling_client().await?;
    // What waits is fetched first, so that the next poll waits.
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
    ensure!(
        second.status == 400,
        "the second is answered by {} {:.40}",
        second.status,
        second.body
    );
    let end = first
        .context("the first still waits")?
        .map_or(0, |answer| answer.status);
    polling.is_over().await?;
    Ok(format!("the second is refused, the first ends with {end}"))
}

async fn two_posts_at_once(server: Server) -> Did {
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
    ensure!(
        second.status == 400,
        "the second is answered by {} {:.40}",
        second.status,
        second.body
    );
    polling.is_over().await?;
    Ok("the second is refused".into())
}

async fn polls_are_not_kept(server: Server) -> Did {
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

async fn subprotocol(server: Server) -> Did {
    let opened = server.upgrade("", "Sec-WebSocket-Protocol: chat\r\n").await?;
    ensure!(opened.status == 101, "answered by {}", opened.status);
    ensure!(
        opened.head.contains("sec-websocket-protocol: chat"),
        "the answer names none"
    );
    opened.socket()?.hear("0{").await?;
    Ok("it is answered".into())
}

async fn subprotocol_of_spaces(server: Server) -> Did {
    let header = format!("Sec-WebSocket-Protocol: a{}b\r\n", " ".repeat(7_000));
    let opened = server.upgrade("", &header).await?;
    ensure!(opened.status < 500, "answered by {}", opened.status);
    Ok(format!("answered by {}", opened.status))
}

async fn post_of_2_mb(server: Server) -> Did {
    let mut polling = server.polling_client().await?;
    let status = match polling.try_post("x".repeat(2_000_000)).await {
        Ok(answer) => answer.status,
        // Closed while it was sent, with an answer that is lost for that.
        Err(_) => 0,
    };
    ensure!([0, 400, 413].contains(&status), "answered by {status}");
    Ok(format!("answered by {status}"))
}

/// Whether an answer is a refusal of Engine.IO, with this code and message if they matter.
fn refused(answer: &Answer, expected: Option<(u64, &str)>) -> anyhow::Result<()> {
    ensure!(
        answer.status == 400,
        "answered by {} {:.60}",
        answer.status,
        answer.body
    );
    let body: Value = serde_json::from_str(&answer.body).with_context(|| format!("the body is {:.60}", answer.body))?;
    let code = body["code"]
        .as_u64()
        .with_context(|| format!("the code is {}", body["code"]))?;
    if let Some((expected, message)) = expected {
        ensure!(
            code == expected && body["message"] == message,
            "the body is {:.60}",
            answer.body
        );
    }
    Ok(())
}
