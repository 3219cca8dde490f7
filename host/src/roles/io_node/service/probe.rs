//! The talk by which a client finds out whether it can move a session to a websocket: it says `2probe` and is answered
//! `3probe`, as often as it likes, and when it is ready it says `5`.
//!
//! The engine has this talk, too, but gives a session up that does not come to its end; and there are proxies that let a
//! websocket begin and nothing pass. Nothing is read here beyond the client's last word.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// What a client has said by the end of its talk, in frames.
pub(super) const SAID: &[u8] = b"\x81\x86\0\0\0\x002probe\x81\x81\0\0\0\x005";
/// What it has been told.
pub(super) const TOLD: &[u8] = b"\x81\x063probe";

const PROBE: &[u8] = b"2probe";
const UPGRADE: &[u8] = b"5";
/// The longest message that means something.
const LONGEST: usize = PROBE.len();
/// The longest frame that can be one of control.
const LONGEST_FRAME: usize = 125;
/// Frames that a client may take: more than any needs, in pieces and with pings between.
const MOST_FRAMES: usize = 32;

/// Kinds of frames, with the bit of those that end a message.
const FIN: u8 = 0x80;
const CONTINUATION: u8 = 0x0;
const TEXT: u8 = 0x1;
const CLOSE: u8 = 0x8;
const PING: u8 = 0x9;
const PONG: u8 = 0xa;
const MASKED: u8 = 0x80;

/// Why a client does not move.
#[derive(Debug, thiserror::Error)]
pub(super) enum GivenUp {
    #[error("the websocket ended: {0}")]
    Ended(#[from] io::Error),
    #[error("the client closed the websocket")]
    Closed,
    #[error("the client sent what is no part of a probe")]
    Nonsense,
    #[error("it has ended or moved to another websocket")]
    Over,
}

/// Talks with a client until it moves. It is told how to know that the client was answered.
pub(super) async fn talk<S>(stream: &mut S, answered: impl Fn()) -> Result<(), GivenUp>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut message = Vec::with_capacity(LONGEST);
    let mut begun = false;
    let mut probed = false;
    for _ in 0..MOST_FRAMES {
        let (first, content) = frame(stream).await?;
        match (first & !FIN, begun) {
            (PING, _) => {
                let head = [FIN | PONG, u8::try_from(content.len()).map_err(|_| GivenUp::Nonsense)?];
                say(stream, &[&head[..], &content].concat()).await?;
                continue;
            }
            (PONG, _) => continue,
            (CLOSE, _) => return Err(GivenUp::Closed),
            (TEXT, false) | (CONTINUATION, true) if message.len() + content.len() <= LONGEST => {
                message.extend(content);
            }
            _ => return Err(GivenUp::Nonsense),
        }
        begun = first & FIN == 0;
        match message.as_slice() {
            _ if begun => continue,
            PROBE => {
                say(stream, TOLD).await?;
                probed = true;
                answered();
            }
            UPGRADE if probed => return Ok(()),
            _ => return Err(GivenUp::Nonsense),
        }
        message.clear();
    }
    Err(GivenUp::Nonsense)
}

/// Reads a frame of a client: its first byte, and what is in it.
async fn frame<S: AsyncRead + Unpin>(stream: &mut S) -> Result<(u8, Vec<u8>), GivenUp> {
    let mut head = [0; 6];
    stream.read_exact(&mut head).await?;
    let [first, length, mask @ ..] = head;
    let is_masked = length & MASKED != 0;
    let length = usize::from(length & !MASKED);
    if !is_masked || length > LONGEST_FRAME {
        return Err(GivenUp::Nonsense);
    }
    let mut content = vec![0; length];
    stream.read_exact(&mut content).await?;
    let mask = mask.iter().cycle();
    content.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    Ok((first, content))
}

async fn say<S: AsyncWrite + Unpin>(stream: &mut S, frame: &[u8]) -> io::Result<()> {
    stream.write_all(frame).await?;
    stream.flush().await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use proptest::prelude::*;

    use super::*;

    fn masked(first: u8, content: &[u8]) -> Vec<u8> {
        let mask = [7, 1, 200, 3];
        let masked = content.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask);
        [first, MASKED | content.len() as u8]
            .into_iter()
            .chain(mask)
            .chain(masked)
            .collect()
    }

    /// How a client's talk ends, what it is told, how often it was answered, and what is left to be read.
    async fn talked(said: &[u8]) -> (Result<(), GivenUp>, Vec<u8>, u32, Vec<u8>) {
        let (mut ours, mut theirs) = tokio::io::duplex(100_000);
        theirs.write_all(said).await.unwrap();
        theirs.shutdown().await.unwrap();
        let answers = Cell::new(0);
        let ended = talk(&mut ours, || answers.set(answers.get() + 1)).await;
        let mut rest = Vec::new();
        ours.read_to_end(&mut rest).await.unwrap();
        drop(ours);
        let mut told = Vec::new();
        theirs.read_to_end(&mut told).await.unwrap();
        (ended, told, answers.get(), rest)
    }

    #[tokio::test]
    async fn a_client_moves_in_pieces_and_with_pings_between_and_nothing_beyond_is_read() {
        let said = [
            masked(0x01, b"2pr"),
            masked(0x89, b"there?"),
            masked(0x00, b""),
            masked(0x80, b"obe"),
            masked(0x8a, b""),
            masked(0x81, b"2probe"),
            masked(0x81, b"5"),
            masked(0x81, b"40"),
        ]
        .concat();
        let (ended, told, answers, rest) = talked(&said).await;
        ended.unwrap();
        assert_eq!(told, [&b"\x8a\x06there?"[..], TOLD, TOLD].concat());
        assert_eq!(answers, 2);
        assert_eq!(rest, masked(0x81, b"40"));
    }

    #[tokio::test]
    async fn what_is_given_to_the_engine_is_what_a_client_says() {
        let (ended, told, ..) = talked(SAID).await;
        ended.unwrap();
        assert_eq!(told, TOLD);
    }

    #[tokio::test]
    async fn a_client_that_says_something_else_does_not_move() {
        let probe = masked(0x81, b"2probe");
        for wrong in [
            masked(0x81, b"5"),
            masked(0x82, b"2probe"),
            masked(0xc1, b"2probe"),
            masked(0x80, b"2probe"),
            masked(0x81, b"2probes"),
            [masked(0x01, b"2"), masked(0x81, b"probe")].concat(),
            [probe.clone(), masked(0x81, b"40")].concat(),
            [probe.clone(), masked(0x81, b"")].concat(),
            b"\x81\x062probe".to_vec(),
            b"\x81\xfe\0\x01\0\0\0\0x".to_vec(),
            probe.repeat(MOST_FRAMES + 1),
        ] {
            let (ended, ..) = talked(&wrong).await;
            assert!(matches!(ended, Err(GivenUp::Nonsense)), "{wrong:?}: {ended:?}");
        }
        let (ended, ..) = talked(&masked(0x88, b"\x03\xe8")).await;
        assert!(matches!(ended, Err(GivenUp::Closed)), "{ended:?}");
        let (ended, ..) = talked(&probe).await;
        assert!(matches!(ended, Err(GivenUp::Ended(_))), "{ended:?}");
    }

    proptest! {
        #[test]
        fn whatever_a_client_sends_ends(said in proptest::collection::vec(any::<u8>(), 0..400)) {
            let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
            let (ended, ..) = runtime.block_on(talked(&said));
            prop_assert!(ended.is_err());
        }
    }
}
