//! A text that is sent many times, each time with another number, and recognised in replies.
//!
//! The frame is built once. Sending writes ten digits into it, and recognising compares bytes: the load must not cost more
//! than what it measures.

use std::ops::Range;

const DIGITS: usize = 10;
/// The mask of all frames. Browsers use random ones; for a server it makes no difference.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// Some 70 bytes, a typical size. Names are in alphabetical order, the order in which some servers serialize them again.
const OBJECT: &str = r#"{"n":##########,"ok":true,"text":"the quick brown fox jumps over the lazy dog"}"#;

/// A text with a number of ten digits.
#[derive(Clone)]
pub(crate) struct NumberedText {
    text: Vec<u8>,
    number: Range<usize>,
    frame: Vec<u8>,
    /// Offset of the text in the frame.
    head: usize,
}

impl NumberedText {
    /// Ten `#` in the text mark the place of the number.
    ///
    /// # Panics
    /// When the text has no ten `#`.
    pub(crate) fn new(text: &str) -> Self {
        let start = text
            .find(&"#".repeat(DIGITS))
            .expect("the text has a place for the number");
        let frame = frame(text.as_bytes());
        Self {
            head: frame.len() - text.len(),
            frame,
            number: start..start + DIGITS,
            text: text.as_bytes().to_vec(),
        }
    }

    /// An event with an object; `before` are the arguments before it, each followed by a comma.
    pub(crate) fn event(name: &str, before: &str) -> Self {
        Self::new(&format!(r#"42["{name}",{before}{OBJECT}]"#))
    }

    /// The same object alone.
    pub(crate) fn object() -> Self {
        Self::new(OBJECT)
    }

    /// The frame of the text with this number.
    pub(crate) fn numbered(&mut self, mut number: u64) -> &[u8] {
        for place in self.number.clone().rev() {
            let digit = b'0' + (number % 10) as u8;
            self.frame[self.head + place] = digit ^ MASK[place % 4];
            number /= 10;
        }
        &self.frame
    }

    /// The text with this number, without a frame.
    pub(crate) fn bare(&self, number: u64) -> Vec<u8> {
        let mut text = self.text.clone();
        text[self.number.clone()].copy_from_slice(number.to_string().as_bytes());
        text
    }

    /// The number in a text, if the text is otherwise the same.
    pub(crate) fn number_in(&self, text: &[u8]) -> Option<u64> {
        let Range { start, end } = self.number;
        let same =
            text.len() == self.text.len() && text[..start] == self.text[..start] && text[end..] == self.text[end..];
        same.then(|| number(&text[start..end]))?
    }
}

/// Parses a decimal number.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for digit in digits {
        number = number * 10 + u64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    (!digits.is_empty()).then_some(number)
}

/// A masked frame with a text.
pub(crate) fn frame(text: &[u8]) -> Vec<u8> {
    let length = match text.len() {
        short @ 0..126 => vec![0x80 | short as u8],
        long @ 126..65_536 => [&[0xfe], &(long as u16).to_be_bytes()[..]].concat(),
        long => [&[0xff], &(long as u64).to_be_bytes()[..]].concat(),
    };
    let masked = text.iter().zip(MASK.iter().cycle()).map(|(byte, mask)| byte ^ mask);
    let head = [&[0x81], &length[..], &MASK].concat();
    head.into_iter().chain(masked).collect()
}
