//! Websocket frames that RFC 6455 forbids or that are too large: each ends its connection with the matching close code.

use anyhow::{Context, ensure};
use plugnode_tests::raw_client::frame;

use crate::case::{Case, CaseResult};
use crate::server::Server;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "reserved-bits",
            "sends frames with RSV1, RSV2, RSV3 without an agreed extension",
            "closed with 1002",
            "CVE-2022-21676, GHSA-273r-mgr4-v34f (engine.io)",
            |server| {
                forbidden(
                    server,
                    [0x40, 0x20, 0x10].map(|bit| frame(0x81 | bit, b"x")).to_vec(),
                    1002,
                )
            },
        ),
        Case::new(
            "reserved-opcodes",
            "sends frames with the opcodes 3, 7, 11 and 15",
            "closed with 1002",
            "RFC 6455, 5.2",
            |server| {
                forbidden(
                    server,
                    [3, 7, 11, 15].map(|opcode| frame(0x80 | opcode, b"x")).to_vec(),
                    1002,
                )
            },
        ),
        Case::new(
            "unmasked-frame",
            "sends a frame without a mask",
            "closed with 1002",
            "RFC 6455, 5.1",
            |server| forbidden(server, vec![b"\x81\x012".to_vec()], 1002),
        ),
        Case::new(
            "control-frames-misformed",
            "sends a ping of 126 bytes, a ping in fragments, a Close of one byte and one with code 1005",
            "closed with 1002",
            "RFC 6455, 5.5",
            control_frames_misformed,
        ),
        Case::new(
            "fragments-out-of-turn",
            "sends a continuation without a message, and a new message within a fragmented one",
            "closed with 1002",
            "RFC 6455, 5.4",
            fragments_out_of_turn,
        ),
        Case::new(
            "text-not-utf8",
            "sends texts that are not UTF-8",
            "closed with 1007",
            "RFC 6455, 8.1",
            |server| {
                forbidden(
                    server,
                    [&b"42\xff"[..], b"42\xc0\xaf", b"42\xed\xa0\x80"]
                        .map(|text| frame(0x81, text))
                        .to_vec(),
                    1007,
                )
            },
        ),
        Case::new(
            "frame-of-2-mb",
            "sends a frame of 2 MB where messages may have 1 MB",
            "closed with 1009",
            "CVE-2016-10542 (ws), and found by attacking plugnode",
            |server| forbidden(server, vec![frame(0x81, &vec![b'x'; 2_000_000])], 1009),
        ),
        Case::new(
            "frame-of-2-to-the-62",
            "announces a frame of 2^62 bytes, and of 2^63, and sends no content",
            "closed with 1009 (2^63 is forbidden, 1002), without memory for it",
            "CVE-2016-10542 (ws)",
            frame_of_2_to_the_62,
        ),
        Case::new(
            "fragments-of-2-mb",
            "sends 2 MB in fragments of 100 KB",
            "closed with 1009 before the end",
            "CVE-2026-42786 (Bandit), and found by attacking plugnode",
            fragments_of_2_mb,
        ),
    ]
}

async fn control_frames_misformed(server: Server) -> CaseResult {
    let frames = vec![
        frame(0x89, &[0; 126]),
        frame(0x09, b"x"),
        frame(0x88, b"x"),
        frame(0x88, &1005u16.to_be_bytes()),
    ];
    forbidden(server, frames, 1002).await
}

async fn fragments_out_of_turn(server: Server) -> CaseResult {
    let frames = vec![frame(0x80, b"x"), [frame(0x01, b"4"), frame(0x81, b"2")].concat()];
    forbidden(server, frames, 1002).await
}

async fn frame_of_2_to_the_62(server: Server) -> CaseResult {
    let announced = |length: u64| [&[0x82, 0xff][..], &length.to_be_bytes(), &[0; 4]].concat();
    closed_with(&server, &announced(1 << 62), &[1009]).await?;
    closed_with(&server, &announced(1 << 63), &[1002, 1009]).await?;
    Ok("closed with 1009".into())
}

async fn fragments_of_2_mb(server: Server) -> CaseResult {
    let part = vec![b'x'; 100_000];
    let parts = [frame(0x01, &part), frame(0x00, &part).repeat(18), frame(0x80, &part)];
    closed_with(&server, &parts.concat(), &[1009]).await?;
    Ok("closed with 1009".into())
}

/// Sends each of these by a new client, which must be closed with this code.
async fn forbidden(server: Server, frames: Vec<Vec<u8>>, code: u16) -> CaseResult {
    for (number, bytes) in frames.iter().enumerate() {
        let closed = closed_with(&server, bytes, &[code]).await;
        closed.with_context(|| format!("number {}", number + 1))?;
    }
    Ok(format!("closed with {code}"))
}

async fn closed_with(server: &Server, bytes: &[u8], codes: &[u16]) -> anyhow::Result<()> {
    let mut client = server.client().await?;
    // The server may close before all is sent.
    let _ = client.write(bytes).await;
    let code = client.closed().await?;
    ensure!(
        code.is_some_and(|code| codes.contains(&code)),
        "closed with {code:?}, not {codes:?}"
    );
    Ok(())
}
