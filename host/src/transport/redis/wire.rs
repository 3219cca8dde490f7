//! How events, commands and dead letters are written: one byte that tells the version, then postcard
//! (<https://postcard.jamesmunns.com/wire-format>).
//!
//! A node that meets another version says so and leaves the thing alone; it never guesses.

use bytes::Bytes;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::message::{Event, EventId};
use crate::transport::Death;

/// The version that this node writes, and the only one it reads.
const VERSION: u8 = 1;

/// A dead letter as it is kept.
#[derive(Debug, Serialize, Deserialize)]
pub(super) struct Letter {
    pub(super) id: EventId,
    pub(super) death: Death,
    pub(super) died_at_ms: u64,
    pub(super) content: Content,
}

/// What was put aside.
#[derive(Debug, Serialize, Deserialize)]
pub(super) enum Content {
    Event(Event),
    Foreign(Bytes),
}

/// Writes a value.
pub(super) fn encode(value: &impl Serialize) -> Bytes {
    let written = postcard::to_extend(value, vec![VERSION]);
    written.expect("memory takes what is written to it").into()
}

/// Reads a value, or says why that cannot be.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    let (version, rest) = bytes.split_first().ok_or("it is empty")?;
    if *version != VERSION {
        return Err(format!(
            "it is of version {version}, and this node knows version {VERSION}"
        ));
    }
    match postcard::take_from_bytes(rest) {
        Ok((value, [])) => Ok(value),
        Ok((_, more)) => Err(format!("it has {} bytes too many", more.len())),
        Err(error) => Err(format!("it is malformed: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::{Client, Command, DisconnectReason, EventKind, Handshake, Text};

    fn event(kind: EventKind) -> Event {
        let client = Client {
            id: "alice".into(),
            io_node: "io".into(),
            attributes: Text::from_static("{}"),
        };
        Event {
            namespace: "/".into(),
            client: Some(client),
            received_at_ms: 7,
            kind,
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let handshake = Handshake {
            auth: Some("{}".into()),
            query: "a=b".into(),
            headers: vec![("host".into(), "x".into())],
            remote_addr: None,
            transport: "polling".into(),
            recovered: false,
        };
        for kind in [
            EventKind::Connection(Box::new(handshake)),
            EventKind::Disconnect(DisconnectReason::Other("tired".into())),
        ] {
            let event = event(kind);
            assert_eq!(decode::<Event>(&encode(&event)).unwrap(), event);
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused_with_the_reason() {
        let good = encode(&event(EventKind::Disconnect(DisconnectReason::Client)));
        for (bytes, reason) in [
            (Vec::new(), "it is empty".to_owned()),
            (
                vec![9, 1, 2],
                "it is of version 9, and this node knows version 1".into(),
            ),
            ([&good[..], b"more"].concat(), "it has 4 bytes too many".into()),
        ] {
            assert_eq!(decode::<Event>(&bytes).unwrap_err(), reason);
        }
        for length in 1..good.len() {
            assert!(
                decode::<Event>(&good[..length])
                    .unwrap_err()
                    .starts_with("it is malformed")
            );
        }
        for seed in 0..=255_u8 {
            let bytes: Vec<u8> = (0..64)
                .map(|n: u8| seed.wrapping_mul(31).wrapping_add(n.wrapping_mul(97)))
                .collect();
            let _ = decode::<Event>(&[&[VERSION][..], &bytes].concat());
            let _ = decode::<Vec<Command>>(&[&[VERSION][..], &bytes].concat());
        }
    }
}
