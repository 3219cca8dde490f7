//! Floods, and small inputs with large effects: memory stays bounded and others are served meanwhile.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures_util::future::join_all;
use hyper::Method;
use plugnode_tests::raw_client::frame;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout, timeout_at};

use crate::case::{Case, CaseResult, OURS};
use crate::polling::{Answer, Polling};
use crate::server::Server;

/// Duration of a flood.
const FLOOD: Duration = Duration::from_secs(1);
/// Time after which an unanswered request counts as waiting, which is allowed.
const WAITS: Duration = Duration::from_millis(1_500);

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "post-of-320000-connects",
            "POSTs 320,000 packets in one body: `40` and `41`, repeated",
            "it is refused or slowed, and others are served meanwhile",
            OURS,
            |server| post_of_320000_connects(server, 0),
        )
        .seconds(30),
        Case::new(
            "post-of-320000-connects-with-31-kb",
            "the same with 31 KB of header on the session's first request",
            "the header is refused, or kept once",
            OURS,
            |server| post_of_320000_connects(server, 31_000),
        )
        .seconds(30),
        Case::new(
            "connects-to-a-pattern",
            "two sessions POST 68,000 connects and disconnects each for a namespace matched by a pattern",
            "it is refused or slowed, and others are served meanwhile",
            OURS,
            connects_to_a_pattern,
        )
        .seconds(30),
        Case::new(
            "refusals-of-900-kb-unread",
            "connects to namespaces with names of 900 KB repeatedly and does not read",
            "memory stays bounded",
            OURS,
            |server| unread(server, frame(0x81, format!("40/{},", "n".repeat(900_000)).as_bytes())),
        ),
        Case::new(
            "refusals-of-900-kb-unpolled",
            "the same 100 times by POST, and does not poll",
            "memory stays bounded",
            OURS,
            |server| unpolled(server, format!("40/{},", "n".repeat(900_000)), 100),
        )
        .seconds(30),
        Case::new(
            "small-refusals-unread",
            "connects to an unknown namespace repeatedly and does not read; the answers are eleven times as large",
            "memory stays bounded",
            OURS,
            |server| unread(server, frame(0x81, b"40/nowhere,").repeat(2_000)),
        ),
        Case::new(
            "echoes-unread",
            "requests echoes of 900 KB and does not read",
            "memory stays bounded",
            OURS,
            |server| unread(server, frame(0x81, format!("42[\"message\",\"{}\"]", "x".repeat(900_000)).as_bytes())),
        ),
        Case::new(
            "echoes-unpolled",
            "POSTs 100 events of 900 KB whose answers it does not poll, and downloads a file on the same connection meanwhile if there is one",
            "memory stays bounded",
            OURS,
            echoes_unpolled,
        )
        .seconds(30),
        Case::new(
            "forty-thousand-namespaces",
            "connects to 40,000 namespaces on one connection",
            "their number or their cost is bounded",
            OURS,
            forty_thousand_namespaces,
        )
        .seconds(30),
        Case::new(
            "names-of-900-kb",
            "joins 120 rooms with names of 900 KB",
            "memory for names is bounded",
            OURS,
            names_of_900_kb,
        )
        .megabytes(60)
        .seconds(30),
        Case::new(
            "flood-of-pongs",
            "sends Engine.IO's pong, unasked, as fast as it can",
            "others are served meanwhile",
            "CVE-2026-48802, GHSA-cgwc-pv48-fhj5 (python-engineio)",
            |server| read(server, frame(0x81, b"3").repeat(5_000)),
        ),
        Case::new(
            "flood-of-acknowledgements",
            "sends acknowledgements of unknown ids as fast as it can",
            "others are served meanwhile",
            OURS,
            |server| read(server, frame(0x81, b"43123[\"x\"]").repeat(5_000)),
        ),
        Case::new(
            "flood-of-unknown-events",
            "sends events that no handler knows, as fast as it can",
            "others are served meanwhile",
            OURS,
            |server| read(server, frame(0x81, b"42[\"unknown\",1]").repeat(5_000)),
        ),
        Case::new(
            "flood-of-websocket-pings",
            "sends websocket pings of 125 bytes as fast as it can, and reads no pong",
            "memory stays bounded",
            "CVE-2019-9512 (the same of HTTP/2), and found by attacking plugnode",
            |server| unread(server, frame(0x89, &[0; 125]).repeat(2_000)),
        ),
        Case::new(
            "flood-of-empty-fragments",
            "starts a message and continues it with empty fragments for ever",
            "memory stays bounded, and others are served meanwhile",
            "an advisory for ws of 2026 on tiny fragments, CVE-2026-42786 (Bandit)",
            flood_of_empty_fragments,
        ),
        Case::new(
            "flood-of-sessions",
            "opens 2,000 polling sessions and abandons them",
            "their number or their cost is bounded",
            OURS,
            flood_of_sessions,
        )
        .seconds(25),
        Case::new(
            "compressed-bomb",
            "offers permessage-deflate and, if accepted, sends 50 MB in a frame of 315 KB",
            "it is not accepted, or closed with 1009 without memory for all of it",
            "CWE-409, GHSA-frh3-6pv6-rc8j (Bandit)",
            compressed_bomb,
        ),
    ]
}

async fn post_of_320000_connects(server: Server, header: usize) -> CaseResult {
    let long = "h".repeat(header);
    let headers: &[(&str, &str)] = if header == 0 { &[] } else { &[("x-long", &long)] };
    let mut polling = match Polling::open(server.http(), headers).await {
        Ok(polling) => polling,
        Err(error) if header > 0 => return Ok(format!("{error:#}")),
        Err(error) => return Err(error),
    };
    let begun = Instant::now();
    let answer = taken(timeout(WAITS, polling.try_post(repeated("40", "41", 160_000))).await);
    let time = begun.elapsed();
    // Its processing may outlast the request.
    sleep(Duration::from_secs(1)).await;
    Ok(format!("{} after {time:.1?}", answer.err().unwrap_or("taken".into())))
}

/// A payload that repeats two packets, with a pong at its end.
fn repeated(one: &str, other: &str, times: usize) -> String {
    format!("{}3", format!("{one}\u{1e}{other}\u{1e}").repeat(times))
}

async fn connects_to_a_pattern(server: Server) -> CaseResult {
    let (mut one, mut other) = (server.polling_client().await?, server.polling_client().await?);
    let body = repeated("40/hostile-1,", "41/hostile-1,", 34_000);
    let posts = timeout(WAITS, async {
        tokio::join!(one.try_post(body.clone()), other.try_post(body.clone()))
    });
    let answers = posts.await.map_or("they wait".into(), |(one, other)| {
        let status = |answer: anyhow::Result<Answer>| answer.map_or(0, |answer| answer.status);
        format!("answered by {} and {}", status(one), status(other))
    });
    sleep(Duration::from_secs(1)).await;
    Ok(answers)
}

async fn unread(server: Server, chunk: Vec<u8>) -> CaseResult {
    server.flood_unread(&chunk, FLOOD).await
}

async fn read(server: Server, chunk: Vec<u8>) -> CaseResult {
    server.flood(&chunk, FLOOD).await
}

async fn unpolled(server: Server, body: String, times: usize) -> CaseResult {
    let mut polling = server.polling_client().await?;
    for time in 0..times {
        if let Err(end) = taken(timeout(WAITS, polling.try_post(body.clone())).await) {
            return Ok(format!("{time} are taken, then {end}"));
        }
    }
    Ok(format!("{times} are taken"))
}

async fn echoes_unpolled(server: Server) -> CaseResult {
    let polling = server.polling_client().await?;
    let path = server.query("polling", &format!("&sid={}", polling.sid));
    let event = format!("42[\"message\",\"{}\"]", "x".repeat(900_000));
    let mut http = server.http();
    for time in 0..100 {
        let post = http.request(Method::POST, &path, &[], event.clone().into());
        if let Err(end) = taken(timeout(WAITS, post).await) {
            return Ok(format!("{time} are taken, then {end}"));
        }
        if let Some(file) = &server.file {
            http.get(file, &[]).await.context("the file")?;
        }
    }
    Ok("100 are taken".into())
}

/// Ok when a POST succeeded, else what happened.
fn taken(answer: Result<anyhow::Result<Answer>, Elapsed>) -> Result<(), String> {
    match answer {
        Ok(Ok(answer)) if answer.status == 200 => Ok(()),
        Ok(Ok(answer)) => Err(format!("answered by {}", answer.status)),
        Ok(Err(error)) => Err(format!("{error:#}")),
        Err(_) => Err("it waits".into()),
    }
}

async fn forty_thousand_namespaces(server: Server) -> CaseResult {
    let mut client = server.client().await?;
    let connects = (0..40_000).map(|n| frame(0x81, format!("40/hostile-{n},").as_bytes()));
    let is_answer = |text: &str| text.starts_with("40/") || text.starts_with("44/");
    let connects = connects.collect::<Vec<_>>().concat();
    let answers = client.burst_of(&connects, is_answer, 40_000).await;
    let count = |kind: &str| answers.iter().filter(|answer| answer.starts_with(kind)).count();
    Ok(format!("{} are entered, {} refused", count("40/"), count("44/")))
}

async fn names_of_900_kb(server: Server) -> CaseResult {
    let mut client = server.client().await?;
    let joins = |n: usize| {
        frame(
            0x81,
            format!("42{n}[\"join\",\"{n}{}\"]", "r".repeat(900_000)).as_bytes(),
        )
    };
    let mut answered = 0;
    let begun = Instant::now();
    for n in 0..120 {
        if begun.elapsed() > Duration::from_secs(8) {
            break;
        }
        let answer = client.burst(&joins(n), "43", 1).await;
        if answer.is_empty() {
            break;
        }
        answered += 1;
    }
    Ok(format!("{answered} are answered"))
}

async fn flood_of_empty_fragments(server: Server) -> CaseResult {
    let mut client = server.client().await?;
    client.write(&frame(0x01, b"42[\"message\",\"")).await?;
    let (mut sent, end) = (0, tokio::time::Instant::now() + FLOOD);
    let fragments = frame(0x00, b"").repeat(5_000);
    while let Ok(wrote) = timeout_at(end, client.write(&fragments)).await {
        if wrote.is_err() {
            return Ok(format!("closed after {sent} of them"));
        }
        sent += 5_000;
    }
    Ok(format!("{sent} of them are taken"))
}

async fn flood_of_sessions(server: Server) -> CaseResult {
    let path = server.query("polling", "");
    let open_some = || async {
        let mut http = server.http();
        let mut statuses = Vec::new();
        for _ in 0..100 {
            statuses.push(http.get(&path, &[]).await?.status);
        }
        anyhow::Ok(statuses)
    };
    let mut counts = BTreeMap::new();
    for statuses in join_all((0..20).map(|_| open_some())).await {
        for status in statuses? {
            *counts.entry(status).or_insert(0) += 1;
        }
    }
    Ok(format!("answered by {counts:?}"))
}

async fn compressed_bomb(server: Server) -> CaseResult {
    let opened = server
        .upgrade("", "Sec-WebSocket-Extensions: permessage-deflate\r\n")
        .await?;
    if !opened.head.contains("permessage-deflate") {
        return Ok("compression is not taken".into());
    }
    let mut client = opened.socket()?;
    client.hear("0{").await?;
    let _ = client.write(&frame(0xc1, &deflated(50_000_000))).await;
    let code = client.closed().await?;
    ensure!(code == Some(1009), "closed with {code:?}");
    Ok("closed with 1009".into())
}

/// At least `bytes` letters `x`, compressed (RFC 1951): one literal, then matches of 258 bytes at distance 1.
fn deflated(bytes: usize) -> Vec<u8> {
    let mut bits = Vec::new();
    // Not the last block, with the fixed codes.
    bits.extend([0, 1, 0]);
    // The literal 0x78: eight bits, 0x30 and more.
    bits.extend((0..8).rev().map(|bit| (0x30 + 0x78) >> bit & 1));
    for _ in 0..bytes / 258 + 1 {
        // The length 258 is code 285: 0xc5 in eight bits; the distance 1 is code 0 in five.
        bits.extend((0..8).rev().map(|bit| 0xc5 >> bit & 1));
        bits.extend([0; 5]);
    }
    // The end of the block, and the empty stored block that ends a message, without its last four bytes.
    bits.extend([0; 7]);
    bits.extend([0, 0, 0]);
    bits.chunks(8)
        .map(|chunk| {
            chunk
                .iter()
                .enumerate()
                .fold(0, |byte, (place, bit)| byte | bit << place)
        })
        .collect()
}
