//! Requests that open a session: unknown parameters are refused with an error of Engine.IO, subprotocols are negotiated.

use anyhow::{Context, ensure};
use hyper::Method;
use hyper::body::Bytes;
use serde_json::Value;

use crate::case::{Case, CaseResult, ENGINE};
use crate::polling::Answer;
use crate::server::Server;
use crate::socket::Opened;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "unknown-sid",
            "polls, POSTs and upgrades with an unknown sid",
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
            "subprotocol",
            "opens a websocket with a subprotocol",
            "the answer selects it, as browsers require",
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
    ]
}

async fn unknown_sid(server: Server) -> CaseResult {
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
        upgrade.must_be(&[400], &format!("a websocket with {sid}"))?;
    }
    Ok("400 and code 1".into())
}

async fn unknown_transport(server: Server) -> CaseResult {
    for transport in ["pigeon", "constructor", "__proto__", "toString", "", "webtransport"] {
        let path = format!("{}?EIO=4&transport={transport}", server.path);
        let answer = server.http().get(&path, &[]).await?;
        refused(&answer, None).with_context(|| transport.to_owned())?;
        let upgrade = server.handshake(&path, "");
        let answer = Opened::read(server.dial().await?, upgrade.as_bytes()).await?;
        answer.must_be(&[400], &format!("a websocket for {transport}"))?;
    }
    Ok("400 and a number".into())
}

async fn unknown_version(server: Server) -> CaseResult {
    for version in ["EIO=0", "EIO=5", "EIO=99", "EIO=x", "EIO=4&EIO=5", ""] {
        let path = format!("{}?transport=polling&{version}", server.path);
        let answer = server.http().get(&path, &[]).await?;
        // Of two versions, one may be chosen.
        if version != "EIO=4&EIO=5" {
            refused(&answer, None).with_context(|| version.to_owned())?;
        }
    }
    Ok("400 and a number".into())
}

async fn odd_methods(server: Server) -> CaseResult {
    let path = server.query("polling", "");
    for method in [Method::PUT, Method::DELETE, Method::PATCH, Method::HEAD, Method::POST] {
        let answer = server.http().request(method.clone(), &path, &[], Bytes::new()).await?;
        answer.must_be(&[400, 405], method.as_str())?;
    }
    Ok("refused".into())
}

async fn subprotocol(server: Server) -> CaseResult {
    let opened = server.upgrade("", "Sec-WebSocket-Protocol: chat\r\n").await?;
    opened.must_be(&[101], "the handshake")?;
    ensure!(
        opened.head.contains("sec-websocket-protocol: chat"),
        "the answer has no subprotocol"
    );
    opened.socket()?.hear("0{").await?;
    Ok("it is answered".into())
}

async fn subprotocol_of_spaces(server: Server) -> CaseResult {
    let header = format!("Sec-WebSocket-Protocol: a{}b\r\n", " ".repeat(7_000));
    let opened = server.upgrade("", &header).await?;
    ensure!(opened.status < 500, "answered by {}", opened.status);
    Ok(format!("answered by {}", opened.status))
}

/// Fails unless an answer is an error of Engine.IO, with this code and message if given.
fn refused(answer: &Answer, expected: Option<(u64, &str)>) -> anyhow::Result<()> {
    answer.must_be(&[400], "the request")?;
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
