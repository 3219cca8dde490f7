//! The head of a packet in text: its type, namespace and acknowledgement id.
//!
//! socketioxide's parser refuses acknowledgements without an id or a payload, and loses an id with whitespace beside it. Node's parser, which
//! takes whitespace for digits of the value 0, accepts all of these. Here such packets get the head that socketioxide's parser reads as Node
//! does: <https://github.com/socketio/socket.io/blob/main/packages/socket.io-parser/lib/index.ts>

use socketioxide_core::Str;

use crate::ack_number;

/// The packet with the head that socketioxide's parser reads as Node's reads the original one. Most packets stay as they are.
pub(super) fn normalized(packet: Str) -> Str {
    if is_plain(packet.as_bytes()) {
        return packet;
    }
    let Some(head) = Head::of(&packet) else {
        return packet;
    };
    let is_complete = !head.is_ack || (head.has_i64() && !head.payload.is_empty());
    if head.id == Some(head.id_text).filter(|text| !text.is_empty()) && is_complete {
        return packet;
    }
    let mut start = head.before_id.to_owned();
    if start.contains('/') && !start.ends_with(',') {
        start.push(',');
    }
    let no_event = ack_number::NO_EVENT.to_string();
    let (id, payload) = match head.is_ack {
        true => (
            head.id.filter(|_| head.has_i64()).unwrap_or(&no_event),
            if head.payload.is_empty() { "[]" } else { head.payload },
        ),
        false => (head.id.unwrap_or_default(), head.payload),
    };
    Str::from([&start, id, payload].concat())
}

/// Fast path: whether both parsers read the head of this packet alike. True for nearly all packets.
fn is_plain(packet: &[u8]) -> bool {
    let is_ack = match packet.first() {
        Some(b'2') => false,
        Some(b'3') => true,
        _ => return false,
    };
    let id = match packet.get(1) {
        Some(b'/') => packet.iter().position(|byte| *byte == b',').map(|comma| comma + 1),
        _ => Some(1),
    };
    let Some(rest) = id.and_then(|start| packet.get(start..)) else {
        return false;
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    // 18 digits fit into 64 bits.
    rest.get(digits) == Some(&b'[') && (!is_ack || (1..=18).contains(&digits))
}

/// The parts of an event or acknowledgement.
struct Head<'a> {
    is_ack: bool,
    /// Type, number of attachments and namespace.
    before_id: &'a str,
    /// Digits and whitespace.
    id_text: &'a str,
    /// The digits. None if there is no id, or whitespace between the digits.
    id: Option<&'a str>,
    payload: &'a str,
}

impl<'a> Head<'a> {
    /// None if the packet is of another type, or malformed.
    fn of(packet: &'a str) -> Option<Self> {
        let (is_ack, mut at) = match packet.as_bytes().first()? {
            b'2' => (false, 1),
            b'3' => (true, 1),
            b'5' => (false, packet.find('-')? + 1),
            b'6' => (true, packet.find('-')? + 1),
            _ => return None,
        };
        if packet[at..].starts_with('/') {
            at = packet[at..].find(',').map_or(packet.len(), |comma| at + comma + 1);
        }
        let (before_id, rest) = packet.split_at(at);
        let is_of_id = |c: char| c.is_ascii_digit() || is_whitespace(c);
        let (id_text, payload) = rest.split_at(rest.find(|c| !is_of_id(c)).unwrap_or(rest.len()));
        let id = match id_text.trim_matches(is_whitespace) {
            "" => (!id_text.is_empty()).then_some("0"),
            id => Some(id).filter(|id| !id.contains(is_whitespace)),
        };
        Some(Self {
            is_ack,
            before_id,
            id_text,
            id,
            payload,
        })
    }

    /// Whether it has an id that an event of this server may have.
    fn has_i64(&self) -> bool {
        self.id.is_some_and(|id| id.parse::<i64>().is_ok())
    }
}

/// Whether JavaScript converts this character to the number 0.
fn is_whitespace(c: char) -> bool {
    c == '\u{feff}' || (c.is_whitespace() && c != '\u{85}')
}
