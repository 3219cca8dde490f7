//! Bursts of well-behaved clients: nothing is lost and no client is closed.

use anyhow::ensure;
use plugnode_tests::raw_client::frame;

use crate::case::{Case, CaseResult, OURS};
use crate::polling::payload;
use crate::server::Server;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "upgrade-with-500-waiting",
            "POSTs 500 events in one body, then goes from polling to websocket without a poll",
            "all 500 answers come over the websocket, in order",
            OURS,
            upgrade_with_500_waiting,
        ),
        Case::new(
            "post-of-1025-events",
            "POSTs 1,025 events that ask for an acknowledgement in one body of 30 KB",
            "1,025 acknowledgements",
            OURS,
            |server| post_of(server, 1_025),
        ),
        Case::new(
            "post-of-8192-events",
            "POSTs 8,192 events that ask for an acknowledgement in one body of 250 KB",
            "8,192 acknowledgements, and the session goes on",
            OURS,
            |server| post_of(server, 8_192),
        )
        .seconds(25),
        Case::new(
            "polling-1200-with-ack",
            "POSTs 1,200 events that ask for an acknowledgement, ten a body, and polls meanwhile",
            "1,200 acknowledgements",
            OURS,
            polling_1200_with_ack,
        )
        .seconds(25),
        Case::new(
            "websocket-burst-of-4000",
            "writes 4,000 events that ask for an acknowledgement at once, and reads meanwhile",
            "4,000 acknowledgements, in order",
            OURS,
            websocket_burst_of_4000,
        )
        .seconds(25),
        Case::new(
            "ten-echoes-of-900-kb",
            "writes ten events of 900 KB at once, and reads meanwhile",
            "ten answers of 900 KB: a client that reads is slowed, not closed",
            OURS,
            ten_echoes_of_900_kb,
        )
        .seconds(25),
        Case::new(
            "two-attachments-of-600-kb",
            "sends an event with two attachments of 600 KB where messages may have 1 MB",
            "it is acknowledged with both: the limit applies to each attachment",
            OURS,
            two_attachments_of_600_kb,
        ),
    ]
}

async fn upgrade_with_500_waiting(server: Server) -> CaseResult {
    let mut polling = server.polling_client().await?;
    polling
        .post(payload((0..500).map(|n| format!("42[\"message\",{n}]"))))
        .await?;
    let mut socket = server.upgrade(&format!("&sid={}", polling.sid), "").await?.socket()?;
    socket.send("2probe").await?;
    socket.hear("3probe").await?;
    socket.send("5").await?;
    let got = socket.burst(&[], "42[\"message-back\"", 500).await;
    all_in_order(&got, 500, |n| format!("42[\"message-back\",{n}]"))
}

async fn post_of(server: Server, count: usize) -> CaseResult {
    let mut polling = server.polling_client().await?;
    let body = payload((0..count).map(|n| format!("42{n}[\"message-with-ack\",{n}]")));
    let mut got = polling.burst(vec![body], "43", count).await;
    // Polling does not promise the order of acknowledgements.
    got.sort_by_key(|packet| (packet.len(), packet.clone()));
    all_in_order(&got, count, |n| format!("43{n}[{n}]"))
}

async fn polling_1200_with_ack(server: Server) -> CaseResult {
    let mut polling = server.polling_client().await?;
    let body = |tenth: usize| {
        payload(
            (0..10)
                .map(|n| tenth * 10 + n)
                .map(|n| format!("42{n}[\"message-with-ack\",{n}]")),
        )
    };
    let got = polling.burst((0..120).map(body).collect(), "43", 1_200).await;
    all_in_order(&got, 1_200, |n| format!("43{n}[{n}]"))
}

async fn websocket_burst_of_4000(server: Server) -> CaseResult {
    let mut client = server.client().await?;
    let events = (0..4_000).map(|n| frame(0x81, format!("42{n}[\"message-with-ack\",{n}]").as_bytes()));
    let got = client.burst(&events.collect::<Vec<_>>().concat(), "43", 4_000).await;
    all_in_order(&got, 4_000, |n| format!("43{n}[{n}]"))
}

async fn ten_echoes_of_900_kb(server: Server) -> CaseResult {
    let mut client = server.client().await?;
    let text = "x".repeat(900_000);
    let event = frame(0x81, format!("42[\"message\",\"{text}\"]").as_bytes());
    let got = client.burst(&event.repeat(10), "42[\"message-back\"", 10).await;
    all_in_order(&got, 10, |_| format!("42[\"message-back\",\"{text}\"]"))
}

async fn two_attachments_of_600_kb(server: Server) -> CaseResult {
    let mut client = server.client().await?;
    let [first, second] = [1, 2].map(|byte| vec![byte; 600_000]);
    let packet = [
        frame(
            0x81,
            br#"452-0["message-with-ack",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]"#,
        ),
        frame(0x82, &first),
        frame(0x82, &second),
    ];
    client.write(&packet.concat()).await?;
    client.hear("462-0").await?;
    ensure!(client.hear_binary().await? == first, "the first attachment is another");
    ensure!(
        client.hear_binary().await? == second,
        "the second attachment is another"
    );
    Ok("both come back".into())
}

/// Fails unless these are the expected packets, in order.
fn all_in_order(got: &[String], count: usize, expected: impl Fn(usize) -> String) -> CaseResult {
    ensure!(got.len() == count, "{} of {count}", got.len());
    let wrong = got.iter().enumerate().find(|(n, packet)| **packet != expected(*n));
    if let Some((n, packet)) = wrong {
        anyhow::bail!("{count} of {count}, and in place {n} is {packet:.60}");
    }
    Ok(format!("{count} of {count}"))
}
