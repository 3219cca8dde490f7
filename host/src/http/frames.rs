//! Where in a stream of WebSocket frames a reader is, so that reading can be stopped between two messages.
//!
//! It looks at the frames' headers as they pass and keeps nothing of their content. RFC 6455, section 5.2.

/// The longest header: two bytes, eight of length, four of mask.
const LONGEST_HEADER: usize = 14;

/// The place in a stream of frames.
#[derive(Debug, Clone)]
pub(super) struct Frames {
    header: [u8; LONGEST_HEADER],
    /// How many bytes of the present header were seen.
    seen: u8,
    /// Whether they are masked, as those of a client are.
    masked: bool,
    /// How many bytes of the present frame's content are to come.
    content: u64,
    /// Whether the present frame belongs to a message that goes on after it.
    unfinished: bool,
    /// How many messages have to pass before a stop.
    first: u32,
    /// Whether this is no stream of frames.
    broken: bool,
}

impl Frames {
    /// At the beginning of a client's stream that cannot be stopped before the first so many messages.
    pub(super) fn new(first: u32) -> Self {
        Self::starting(true, first)
    }

    /// At the beginning of a server's stream.
    pub(super) fn of_server() -> Self {
        Self::starting(false, 0)
    }

    fn starting(masked: bool, first: u32) -> Self {
        Self {
            header: [0; LONGEST_HEADER],
            seen: 0,
            masked,
            content: 0,
            unfinished: false,
            first,
            broken: false,
        }
    }

    /// Whether the stream is none of frames, and so its place is not known.
    pub(super) fn is_broken(&self) -> bool {
        self.broken
    }

    /// How many bytes can be read without reading past the end of a message. None between two messages.
    pub(super) fn rest(&self) -> Option<usize> {
        let is_between = self.is_between_frames() && !self.unfinished && self.first == 0;
        (!is_between).then(|| self.step())
    }

    /// How many of these bytes, which come next, are before the first frame that is this one.
    pub(super) fn before(&self, frame: &[u8], bytes: &[u8]) -> usize {
        let mut place = self.clone();
        let mut at = 0;
        while at < bytes.len() && !(place.is_between_frames() && bytes[at..].starts_with(frame)) {
            if place.broken {
                return bytes.len();
            }
            let until = bytes.len().min(at.saturating_add(place.step()));
            place.saw(&bytes[at..until]);
            at = until;
        }
        at
    }

    fn is_between_frames(&self) -> bool {
        self.content == 0 && self.seen == 0
    }

    /// How many bytes can be read without reading past the end of a frame.
    fn step(&self) -> usize {
        match self.content {
            0 => self.header_length() - usize::from(self.seen),
            content => usize::try_from(content).unwrap_or(usize::MAX),
        }
    }

    /// Takes note of bytes that were read.
    pub(super) fn saw(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() && !self.broken {
            if self.content > 0 {
                let skipped = usize::try_from(self.content).map_or(bytes.len(), |content| content.min(bytes.len()));
                self.content -= skipped as u64;
                bytes = &bytes[skipped..];
                if self.content == 0 {
                    self.end_frame();
                }
                continue;
            }
            self.header[usize::from(self.seen)] = bytes[0];
            self.seen += 1;
            bytes = &bytes[1..];
            if self.seen == 2 && !self.is_plausible() {
                self.broken = true;
            } else if self.seen >= 2 && usize::from(self.seen) == self.header_length() {
                self.end_header();
            }
        }
    }

    /// The length of the present header, as far as can be said: at least two bytes.
    fn header_length(&self) -> usize {
        if self.seen < 2 {
            return 2;
        }
        let mask = if self.masked { 4 } else { 0 };
        match self.header[1] & 0x7f {
            126 => 4 + mask,
            127 => 10 + mask,
            _ => 2 + mask,
        }
    }

    /// Whether the header's first two bytes can be those of a frame: a known kind, without extensions, masked or not.
    fn is_plausible(&self) -> bool {
        let kind = self.header[0] & 0x0f;
        self.header[0] & 0x70 == 0 && matches!(kind, 0..=2 | 8..=10) && (self.header[1] & 0x80 != 0) == self.masked
    }

    fn end_header(&mut self) {
        self.content = match self.header[1] & 0x7f {
            126 => self.header[2..4]
                .iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
            127 => self.header[2..10]
                .iter()
                .fold(0, |length, byte| length << 8 | u64::from(*byte)),
            short => u64::from(short),
        };
        self.seen = 0;
        if self.content == 0 {
            self.end_frame();
        }
    }

    fn end_frame(&mut self) {
        let is_control = self.header[0] & 0x08 != 0;
        if is_control {
            return;
        }
        self.unfinished = self.header[0] & 0x80 == 0;
        if !self.unfinished {
            self.first = self.first.saturating_sub(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(first: u8, length: usize) -> Vec<u8> {
        let mut frame = vec![first];
        match length {
            0..126 => frame.push(0x80 | length as u8),
            126..65_536 => {
                frame.push(0x80 | 126);
                frame.extend((length as u16).to_be_bytes());
            }
            _ => {
                frame.push(0x80 | 127);
                frame.extend((length as u64).to_be_bytes());
            }
        }
        frame.extend([7; 4]);
        frame.extend(vec![b'x'; length]);
        frame
    }

    /// Reads as a stopped reader does, and says how much that was.
    fn read_to_a_stop(frames: &mut Frames, bytes: &[u8]) -> usize {
        let mut read = 0;
        while let Some(rest) = frames.rest() {
            let until = (read + rest).min(bytes.len());
            assert!(read < until, "it wants to read on after the end");
            frames.saw(&bytes[read..until]);
            read = until;
        }
        read
    }

    #[test]
    fn a_stop_is_at_the_end_of_a_message_whatever_its_length() {
        for length in [0, 1, 125, 126, 65_535, 65_536, 200_000] {
            let bytes = [frame(0x81, length), frame(0x81, 3)].concat();
            for begun in [1, 2, 3, 5, 9, 12] {
                let mut frames = Frames::new(0);
                assert_eq!(frames.rest(), None);
                let begun = begun.min(frame(0x81, length).len());
                frames.saw(&bytes[..begun]);
                let end = begun + read_to_a_stop(&mut frames, &bytes[begun..]);
                assert_eq!(end, frame(0x81, length).len(), "length {length}, begun {begun}");
            }
        }
    }

    #[test]
    fn a_message_of_several_frames_is_read_to_its_end_with_what_is_between() {
        let bytes = [
            frame(0x01, 10),
            frame(0x8a, 0),
            frame(0x00, 5),
            frame(0x89, 2),
            frame(0x80, 1),
        ]
        .concat();
        let mut frames = Frames::new(0);
        frames.saw(&bytes[..1]);
        assert_eq!(1 + read_to_a_stop(&mut frames, &bytes[1..]), bytes.len());
    }

    #[test]
    fn the_first_messages_pass_before_a_stop() {
        let bytes = [frame(0x81, 6), frame(0x89, 0), frame(0x82, 1), frame(0x81, 1)].concat();
        let mut frames = Frames::new(2);
        assert_eq!(read_to_a_stop(&mut frames, &bytes), bytes.len() - frame(0x81, 1).len());
    }

    #[test]
    fn a_frame_is_found_between_others_and_not_within_them() {
        const PING: &[u8] = b"\x81\x012";
        let short = b"\x82\x03\x81\x012";
        let long = [&b"\x81\x7e\x01\x00"[..], &[b'x'; 256]].concat();
        let bytes = [&short[..], &long, PING, PING].concat();
        let found = short.len() + long.len();
        for written in 0..found {
            let mut frames = Frames::of_server();
            frames.saw(&bytes[..written]);
            assert_eq!(
                frames.before(PING, &bytes[written..]),
                found - written,
                "{written} were written"
            );
        }
        let frames = Frames::of_server();
        assert_eq!(frames.before(PING, &bytes[..found]), found);
        assert_eq!(frames.before(PING, b""), 0);
    }

    #[test]
    fn what_is_no_frame_is_seen() {
        for bytes in [&b"GET / HTTP/1.1\r\n"[..], b"\x81\x01x", b"\x83\x80", b"\xc1\x80"] {
            let mut frames = Frames::new(0);
            frames.saw(bytes);
            assert!(frames.is_broken(), "{bytes:?}");
        }
    }

    mod arbitrary {
        use proptest::collection::vec;
        use proptest::prelude::*;

        use super::*;
        use crate::arbitrary::{bytes, cuts, pieces};

        const PING: &[u8] = b"\x81\x012";

        /// A frame's first byte, and its content.
        fn part() -> impl Strategy<Value = (u8, Vec<u8>)> {
            let first = proptest::sample::select(vec![0x81_u8, 0x01, 0x80, 0x00, 0x82, 0x02, 0x88, 0x89, 0x8a]);
            let length = prop_oneof![0_usize..10, 120_usize..135, 0_usize..2_000, 65_530_usize..65_541];
            // Content that looks like frames.
            let content = (length, bytes(8)).prop_map(|(length, some)| {
                let some = [PING, &some, b"\x81\x80"].concat();
                some.into_iter().cycle().take(length).collect::<Vec<_>>()
            });
            prop_oneof![4 => (first, content), 1 => Just((0x81, b"2".to_vec()))]
        }

        fn frame(first: u8, content: &[u8], is_masked: bool) -> Vec<u8> {
            let mut frame = super::frame(first, content.len());
            let head = frame.len() - content.len();
            frame.truncate(head);
            if !is_masked {
                frame.truncate(head - 4);
                frame[1] &= 0x7f;
            }
            [frame, content.to_vec()].concat()
        }

        /// Where frames end, and where a reader may stop.
        fn ends(parts: &[(u8, Vec<u8>)], is_masked: bool, mut first: u32) -> (Vec<usize>, Vec<usize>) {
            let (mut at, mut unfinished) = (0, false);
            let (mut frames, mut stops) = (vec![0], Vec::new());
            if first == 0 {
                stops.push(0);
            }
            for (kind, content) in parts {
                at += frame(*kind, content, is_masked).len();
                frames.push(at);
                if kind & 8 == 0 {
                    unfinished = kind & 0x80 == 0;
                    first = first.saturating_sub(u32::from(!unfinished));
                }
                if !unfinished && first == 0 {
                    stops.push(at);
                }
            }
            (frames, stops)
        }

        fn joined(parts: &[(u8, Vec<u8>)], is_masked: bool) -> Vec<u8> {
            parts
                .iter()
                .flat_map(|(first, content)| frame(*first, content, is_masked))
                .collect()
        }

        proptest! {
            #[test]
            fn a_reader_can_stop_where_messages_end_and_nowhere_else(
                parts in vec(part(), 0..8),
                first in 0_u32..3,
                cuts in cuts(),
            ) {
                let bytes = joined(&parts, true);
                let (_, stops) = ends(&parts, true, first);
                let mut frames = Frames::new(first);
                let mut at = 0;
                prop_assert_eq!(frames.rest().is_none(), stops.contains(&0));
                for piece in pieces(&bytes, &cuts) {
                    frames.saw(piece);
                    at += piece.len();
                    prop_assert!(!frames.is_broken());
                    match frames.rest() {
                        None => prop_assert!(stops.contains(&at), "it stops at {at}, and not at {stops:?}"),
                        Some(rest) => {
                            let next = stops.iter().find(|stop| **stop >= at);
                            prop_assert!(rest > 0 && next.is_none_or(|stop| at < *stop && at + rest <= *stop),
                                "at {at} it reads {rest} on, and may stop at {next:?}");
                        }
                    }
                }
            }

            #[test]
            fn a_frame_is_found_where_one_begins_and_nowhere_else(
                parts in vec(part(), 0..8),
                seen in any::<proptest::sample::Index>(),
                shown in any::<proptest::sample::Index>(),
            ) {
                let bytes = joined(&parts, false);
                let seen = seen.index(bytes.len() + 1);
                let until = seen + shown.index(bytes.len() - seen + 1);
                let mut frames = Frames::of_server();
                frames.saw(&bytes[..seen]);
                let (begins, _) = ends(&parts, false, 0);
                let found = begins.iter().find(|at| **at >= seen && bytes[**at..until.max(**at)].starts_with(PING));
                prop_assert_eq!(frames.before(PING, &bytes[seen..until]), found.unwrap_or(&until) - seen);
            }

            #[test]
            fn how_bytes_come_does_not_matter(bytes in bytes(300), cuts in cuts(), is_client in any::<bool>()) {
                let new = || if is_client { Frames::new(1) } else { Frames::of_server() };
                let (mut at_once, mut in_pieces) = (new(), new());
                at_once.saw(&bytes);
                for piece in pieces(&bytes, &cuts) {
                    in_pieces.saw(piece);
                }
                prop_assert_eq!(at_once.is_broken(), in_pieces.is_broken());
                prop_assert!(at_once.is_broken() || at_once.rest() == in_pieces.rest());
                prop_assert!(new().before(PING, &bytes) <= bytes.len());
            }
        }
    }
}
