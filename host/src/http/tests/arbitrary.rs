//! Streams over real sockets, in arbitrary pieces and with arbitrary pauses: every byte comes through once and in order.

use proptest::collection::vec;
use proptest::prelude::*;
use tokio::sync::Semaphore;

use super::*;
use crate::arbitrary::{bytes, cuts, pieces};
use crate::http::head::First;
use crate::http::wire::Io;

const SIGN: &[u8] = b"\x8a\x84sign\x1a\x1a\x1a\x1a";
const SPARED: &[u8] = b"\x81\x012";
const HEAD: &[u8] = b"GET / HTTP/1.1\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";

/// A stream, and its peer.
async fn pair() -> (Stream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let peer = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    let (tcp, address) = listener.accept().await.unwrap();
    let permit = Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
    (Stream::new(Io::Plain(tcp), Connection::new(address), permit), peer)
}

fn heartbeat(first: u32) -> Arc<Heartbeat> {
    Arc::new(Heartbeat {
        sign_of_life: SIGN,
        every: Duration::from_millis(1),
        first,
        spared: Some(Spared {
            frame: SPARED,
            is_answered: true,
        }),
    })
}

fn run<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async { timeout(SOON, work).await.expect("it comes to its end") })
}

/// A message of a client, in one frame or in two with something between them.
fn message() -> impl Strategy<Value = Vec<u8>> {
    let content = || {
        prop_oneof![
            bytes(20),
            (100_usize..3_000).prop_map(|length| SIGN.repeat(length / SIGN.len()))
        ]
    };
    let frame = |first: u8, content: &[u8]| {
        let length = match content.len() {
            short @ 0..126 => vec![0x80 | short as u8],
            long => [&[0xfe], &(long as u16).to_be_bytes()[..]].concat(),
        };
        [&[first], &length[..], b"mask", content].concat()
    };
    prop_oneof![
        content().prop_map(move |content| frame(0x82, &content)),
        (content(), content())
            .prop_map(move |(one, two)| { [frame(0x02, &one), frame(0x89, b""), frame(0x80, &two)].concat() }),
    ]
}

/// What was read without the signs of life between the frames.
fn without_signs(mut read: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    let mut unfinished = false;
    while !read.is_empty() {
        if let Some(behind) = read.strip_prefix(SIGN) {
            assert!(!unfinished, "a sign of life within a message");
            read = behind;
            continue;
        }
        let length = match (read.get(1).map(|length| length & 0x7f), read) {
            (Some(126), [_, _, high, low, ..]) => 8 + usize::from(u16::from_be_bytes([*high, *low])),
            (Some(short), _) => 6 + usize::from(short),
            (None, _) => 1,
        };
        if read[0] & 8 == 0 {
            unfinished = read[0] & 0x80 == 0;
        }
        let (frame, behind) = read.split_at(length.min(read.len()));
        rest.extend_from_slice(frame);
        read = behind;
    }
    rest
}

proptest! {
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases / 4, ..ProptestConfig::default() })]

    #[test]
    fn what_a_peer_sends_comes_through_whatever_the_pieces_and_pauses(
        messages in vec(message(), 0..8),
        cuts in cuts(),
        first in 0_u32..2,
        reads in vec((any::<bool>(), 1_usize..600), 0..30),
        lost in 0_usize..3,
    ) {
        let mut sent = messages.concat();
        // Some peers go in the middle of a message.
        sent.truncate(sent.len().saturating_sub(lost));
        let expected = sent.clone();
        let read = run(async move {
            let (mut stream, mut peer) = pair().await;
            let send = async {
                for piece in pieces(&[HEAD, &sent].concat(), &cuts) {
                    peer.write_all(piece).await.unwrap();
                    tokio::task::yield_now().await;
                }
                peer.shutdown().await.unwrap();
            };
            let receive = async {
                let First { mut bytes, request } = head::read(&mut stream).await.unwrap();
                let (_, length) = request.expect("it asks for a WebSocket");
                assert_eq!(bytes.split_to(length), HEAD);
                stream.put_back(bytes);
                stream.becomes_websocket(heartbeat(first));
                let mut read = Vec::new();
                for (is_paused, size) in reads {
                    let connection = stream.connection().clone();
                    if is_paused {
                        connection.pause();
                    }
                    let mut buffer = vec![0; size];
                    // Where the peer is gone in the middle of a message, nothing comes.
                    if let Ok(got) = timeout(Duration::from_millis(20), stream.read(&mut buffer)).await {
                        read.extend_from_slice(&buffer[..got.unwrap()]);
                    }
                    if is_paused {
                        connection.resume();
                    }
                }
                stream.read_to_end(&mut read).await.unwrap();
                read
            };
            tokio::join!(send, receive).1
        });
        prop_assert_eq!(without_signs(&read), expected);
    }

    #[test]
    fn what_is_written_comes_to_the_peer_but_for_the_one_frame_it_is_spared(
        frames in vec(prop_oneof![
            1 => Just(SPARED.to_vec()),
            3 => (0_u8..126, any::<bool>()).prop_map(|(length, is_odd)| {
                let content = if is_odd { SPARED } else { b"x" };
                [vec![0x82, length], content.iter().copied().cycle().take(length.into()).collect()].concat()
            }),
        ], 0..12),
        cuts in cuts(),
    ) {
        let bytes = frames.concat();
        let mut starts = frames.iter().scan(0, |at, frame| { *at += frame.len(); Some(*at) }).collect::<Vec<_>>();
        starts.insert(0, 0);
        // The first that is whole in one piece.
        let mut end = 0;
        let spared = pieces(&bytes, &cuts).iter().find_map(|piece| {
            let begin = end;
            end += piece.len();
            starts.iter().copied().find(|at| *at >= begin && *at < end && bytes[*at..end].starts_with(SPARED))
        });
        let mut expected = bytes.clone();
        if let Some(at) = spared {
            expected.drain(at..at + SPARED.len());
        }
        let heard = run(async move {
            let (mut stream, mut peer) = pair().await;
            stream.becomes_websocket(heartbeat(0));
            let write = async {
                for piece in pieces(&bytes, &cuts) {
                    stream.write_all(piece).await.unwrap();
                }
                stream.shutdown().await.unwrap();
                let mut buffer = [0; SIGN.len()];
                if spared.is_some() {
                    // Its answer.
                    stream.read_exact(&mut buffer).await.unwrap();
                    assert_eq!(buffer, SIGN);
                }
            };
            let hear = async {
                let mut heard = Vec::new();
                peer.read_to_end(&mut heard).await.unwrap();
                heard
            };
            tokio::join!(write, hear).1
        });
        prop_assert_eq!(heard, expected);
    }
}
