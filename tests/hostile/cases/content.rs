//! Unusual contents of packets: they pass as through Node's server, or end only their own connection.

use anyhow::{Context, ensure};
use serde_json::Value;

use crate::case::{Case, CaseResult, OURS};
use crate::server::Server;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "lone-surrogate",
            r#"requests an echo of "\ud83d", half of a surrogate pair"#,
            r#"it comes back, or U+FFFD in its place; the client stays connected"#,
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
            "requests an echo of nested arrays, 1,000 deep",
            "they come back unchanged",
            OURS,
            nested_1000_deep,
        ),
        Case::new(
            "nested-200000-deep",
            "sends 200,000 nested arrays (400 KB), closed and unclosed",
            "an answer, or that client is closed",
            "CWE-674, uncontrolled recursion",
            nested_200000_deep,
        ),
        Case::new(
            "number-1e999",
            "requests an echo of 1e999",
            "the answer can be parsed with doubles; Node's server answers null",
            OURS,
            |server| odd_number(server, "1e999".into()),
        ),
        Case::new(
            "integer-of-5000-digits",
            "requests an echo of an integer of 5,000 digits",
            "the answer can be parsed with doubles; Node's server answers null",
            "CVE-2020-10735 (int() of Python), and found by attacking plugnode",
            |server| odd_number(server, "7".repeat(5_000)),
        ),
        Case::new(
            "raw-u2028",
            "requests an echo of U+2028 and U+2029, unescaped",
            "they come back",
            OURS,
            raw_u2028,
        ),
        Case::new(
            "event-name-no-text",
            r#"sends events named {"toString":"x"}, null, [], {} and nothing"#,
            "that client is closed, or its next request is answered",
            "CVE-2023-32695, GHSA-cqmj-92xf-r6r9 (socket.io-parser)",
            event_name_no_text,
        ),
        Case::new(
            "event-named-error",
            "sends events named error, connect, disconnect, connect_error, newListener",
            "that client is closed, or its next request is answered",
            "CVE-2024-38355, GHSA-25hc-qcg6-38wj (socket.io)",
            event_named_error,
        ),
        Case::new(
            "names-of-prototypes",
            "events, auth, keys and namespaces named __proto__, constructor, hasOwnProperty",
            "that client is closed, or its next request is answered",
            "CWE-1321, prototype pollution",
            names_of_prototypes,
        ),
        Case::new(
            "huge-ack-ids",
            "uses acknowledgement ids above 2^53, above 2^64 and of 100,000 digits, and acknowledges unknown ids",
            "that client is closed, or its next request is answered",
            OURS,
            huge_ack_ids,
        ),
        Case::new(
            "malformed-packets",
            "sends 32 packets that are not Socket.IO",
            "that client is closed, or its next request is answered",
            OURS,
            malformed_packets,
        ),
    ]
}

async fn lone_surrogate(server: Server) -> CaseResult {
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

async fn lone_surrogate_in_name(server: Server) -> CaseResult {
    let mut client = server.client().await?;
    client.send(r#"42["\ud83d",1]"#).await?;
    client.is_served().await?;
    Ok("the client stays".into())
}

async fn nested_1000_deep(server: Server) -> CaseResult {
    let nested = nested(1_000);
    let answer = server.client().await?.ask(&nested).await?;
    ensure!(
        answer == format!("[{nested}]"),
        "{} bytes come back, beginning {answer:.60}",
        answer.len()
    );
    Ok("they come back".into())
}

async fn nested_200000_deep(server: Server) -> CaseResult {
    let closed = format!("427[\"message-with-ack\",{}]", nested(200_000));
    let unclosed = format!("427[\"message-with-ack\",{}", "[".repeat(400_000));
    server.each_closed_or_served(&[&closed, &unclosed]).await
}

async fn odd_number(server: Server, number: String) -> CaseResult {
    let mut client = server.client().await?;
    let answer = client.ask(&number).await?;
    let read: Value = serde_json::from_str(&answer).with_context(|| format!("{answer:.40} comes back"))?;
    client.is_served().await?;
    Ok(format!("{:.40} comes back", read.to_string()))
}

async fn raw_u2028(server: Server) -> CaseResult {
    let answer = server.client().await?.ask("\"\u{2028}\u{2029}\"").await?;
    let read: Value = serde_json::from_str(&answer)?;
    ensure!(read[0] == "\u{2028}\u{2029}", "{answer} comes back");
    Ok("they come back".into())
}

async fn event_name_no_text(server: Server) -> CaseResult {
    let packets = [r#"42[{"toString":"x"}]"#, "42[null]", "42[[]]", "42[{}]", "42[]"];
    server.each_closed_or_served(&packets).await
}

async fn event_named_error(server: Server) -> CaseResult {
    let names = [
        "error",
        "connect",
        "disconnect",
        "connect_error",
        "disconnecting",
        "newListener",
    ];
    let packets = names.map(|name| format!("42[\"{name}\",\"x\"]"));
    server
        .each_closed_or_served(&packets.each_ref().map(String::as_str))
        .await
}

async fn names_of_prototypes(server: Server) -> CaseResult {
    let packets = [
        r#"42["__proto__",{"__proto__":{"polluted":1}}]"#,
        r#"42["constructor",{"constructor":{"prototype":{"polluted":1}}}]"#,
        r#"42["hasOwnProperty",1]"#,
        r#"40/__proto__,{"__proto__":{"polluted":1}}"#,
        "40/constructor,",
        "42/__proto__,[\"message\"]",
    ];
    server.each_closed_or_served(&packets).await
}

async fn huge_ack_ids(server: Server) -> CaseResult {
    let long = format!("42{}[\"message-with-ack\"]", "9".repeat(100_000));
    let packets = [
        "429007199254740993[\"message-with-ack\"]",
        "4299999999999999999999999[\"message-with-ack\"]",
        &long,
        "4312345[\"x\"]",
        "4399999999999999999999999[\"x\"]",
        "43-1[]",
    ];
    server.each_closed_or_served(&packets).await
}

async fn malformed_packets(server: Server) -> CaseResult {
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
    server.each_closed_or_served(&packets).await
}

fn nested(depth: usize) -> String {
    format!("{}{}", "[".repeat(depth), "]".repeat(depth))
}
