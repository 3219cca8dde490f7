//! Websockets as a client sees them, over real sockets.

use std::time::Duration;

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::arbitrary::{cuts, pieces, run};
use crate::http::testing::{hears, pair, tls_pair};

const SOON: Duration = Duration::from_secs(10);
const MOMENT: Duration = Duration::from_millis(50);

/// A frame of a client.
fn masked(first: u8, content: &[u8]) -> Vec<u8> {
    let length = match content.len() {
        short @ 0..126 => vec![0x80 | short as u8],
        long => [&[0xfe], &(long as u16).to_be_bytes()[..]].concat(),
    };
    let mask = [7, 1, 200, 3];
    let masked: Vec<u8> = content
        .iter()
        .zip(mask.iter().cycle())
        .map(|(byte, mask)| byte ^ mask)
        .collect();
    [&[first], &length[..], &mask, &masked].concat()
}

async fn websocket(max_message: usize) -> (WebSocket, TcpStream) {
    let (stream, peer) = pair().await;
    (WebSocket::new(stream, max_message), peer)
}

async fn next(websocket: &mut WebSocket) -> Said {
    timeout(SOON, websocket.next())
        .await
        .expect("something comes")
        .expect("it is well formed")
}

#[tokio::test]
async fn pings_are_answered_between_the_parts_of_a_message() {
    let (mut websocket, mut peer) = websocket(100).await;
    let said = [
        masked(0x01, b"in "),
        masked(0x89, b"there?"),
        masked(0x8a, b""),
        masked(0x80, b"two"),
        masked(0x82, b"\x01\x02"),
        masked(0x88, b"\x03\xe8"),
    ];
    peer.write_all(&said.concat()).await.unwrap();
    assert_eq!(next(&mut websocket).await, Said::Text("in two".into()));
    assert_eq!(
        next(&mut websocket).await,
        Said::Binary(Bytes::from_static(b"\x01\x02"))
    );
    assert_eq!(next(&mut websocket).await, Said::Goodbye);
    websocket.push(frame::text("last"));
    websocket.close().await.unwrap();
    let mut heard = Vec::new();
    timeout(SOON, peer.read_to_end(&mut heard))
        .await
        .expect("it ends")
        .unwrap();
    assert_eq!(heard, b"\x8a\x06there?\x81\x04last\x88\x02\x03\xe8");
}

#[tokio::test]
async fn who_floods_with_pings_and_does_not_read_takes_no_memory() {
    let (mut websocket, mut peer) = websocket(1_000).await;
    // More than the kernel takes for who does not read.
    let large = Bytes::from(vec![0x82; 1 << 20]);
    for _ in 0..32 {
        websocket.push(large.clone());
    }
    let pings = masked(0x89, &[b'x'; 125]).repeat(10_000);
    let (_, ended) = tokio::join!(peer.write_all(&pings), async {
        timeout(10 * MOMENT, websocket.next()).await
    });
    assert!(ended.is_err(), "nothing was said: {ended:?}");
    assert!(
        websocket.unwritten.len() <= 33,
        "{} frames wait",
        websocket.unwritten.len()
    );
}

#[tokio::test]
async fn a_pause_takes_hold_between_two_messages_also_of_those_that_were_read() {
    let (mut websocket, mut peer) = websocket(100).await;
    peer.write_all(&[masked(0x81, b"one"), masked(0x81, b"two")].concat())
        .await
        .unwrap();
    assert_eq!(next(&mut websocket).await, Said::Text("one".into()));
    let connection = websocket.connection().clone();
    connection.pause();
    connection.pause();
    connection.resume();
    assert!(
        timeout(MOMENT, websocket.next()).await.is_err(),
        "something is read through a pause"
    );
    // What goes out goes out.
    websocket.push(frame::text("meanwhile"));
    assert!(
        timeout(MOMENT, websocket.next()).await.is_err(),
        "something is read through a pause"
    );
    hears(&mut peer, b"\x81\x09meanwhile").await;
    let resuming = async {
        tokio::time::sleep(MOMENT).await;
        connection.resume();
    };
    let (said, ()) = tokio::join!(next(&mut websocket), resuming);
    assert_eq!(said, Said::Text("two".into()));
}

#[tokio::test]
async fn what_is_wrong_or_too_long_ends_it() {
    for (said, is_right) in [
        (masked(0x81, &[b'x'; 100]), true),
        (masked(0x81, &[b'x'; 101]), false),
        ([masked(0x01, &[b'x'; 60]), masked(0x80, &[b'x'; 60])].concat(), false),
        (masked(0x81, b"\xff"), false),
        (masked(0xc1, b"x"), false),
        (masked(0x80, b"x"), false),
        (b"\x81\x01x".to_vec(), false),
        (b"\x81\xff\xff\xff\xff\xff\xff\xff\xff\xffmask".to_vec(), false),
        (b"GET / HTTP/1.1\r\n\r\n".to_vec(), false),
        (Vec::new(), false),
    ] {
        let (mut websocket, mut peer) = websocket(100).await;
        peer.write_all(&said).await.unwrap();
        peer.shutdown().await.unwrap();
        let heard = timeout(SOON, websocket.next()).await.expect("it ends");
        assert_eq!(heard.is_ok(), is_right, "{said:?}: {heard:?}");
    }
}

#[tokio::test]
async fn over_tls_everything_comes_and_at_once() {
    let (stream, mut peer) = tls_pair().await;
    let mut websocket = WebSocket::new(stream, 100);
    for _ in 0..3 {
        // Nothing more is written that could take it along.
        websocket.push(frame::text("small"));
        timeout(SOON, websocket.write()).await.expect("it is taken").unwrap();
        let mut heard = [0; 7];
        timeout(SOON, peer.read_exact(&mut heard))
            .await
            .expect("it comes")
            .unwrap();
        assert_eq!(&heard, b"\x81\x05small");
        peer.write_all(&masked(0x81, b"said").repeat(2)).await.unwrap();
        peer.flush().await.unwrap();
        for _ in 0..2 {
            assert_eq!(next(&mut websocket).await, Said::Text("said".into()));
        }
    }
    let large = (0..40).map(|n| frame::text(&"x".repeat(n * 10_000)));
    let large: Vec<Bytes> = large.collect();
    websocket.push_all(large.clone());
    let mut heard = vec![0; large.iter().map(Bytes::len).sum()];
    let (written, read) = tokio::join!(websocket.write(), timeout(SOON, peer.read_exact(&mut heard)));
    written.unwrap();
    read.expect("all of it comes").unwrap();
    assert!(heard == large.concat());
    let mut rest = Vec::new();
    let (closed, read) = tokio::join!(websocket.close(), timeout(SOON, peer.read_to_end(&mut rest)));
    closed.unwrap();
    read.expect("it ends").unwrap();
    assert_eq!(rest, b"\x88\0");
}

#[tokio::test]
async fn one_that_is_closed_says_nothing_any_more() {
    let (mut websocket, mut peer) = websocket(100).await;
    peer.write_all(&masked(0x81, b"one").repeat(2)).await.unwrap();
    assert_eq!(next(&mut websocket).await, Said::Text("one".into()));
    websocket.connection().close();
    assert!(timeout(SOON, websocket.next()).await.expect("it ends").is_err());
    websocket.push(frame::text("too late"));
    assert!(websocket.write().await.is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

    #[test]
    fn what_is_said_and_what_is_sent_comes_once_and_in_order(
        said in vec((0_usize..3_000, any::<bool>()), 0..12),
        sent in vec(vec(0_usize..100_000, 0..90), 0..6),
        cuts in cuts(),
    ) {
        let texts: Vec<String> = (0..).zip(&said).map(|(n, (length, _))| format!("{n}{}", "x".repeat(*length))).collect();
        let bytes: Vec<u8> = texts.iter().zip(&said).flat_map(|(text, (_, is_split))| match is_split {
            false => masked(0x81, text.as_bytes()),
            true => [masked(0x01, text.as_bytes()), masked(0x89, b""), masked(0x80, b"")].concat(),
        }).collect();
        let pings = said.iter().filter(|(_, is_split)| *is_split).count();
        let frames: Vec<Vec<Bytes>> = sent.iter().map(|lengths| {
            lengths.iter().map(|length| frame::text(&"y".repeat(if length % 7 == 0 { *length } else { length % 300 }))).collect()
        }).collect();
        let expected: Vec<u8> = frames.iter().flatten().flat_map(|frame| frame.to_vec()).collect();
        let (heard, told) = run(async move {
            let (mut websocket, peer) = websocket(10_000).await;
            let (mut reading, mut writing) = peer.into_split();
            let peer = async {
                for piece in pieces(&bytes, &cuts) {
                    writing.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
            };
            let listening = async {
                let mut told = Vec::new();
                reading.read_to_end(&mut told).await.unwrap();
                told
            };
            let ours = async {
                let mut heard = Vec::new();
                for frames in frames {
                    websocket.push_all(frames);
                    if heard.len() < texts.len() {
                        heard.push(websocket.next().await.unwrap());
                    }
                }
                while heard.len() < texts.len() {
                    heard.push(websocket.next().await.unwrap());
                }
                websocket.close().await.unwrap();
                heard.into_iter().zip(&texts).all(|(said, text)| said == Said::Text(text.as_str().into()))
            };
            let ((), told, heard) = tokio::join!(peer, listening, ours);
            (heard, told)
        });
        prop_assert!(heard);
        // Answers to pings, and the goodbye, are between and behind.
        let told = without_control(&told, pings);
        prop_assert_eq!(told, expected);
    }
}

/// What was told without the frames of control, of which there are at most so many pongs.
fn without_control(mut told: &[u8], pings: usize) -> Vec<u8> {
    let mut rest = Vec::new();
    let mut pongs = 0;
    while !told.is_empty() {
        let head = match told[1] {
            126 => 4 + usize::from(u16::from_be_bytes([told[2], told[3]])),
            127 => 10 + u64::from_be_bytes(told[2..10].try_into().unwrap()) as usize,
            short => 2 + usize::from(short),
        };
        let (frame, behind) = told.split_at(head);
        match frame[0] {
            0x8a => pongs += 1,
            0x88 => assert!(behind.is_empty(), "something is said behind the goodbye"),
            _ => rest.extend_from_slice(frame),
        }
        told = behind;
    }
    assert!(pongs <= pings, "{pongs} answers to {pings} pings");
    rest
}
