//! Requests of the server API of plugnode: sizes, depth, wrong keys, replays. Skipped without `--api` and `--api-key`.

use std::time::Duration;

use anyhow::ensure;
use futures_util::future::try_join_all;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::time::timeout;

use crate::case::{Case, CaseResult, OURS};
use crate::server::Server;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "api-bodies-without-end",
            "sends the API bodies of 1 GB: by their length, in chunks, and with a valid beginning",
            "413, 400 or the end of the connection, early",
            "CWE-770",
            bodies_without_end,
        )
        .megabytes(30),
        Case::new(
            "api-slow-bodies",
            "100 requests of the API whose body comes a byte every 200 ms",
            "new clients are served at once; 408 or the end of the connection within --patience",
            "CVE-2007-6750 and its kind (R-U-Dead-Yet)",
            slow_bodies,
        )
        .patient(),
        Case::new(
            "api-wrong-keys",
            "sends the API no key, two, a million spaces, keys of 1 byte to 60 KB, and 2,000 guesses",
            "401, 400, 431 or the end of the connection; the right key is taken after that",
            "CWE-307",
            wrong_keys,
        ),
        Case::new(
            "api-deep-and-odd-content",
            "publishes arguments and data nested up to 400,000 levels deep, halves of surrogates, huge numbers, doubled and inherited fields",
            "400, 403, 404, 413 or 422, or 200 for what can be passed on; never 5xx",
            "CVE-2020-36049 and its kind (stack exhaustion), CWE-1321",
            odd_content,
        ),
        Case::new(
            "api-replays",
            "sends one request with an idempotency key 50 times at once, then another with the same key",
            "it takes effect once, and the other is refused with 422",
            OURS,
            replays,
        ),
    ]
}

/// The head of a request, without the empty line at its end.
fn head(server: &Server, operation: &str, key: &str) -> String {
    let host = &server.host;
    format!(
        "POST /api/v1/{operation} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\nContent-Type: application/json\r\n\
         Authorization: Bearer {key}\r\n"
    )
}

/// A request with this body.
fn request(server: &Server, operation: &str, key: &str, headers: &str, body: &str) -> Vec<u8> {
    let (head, length) = (head(server, operation, key), body.len());
    format!("{head}{headers}Content-Length: {length}\r\n\r\n{body}").into_bytes()
}

/// The status of an answer; 0 if there was none.
fn status(answer: &str) -> u16 {
    let status = answer
        .strip_prefix("HTTP/1.1 ")
        .and_then(|rest| rest.get(..3)?.parse().ok());
    status.unwrap_or_default()
}

async fn bodies_without_end(server: Server) -> CaseResult {
    let (api, key) = server.api()?;
    let head = head(&api, "publish", key);
    for (headers, chunk) in [
        ("Content-Length: 1000000000", "x".repeat(64_000)),
        (
            "Content-Length: 1000000000",
            format!("{{\"all\":true,\"event\":\"{}", "e".repeat(64_000)),
        ),
        (
            "Transfer-Encoding: chunked",
            format!("fa00\r\n{}\r\n", "[".repeat(64_000)),
        ),
    ] {
        let mut stream = api.dial().await?;
        stream.write_all(format!("{head}{headers}\r\n\r\n").as_bytes()).await?;
        let mut sent = 0_u64;
        let sending = async {
            while sent < 1_000_000_000 && stream.write_all(chunk.as_bytes()).await.is_ok() {
                sent += chunk.len() as u64;
            }
        };
        let _ = timeout(Duration::from_secs(3), sending).await;
        ensure!(sent < 100_000_000, "{headers}: {sent} bytes are taken");
        let mut answer = Vec::new();
        let _ = timeout(Duration::from_secs(3), stream.read_to_end(&mut answer)).await;
        let answer = String::from_utf8_lossy(&answer);
        ensure!([0, 400, 413].contains(&status(&answer)), "{headers}: {answer:.60}");
    }
    Ok("refused".into())
}

async fn slow_bodies(server: Server) -> CaseResult {
    let (api, key) = server.api()?;
    let head = head(&api, "publish", key) + "Content-Length: 1000\r\n\r\n";
    let slowly = |mut stream: tokio::net::TcpStream, head: String| async move {
        stream.write_all(head.as_bytes()).await?;
        let (mut read, mut write) = stream.split();
        let mut answer = Vec::new();
        tokio::select! {
            _ = read.read_to_end(&mut answer) => {}
            () = async {
                while write.write_all(b" ").await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
                std::future::pending().await
            } => {}
        }
        let answer = String::from_utf8_lossy(&answer);
        ensure!([0, 408, 503].contains(&status(&answer)), "{answer:.60}");
        anyhow::Ok(())
    };
    let mut held = Vec::new();
    for _ in 0..100 {
        held.push(slowly(api.dial().await?, head.clone()));
    }
    let ended = try_join_all(held);
    let served = async {
        tokio::time::sleep(Duration::from_millis(300)).await;
        server.newcomer().await
    };
    tokio::try_join!(ended, served)?;
    Ok("all ended".into())
}

async fn wrong_keys(server: Server) -> CaseResult {
    let (api, key) = server.api()?;
    let body = r#"{"all":true,"event":"hostile"}"#;
    let mut keys: Vec<String> = [1, 31, 32, 33, 8_000, 60_000].map(|length| "k".repeat(length)).into();
    keys.extend([
        String::new(),
        " ".repeat(1_000_000),
        format!("{key}\r\nAuthorization: Bearer {key}"),
        key.to_uppercase() + "x",
    ]);
    keys.extend([1, key.len() - 1].map(|length| key[..length].to_owned()));
    for wrong in &keys {
        let answer = api.exchange(&request(&api, "publish", wrong, "", body)).await?;
        ensure!(
            [0, 400, 401, 431].contains(&status(&answer)),
            "a key of {} bytes: {answer:.60}",
            wrong.len()
        );
    }
    for guesses in 0..20 {
        let guesses = (0..100).map(async |guess| {
            let wrong = format!("{:032}", guesses * 100 + guess);
            api.exchange(&request(&api, "publish", &wrong, "", body)).await
        });
        for answer in try_join_all(guesses).await? {
            ensure!([0, 401, 429, 503].contains(&status(&answer)), "{answer:.60}");
        }
    }
    let answer = api.exchange(&request(&api, "publish", key, "", body)).await?;
    ensure!(status(&answer) == 200, "the right key: {answer:.60}");
    Ok("refused".into())
}

async fn odd_content(server: Server) -> CaseResult {
    let (api, key) = server.api()?;
    let deep = |levels: usize, open: &str, close: &str| open.repeat(levels) + "0" + &close.repeat(levels);
    let mut bodies = Vec::new();
    for levels in [900, 1_500, 100_000, 400_000] {
        for value in [
            deep(levels, "[", "]"),
            deep(levels / 6, "{\"a\":", "}"),
            "[".repeat(levels),
        ] {
            bodies.push((
                "publish",
                format!(r#"{{"all":true,"event":"hostile","args":[{value}]}}"#),
            ));
            bodies.push(("event", format!(r#"{{"kind":"hostile/1","data":{value}}}"#)));
        }
    }
    for args in [
        r#"["\ud800"]"#,
        "[1e999, -1e999, 1E-999]",
        &format!("[{}]", "9".repeat(10_000)),
        r#"[{"__proto__":{"x":1},"constructor":null,"_placeholder":true,"num":7}]"#,
        r#"[{"a":1,"a":2}]"#,
        "[\"\u{0}\"]",
        "[,]",
        "{}",
    ] {
        bodies.push(("publish", format!(r#"{{"all":true,"event":"hostile","args":{args}}}"#)));
    }
    for fields in [
        r#""all":true,"all":true,"event":"hostile""#,
        r#""all":true,"event":"hostile","__proto__":{"all":false}"#,
        r#""all":true,"event":"\u0000""#,
        r#""to":["\ud800"],"event":"hostile""#,
        r##""clients":["../../x","#//",""],"event":"hostile""##,
        r#""all":true,"event":"hostile","namespace":"/\u0000""#,
    ] {
        bodies.push(("publish", format!("{{{fields}}}")));
    }
    let names = vec![r#""x""#; 20_000].join(",");
    bodies.push(("publish", format!(r#"{{"to":[{names}],"event":"hostile"}}"#)));
    for (operation, body) in &bodies {
        let answer = api.exchange(&request(&api, operation, key, "", body)).await?;
        ensure!(
            [200, 400, 403, 404, 413, 422].contains(&status(&answer)),
            "{operation} {body:.60}: {answer:.80}"
        );
    }
    Ok(format!("{} bodies are answered", bodies.len()))
}

async fn replays(server: Server) -> CaseResult {
    let (api, key) = server.api()?;
    let mut client = server.client().await?;
    let name = format!("replayed-{:?}", std::time::SystemTime::now());
    let headers = format!("Idempotency-Key: {name}\r\n");
    let body = r#"{"all":true,"event":"replayed","args":[1]}"#;
    let once = request(&api, "publish", key, &headers, body);
    let answers = try_join_all((0..50).map(|_| api.exchange(&once))).await?;
    for answer in &answers {
        ensure!(status(answer) == 200, "{answer:.80}");
    }
    let first = answers
        .iter()
        .filter(|answer| answer.contains("\"repeated\":false"))
        .count();
    ensure!(first <= 1, "{first} of them claim to be the first");
    let other = request(&api, "publish", key, &headers, &body.replace("[1]", "[2]"));
    let answer = api.exchange(&other).await?;
    ensure!(status(&answer) == 422, "another with the same key: {answer:.80}");
    let end = request(&api, "publish", key, "", r#"{"all":true,"event":"end-of-replays"}"#);
    let answer = api.exchange(&end).await?;
    ensure!(status(&answer) == 200, "{answer:.80}");
    let mut heard = 0;
    loop {
        let packet = client.hear("42").await?;
        heard += usize::from(packet.contains("\"replayed\""));
        if packet.contains("end-of-replays") {
            break;
        }
    }
    ensure!(heard == 1, "it is heard {heard} times");
    Ok("once".into())
}
