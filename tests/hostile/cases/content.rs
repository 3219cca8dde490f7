//! Odd contents of packets: they pass as they pass through Node's server, or end their connection alone.

use anyhow::{Context, bail, ensure};
use plugnode_tests::raw_client::frame;
use serde_json::Value;

use crate::case::{Case, Did, OURS};
use crate::server::Server;
use crate::socket::Socket;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "lone-surrogate",
            r#"asks with "\ud83d", half of a surrogate pair"#,
            r#"it comes back, or U+FFFD for it, and the client stays"#,
            OURS,
            lone_surrogate,
        ),
        Case::new(
            "lone-surrogate-in-name",
            r#"emits an event whose name is "\ud83d""#,
            "the client stays",
            OURS,
            lone_surrogate_in_name,
        ),
        Case::new(
            "nested-1000-deep",
            "asks with arrays in each other, 1,000 deep",
            "they come back unchanged",
            OURS,
            nested_1000_deep,
        ),
        Case::new(
            "nested-200000-deep",
            "sends 200,000 arrays in each other (400 KB), closed and unclosed",
            "an answer or the end of that client",
            "CWE-674, uncontrolled recursion",
            nested_200000_deep,
        ),
        Case::new(
            "number-1e999",
            "asks with 1e999",
            "what comes back can be read where numbers are doubles; Node's server says null",
            OURS,
            |server| odd_number(server, "1e999".into()),
        ),
        Case::new(
            "integer-of-5000-digits",
            "asks with an integer of 5,000 digits",
            "what comes back can be read where numbers are doubles; Node's server says null",
            "CVE-2020-10735 (int() of Python), and found by attacking plugnode",
            |server| odd_number(server, "7".repeat(5_000)),
        ),
        Case::new(
            "raw-u2028",
            "asks with U+2028 and U+2029, unescaped",
            "they come back",
            OURS,
            raw_u2028,
        ),
        Case::new(
            "placeholder-without-binary",
            r#"asks with {"_placeholder":true,"num":0} in an event without attachments"#,
            "it comes back unchanged",
            OURS,
            placeholder_without_binary,
        ),
        Case::new(
            "placeholder-index-no-number",
            r#"sends placeholders whose "num" is "splice", -1, 1.5, 7 or missing"#,
            "the end of that client, or its next question is answered",
            "CVE-2022-2421, GHSA-qm95-pgcg-qqfq (socket.io-parser)",
            placeholder_index_no_number,
        ),
        Case::new(
            "placeholders-of-one-attachment",
            "asks with 10,000 placeholders for one attachment of 400 KB, and does not read",
            "no memory for 10,000 copies",
            OURS,
            placeholders_of_one_attachment,
        ),
        Case::new(
            "eleven-attachments",
            "broadcasts ten attachments, then eleven: official clients take ten and are closed by more",
            "ten arrive; the sender of eleven is closed, and nobody else is",
            "CVE-2026-33151, GHSA-677m-j7p3-52f9 (socket.io-parser)",
            eleven_attachments,
        ),
        Case::new(
            "attachments-announced",
            "announces 999,999,999,999 attachments, and as many in a name of 900 KB of digits",
            "the end of that client, or its next question is answered; no memory",
            "CVE-2020-36049, GHSA-xfhh-g9f5-x4m4 (socket.io-parser)",
            attachments_announced,
        ),
        Case::new(
            "attachments-10000-empty",
            "sends an event with 10,000 empty attachments",
            "the end of that client, or time that is linear in their number",
            OURS,
            attachments_10000_empty,
        ),
        Case::new(
            "attachments-incomplete",
            "50 connections announce ten attachments and send nine of 900 KB each, 405 MB together",
            "a bound on what waits for its last attachment",
            "GHSA-55mf-67qm-4wpg (socketioxide)",
            attachments_incomplete,
        )
        .megabytes(350)
        .seconds(30),
        Case::new(
            "event-name-no-text",
            r#"sends events named {"toString":"x"}, null, [], {} and nothing"#,
            "the end of that client, or its next question is answered",
            "CVE-2023-32695, GHSA-cqmj-92xf-r6r9 (socket.io-parser)",
            event_name_no_text,
        ),
        Case::new(
            "event-named-error",
            "sends events named error, connect, disconnect, connect_error, newListener",
            "the end of that client, or its next question is answered",
            "CVE-2024-38355, GHSA-25hc-qcg6-38wj (socket.io)",
            event_named_error,
        ),
        Case::new(
            "names-of-prototypes",
            "events, auth, keys and namespaces named __proto__, constructor, hasOwnProperty",
            "the end of that client, or its next question is answered",
            "CWE-1321, prototype pollution",
            names_of_prototypes,
        ),
        Case::new(
            "huge-ack-ids",
            "asks by numbers past 2^53, past 2^64, of 100,000 digits, and acknowledges what nobody asked",
            "the end of that client, or its next question is answered",
            OURS,
            huge_ack_ids,
        ),
        Case::new(
            "malformed-packets",
            "sends 30 packets that are no packets of Socket.IO",
            "the end of that client, or its next question is answered",
            OURS,
            malformed_packets,
        ),
        Case::new(
            "base64-over-websocket",
            "sends an attachment as text over a websocket (`b` and base64), as with forceBase64",
            "it comes back",
            OURS,
            base64_over_websocket,
        ),
        Case::new(
            "bad-base64",
            "POSTs attachments in base64 that is none",
            "an answer in time, and the end of that session or an attachment of other bytes",
            OURS,
            bad_base64,
        ),
    ]
}

async fn lone_surrogate(server: Server) -> Did {
    let mut client = server.client().await?;
    let answer = client.ask(r#""\ud83d""#).await?;
    let right = [r#"["\ud83d"]"#, "[\"\u{fffd}\"]", r#"["\ufffd"]"#];
    ensure!(
        right.contains(&answer.to_ascii_lowercase().as_str()),
        "{answer:.60} comes back"
    );
    client.is_served().await?;
    Ok(format!("{answer} comes back"))
}

async fn lone_surrogate_in_name(server: Server) -> Did {
    let mut client = server.client().await?;
    client.send(r#"42["\ud83d",1]"#).await?;
    client.is_served().await?;
    Ok("the client stays".into())
}

async fn nested_1000_deep(server: Server) -> Did {
    let nested = nested(1_000);
    let answer = server.client().await?.ask(&nested).await?;
    ensure!(
        answer == format!("[{nested}]"),
        "{} bytes come back, beginning {answer:.60}",
        answer.len()
    );
    Ok("they come back".into())
}

async fn nested_200000_deep(server: Server) -> Did {
    let closed = format!("427[\"message-with-ack\",{}]", nested(200_000));
    let unclosed = format!("427[\"message-with-ack\",{}", "[".repeat(400_000));
    closed_or_served(&server, &[&closed, &unclosed]).await
}

async fn odd_number(server: Server, number: String) -> Did {
    let mut client = server.client().await?;
    let answer = client.ask(&number).await?;
    let read: Value = serde_json::from_str(&answer).with_context(|| format!("{answer:.40} comes back"))?;
    client.is_served().await?;
    Ok(format!("{:.40} comes back", read.to_string()))
}

async fn raw_u2028(server: Server) -> Did {
    let answer = server.client().await?.ask("\"\u{2028}\u{2029}\"").await?;
    let read: Value = serde_json::from_str(&answer)?;
    ensure!(read[0] == "\u{2028}\u{2029}", "{answer} comes back");
    Ok("they come back".into())
}

async fn placeholder_without_binary(server: Server) -> Did {
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    let answer = server.client().await?.ask(placeholder).await?;
    ensure!(answer == format!("[{placeholder}]"), "{answer:.60} comes back");
    Ok("it comes back".into())
}

async fn placeholder_index_no_number(server: Server) -> Did {
    let mut ends = Vec::new();
    for index in [r#","num":"splice""#, r#","num":-1"#, r#","num":1.5"#, r#","num":7"#, ""] {
        let mut client = server.client().await?;
        client
            .send(&format!("451-[\"message\",{{\"_placeholder\":true{index}}}]"))
            .await?;
        // It may be closed by then.
        let _ = client.send_binary(b"bytes").await;
        ends.push(client.closed_or_served().await.with_context(|| index.to_owned())?);
    }
    Ok(ends.join(", "))
}

async fn placeholders_of_one_attachment(server: Server) -> Did {
    let mut client = server.client().await?;
    let placeholders = [r#"{"_placeholder":true,"num":0}"#; 10_000].join(",");
    client
        .send(&format!("451-7[\"message-with-ack\",{placeholders}]"))
        .await?;
    let _ = client.send_binary(&[7; 400_000]).await;
    server.newcomer().await?;
    tokio::time::sleep(std::time::Duration::from_secs(1)).await;
    server.newcomer().await?;
    Ok("others are served".into())
}

async fn eleven_attachments(server: Server) -> Did {
    let (mut other, mut sender) = (server.client().await?, server.client().await?);
    // What it was greeted with is heard before.
    other.is_served().await?;
    shout(&mut sender, 10).await?;
    other.hear("4510-[\"shouted\"").await.context("ten attachments")?;
    for _ in 0..10 {
        other.hear_binary().await.context("ten attachments")?;
    }
    let _ = shout(&mut sender, 11).await;
    sender.closed().await.context("the sender of eleven")?;
    other.is_served().await.context("another client")?;
    Ok("ten arrive, and the sender of eleven is closed".into())
}

async fn shout(sender: &mut Socket, attachments: usize) -> anyhow::Result<()> {
    let placeholder = |num| format!("{{\"_placeholder\":true,\"num\":{num}}}");
    let placeholders = (0..attachments).map(placeholder).collect::<Vec<_>>().join(",");
    let text = format!("45{attachments}-[\"shout\",[{placeholders}]]");
    let bytes = frame(0x82, b"bytes").repeat(attachments);
    sender.write(&[frame(0x81, text.as_bytes()), bytes].concat()).await
}

async fn attachments_announced(server: Server) -> Did {
    let digits = format!("45{}-[\"message\"]", "9".repeat(900_000));
    closed_or_served(&server, &["45999999999999-[\"message\"]", &digits]).await
}

async fn attachments_10000_empty(server: Server) -> Did {
    let mut client = server.client().await?;
    let text = frame(0x81, b"4510000-[\"message\"]");
    let _ = client.write(&[text, frame(0x82, b"").repeat(10_000)].concat()).await;
    let end = client.closed_or_served().await?;
    Ok(end.into())
}

async fn attachments_incomplete(server: Server) -> Did {
    let bytes = frame(0x82, &vec![0; 900_000]);
    let mut clients = Vec::new();
    let mut taken = 0;
    for _ in 0..50 {
        let mut client = server.client().await?;
        client.send("4510-[\"message\"]").await?;
        for _ in 0..9 {
            let write = tokio::time::timeout(std::time::Duration::from_millis(500), client.write(&bytes)).await;
            if !matches!(write, Ok(Ok(()))) {
                break;
            }
            taken += bytes.len();
        }
        clients.push(client);
    }
    server.newcomer().await?;
    Ok(format!("{} of 405 MB are taken", taken / 1_000_000))
}

async fn event_name_no_text(server: Server) -> Did {
    let packets = [r#"42[{"toString":"x"}]"#, "42[null]", "42[[]]", "42[{}]", "42[]"];
    closed_or_served(&server, &packets).await
}

async fn event_named_error(server: Server) -> Did {
    let names = [
        "error",
        "connect",
        "disconnect",
        "connect_error",
        "disconnecting",
        "newListener",
    ];
    let packets = names.map(|name| format!("42[\"{name}\",\"x\"]"));
    closed_or_served(&server, &packets.each_ref().map(String::as_str)).await
}

async fn names_of_prototypes(server: Server) -> Did {
    let packets = [
        r#"42["__proto__",{"__proto__":{"polluted":1}}]"#,
        r#"42["constructor",{"constructor":{"prototype":{"polluted":1}}}]"#,
        r#"42["hasOwnProperty",1]"#,
        r#"40/__proto__,{"__proto__":{"polluted":1}}"#,
        "40/constructor,",
        "42/__proto__,[\"message\"]",
    ];
    closed_or_served(&server, &packets).await
}

async fn huge_ack_ids(server: Server) -> Did {
    let long = format!("42{}[\"message-with-ack\"]", "9".repeat(100_000));
    let packets = [
        "429007199254740993[\"message-with-ack\"]",
        "4299999999999999999999999[\"message-with-ack\"]",
        &long,
        "4312345[\"x\"]",
        "4399999999999999999999999[\"x\"]",
        "43-1[]",
    ];
    closed_or_served(&server, &packets).await
}

async fn malformed_packets(server: Server) -> Did {
    let packets = [
        "42",
        "42[",
        "42{}",
        "42[1]",
        "42[\"a\",]",
        "42[\"a\"]garbage",
        "42/nowhere,[\"a\"]",
        "42/nowhere",
        "43[",
        "43",
        "45[\"a\"]",
        "451-",
        "45-1-[\"a\"]",
        "451.5-[\"a\"]",
        "44{}",
        "47",
        "49",
        "4",
        "1",
        "0",
        "0{}",
        "2probe",
        "3probe",
        "9",
        "x",
        "",
        "\u{0}",
        "b",
        "bAAAA",
        "40/",
        "40{",
        "41/nowhere,",
    ];
    closed_or_served(&server, &packets).await
}

async fn base64_over_websocket(server: Server) -> Did {
    let mut client = server.client().await?;
    client
        .send(r#"451-3["message-with-ack",{"_placeholder":true,"num":0}]"#)
        .await?;
    client.send("bAQIDBA==").await?;
    client.hear("461-3").await?;
    let bytes = client.hear_binary().await?;
    ensure!(bytes == [1, 2, 3, 4], "{bytes:?} comes back");
    Ok("it comes back".into())
}

async fn bad_base64(server: Server) -> Did {
    let mut ends = Vec::new();
    for text in ["b!!!no base64", "bAAA", "b", "bAA=A", "b\u{fffd}", "bAA AA"] {
        let mut polling = server.polling_client().await?;
        let head = r#"451-3["message-with-ack",{"_placeholder":true,"num":0}]"#;
        let answer = polling.try_post(format!("{head}\u{1e}{text}")).await?;
        ends.push(answer.status.to_string());
        if answer.status == 200 {
            // Whatever comes; a poll may also find nothing to say, where the attachment was dropped.
            let _ = polling.gather("461-3", 1).await;
        } else if answer.status >= 500 {
            bail!("{text} is answered by {}", answer.status);
        }
    }
    Ok(format!("answered by {}", ends.join(", ")))
}

/// Each of these packets, by a client of its own: it is closed, or its next question is answered.
async fn closed_or_served(server: &Server, packets: &[&str]) -> Did {
    let mut closed = 0;
    for packet in packets {
        let mut client = server.client().await?;
        // It may be closed before all is sent.
        let _ = client.send(packet).await;
        let end = client
            .closed_or_served()
            .await
            .with_context(|| format!("{packet:.50}"))?;
        closed += usize::from(end == "closed");
    }
    Ok(format!("{closed} closed, {} served", packets.len() - closed))
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}
