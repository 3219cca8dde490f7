//! Attachments and their placeholders: well-formed ones come back, malformed ones end only their own connection.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use plugnode_tests::raw_client::frame;

use crate::case::{Case, CaseResult, OURS};
use crate::server::Server;
use crate::socket::Socket;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "placeholder-without-binary",
            r#"requests an echo of {"_placeholder":true,"num":0} in an event without attachments"#,
            "it comes back unchanged",
            OURS,
            placeholder_without_binary,
        ),
        Case::new(
            "placeholder-index-no-number",
            r#"sends placeholders whose "num" is "splice", -1, 1.5, 7 or missing"#,
            "that client is closed, or its next request is answered",
            "CVE-2022-2421, GHSA-qm95-pgcg-qqfq (socket.io-parser)",
            placeholder_index_no_number,
        ),
        Case::new(
            "placeholders-of-one-attachment",
            "requests an echo of 10,000 placeholders for one attachment of 400 KB, and does not read",
            "memory does not hold 10,000 copies",
            OURS,
            placeholders_of_one_attachment,
        ),
        Case::new(
            "eleven-attachments",
            "broadcasts ten attachments, then eleven: official clients take ten and are closed by more",
            "ten arrive; only the sender of eleven is closed",
            "CVE-2026-33151, GHSA-677m-j7p3-52f9 (socket.io-parser)",
            eleven_attachments,
        ),
        Case::new(
            "attachments-announced",
            "announces 999,999,999,999 attachments, and as many in a name of 900 KB of digits",
            "that client is closed, or its next request is answered; memory does not grow",
            "CVE-2020-36049, GHSA-xfhh-g9f5-x4m4 (socket.io-parser)",
            attachments_announced,
        ),
        Case::new(
            "attachments-10000-empty",
            "sends an event with 10,000 empty attachments",
            "that client is closed, or handling takes time linear in their number",
            OURS,
            attachments_10000_empty,
        ),
        Case::new(
            "attachments-incomplete",
            "50 connections announce ten attachments and send nine of 900 KB each, 405 MB together",
            "memory for incomplete messages is bounded",
            "GHSA-55mf-67qm-4wpg (socketioxide)",
            attachments_incomplete,
        )
        .megabytes(350)
        .seconds(30),
        Case::new(
            "base64-over-websocket",
            "sends an attachment as text over a websocket (`b` and base64), as with forceBase64",
            "it comes back",
            OURS,
            base64_over_websocket,
        ),
        Case::new(
            "bad-base64",
            "POSTs attachments in invalid base64",
            "an answer in time; the session is closed, or the attachment has other bytes",
            OURS,
            bad_base64,
        ),
    ]
}

async fn placeholder_without_binary(server: Server) -> CaseResult {
    let placeholder = r#"{"_placeholder":true,"num":0}"#;
    let answer = server.client().await?.ask(placeholder).await?;
    ensure!(answer == format!("[{placeholder}]"), "{answer:.60} comes back");
    Ok("it comes back".into())
}

async fn placeholder_index_no_number(server: Server) -> CaseResult {
    let mut ends = Vec::new();
    for index in [r#","num":"splice""#, r#","num":-1"#, r#","num":1.5"#, r#","num":7"#, ""] {
        let mut client = server.client().await?;
        client
            .send(&format!("451-[\"message\",{{\"_placeholder\":true{index}}}]"))
            .await?;
        // The connection may be closed by then.
        let _ = client.send_binary(b"bytes").await;
        ends.push(client.closed_or_served().await.with_context(|| index.to_owned())?);
    }
    Ok(ends.join(", "))
}

async fn placeholders_of_one_attachment(server: Server) -> CaseResult {
    let mut client = server.client().await?;
    let placeholders = [r#"{"_placeholder":true,"num":0}"#; 10_000].join(",");
    client
        .send(&format!("451-7[\"message-with-ack\",{placeholders}]"))
        .await?;
    let _ = client.send_binary(&[7; 400_000]).await;
    server.newcomer().await?;
    tokio::time::sleep(Duration::from_secs(1)).await;
    server.newcomer().await?;
    Ok("others are served".into())
}

async fn eleven_attachments(server: Server) -> CaseResult {
    let (mut other, mut sender) = (server.client().await?, server.client().await?);
    // Anything sent at its connection has arrived by then.
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

async fn attachments_announced(server: Server) -> CaseResult {
    let digits = format!("45{}-[\"message\"]", "9".repeat(900_000));
    server
        .each_closed_or_served(&["45999999999999-[\"message\"]", &digits])
        .await
}

async fn attachments_10000_empty(server: Server) -> CaseResult {
    let mut client = server.client().await?;
    let text = frame(0x81, b"4510000-[\"message\"]");
    let _ = client.write(&[text, frame(0x82, b"").repeat(10_000)].concat()).await;
    let end = client.closed_or_served().await?;
    Ok(end.into())
}

async fn attachments_incomplete(server: Server) -> CaseResult {
    let bytes = frame(0x82, &vec![0; 900_000]);
    let mut clients = Vec::new();
    let mut taken = 0;
    for _ in 0..50 {
        let mut client = server.client().await?;
        client.send("4510-[\"message\"]").await?;
        for _ in 0..9 {
            let write = tokio::time::timeout(Duration::from_millis(500), client.write(&bytes)).await;
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

async fn base64_over_websocket(server: Server) -> CaseResult {
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

async fn bad_base64(server: Server) -> CaseResult {
    let mut ends = Vec::new();
    for text in ["b!!!no base64", "bAAA", "b", "bAA=A", "b\u{fffd}", "bAA AA"] {
        let mut polling = server.polling_client().await?;
        let head = r#"451-3["message-with-ack",{"_placeholder":true,"num":0}]"#;
        let answer = polling.try_post(format!("{head}\u{1e}{text}")).await?;
        ends.push(answer.status.to_string());
        if answer.status == 200 {
            // Any answer is fine; there is none if the attachment was dropped.
            let _ = polling.gather("461-3", 1).await;
        } else if answer.status >= 500 {
            bail!("{text} is answered by {}", answer.status);
        }
    }
    Ok(format!("answered by {}", ends.join(", ")))
}
