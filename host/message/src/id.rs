//! Ids of partitions, events and acknowledgements, and how they are written as text.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{Namespace, SessionId};

/// The number of a partition: an ordered log of events. All events of a client are in one partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Partition(pub u16);

impl fmt::Display for Partition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The id of an event, never used again: its partition and its position in that partition's log. As text, ids of one partition
/// sort in the order of their events.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct EventId {
    /// The event's partition.
    pub partition: Partition,
    /// Position in the log. Grows with every event of the partition.
    pub sequence: u64,
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const DIGITS: &[u8; 16] = b"0123456789abcdef";
        if self.sequence >> 48 != 0 {
            return write!(f, "{:04x}-{:x}", self.partition.0, self.sequence);
        }
        // Formatted once an event: this is faster than `{:012x}`.
        let number = u64::from(self.partition.0) << 48 | self.sequence;
        let digits: [u8; 16] = std::array::from_fn(|place| DIGITS[(number >> (60 - 4 * place) & 0xf) as usize]);
        let (partition, sequence) = std::str::from_utf8(&digits).expect("digits are ASCII").split_at(4);
        f.write_str(partition)?;
        f.write_str("-")?;
        f.write_str(sequence)
    }
}

impl FromStr for EventId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const WORDS: &str = "not an event's id, such as 002a-0000000001f4";
        let (partition, sequence) = text.split_once('-').ok_or(WORDS)?;
        let is_hex = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_hexdigit());
        if !is_hex(partition) || !is_hex(sequence) {
            return Err(WORDS);
        }
        Ok(Self {
            partition: Partition(u16::from_str_radix(partition, 16).map_err(|_| WORDS)?),
            sequence: u64::from_str_radix(sequence, 16).map_err(|_| WORDS)?,
        })
    }
}

/// The id of an acknowledgement that a client waits for. Handlers see its text as `ack-id`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct AckId {
    /// The namespace of the client.
    pub namespace: Namespace,
    /// The client that waits.
    pub client: SessionId,
    /// The packet id that the client chose.
    pub number: i64,
}

impl fmt::Display for AckId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Dots separate the parts, so dots in the session id are escaped.
        let client = self.client.as_str().replace('%', "%25").replace('.', "%2E");
        write!(f, "{}.{client}.{}", self.number, self.namespace)
    }
}

impl FromStr for AckId {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = text.splitn(3, '.');
        let (Some(number), Some(client), Some(namespace)) = (parts.next(), parts.next(), parts.next()) else {
            return Err("not an ack-id of this host");
        };
        Ok(Self {
            namespace: namespace.into(),
            client: client.replace("%2E", ".").replace("%25", "%").into(),
            number: number.parse().map_err(|_| "not an ack-id of this host")?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ack_ids_round_trip() {
        for (client, namespace) in [("abc_-9", "/"), ("/a.b%2E#abc", "/a.b%2E"), ("/#.%", "/.x")] {
            let id = AckId {
                namespace: namespace.into(),
                client: client.into(),
                number: -7,
            };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in ["", "1", "1.a", "x.a./", "."] {
            assert!(text.parse::<AckId>().is_err(), "{text:?}");
        }
    }

    #[test]
    fn event_ids_round_trip() {
        for (partition, sequence) in [(0, 0), (42, 500), (u16::MAX, u64::MAX)] {
            let partition = Partition(partition);
            let id = EventId { partition, sequence };
            assert_eq!(id.to_string().parse(), Ok(id));
        }
        for text in [
            "",
            "-",
            "1",
            "1-",
            "-1",
            "10000-1",
            "+1-1",
            "1-+1",
            "x-1",
            "1-1-1",
            "1-10000000000000000",
        ] {
            assert!(text.parse::<EventId>().is_err(), "{text:?}");
        }
    }

    mod arbitrary {
        use proptest::prelude::*;

        use super::*;
        use plugnode_testing::arbitrary::{nearly_text, one_of, text};

        proptest! {
            #[test]
            fn ids_round_trip(
                partition in any::<u16>(),
                sequence in prop_oneof![any::<u64>(), 0..1_u64 << 48],
                number in any::<i64>(),
                client in "[a-zA-Z0-9_-]{0,20}",
                namespace in text(),
            ) {
                let id = EventId { partition: Partition(partition), sequence };
                prop_assert_eq!(id.to_string().parse(), Ok(id));
                prop_assert_eq!(id.to_string(), format!("{partition:04x}-{sequence:012x}"));
                let id = AckId { namespace: namespace.into(), client: client.into(), number };
                prop_assert_eq!(id.to_string().parse(), Ok(id));
            }

            #[test]
            fn parsed_ids_are_valid(given in nearly_text(one_of(&["002a-0000000001f4", "7.abc./chat", "-1.a.b.c", "é-é"]))) {
                if let Ok(id) = given.parse::<EventId>() {
                    prop_assert_eq!(id.to_string().parse(), Ok(id));
                }
                if let Ok(id) = given.parse::<AckId>() {
                    prop_assert_eq!(id.to_string().parse(), Ok(id));
                }
            }
        }
    }
}
