//! A text that is sent many times with another number in it each time, and known again when it comes back.
//!
//! The frame is built once. To send it is to write ten digits into it, and to recognise it is to compare bytes: the load
//! must not cost more than what it measures.

use std::ops::Range;

const DIGITS: usize = 10;
/// Browsers mask with anything but this; a server has the same work with it.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// Some 70 bytes, as people send. Names in the order of the alphabet, in which a server may put them that parses and writes anew.
const OBJECT: &str = r#"{"n":##########,"ok":true,"text":"the quick brown fox jumps over the lazy dog"}"#;

/// A text with a place for a number.
#[derive(Clone)]
pub(crate) struct Text {
    text: Vec<u8>,
    number: Range<usize>,
    frame: Vec<u8>,
    /// Where the text begins in the frame.
    head: usize,
}

impl Text {
    /// Ten `#` are the place of the number.
    ///
    /// # Panics
    /// When there are none.
    pub(crate) fn new(text: &str) -> Self {
        let start = text.find(&"#".repeat(DIGITS)).expect("a place for the number");
        let frame = frame(text.as_bytes());
        Self {
            head: frame.len() - text.len(),
            frame,
            number: start..start + DIGITS,
            text: text.as_bytes().to_vec(),
        }
    }

    /// An event with an object; `before` are arguments before it, each with a comma.
    pub(crate) fn event(name: &str, before: &str) -> Self {
        Self::new(&format!(r#"42["{name}",{before}{OBJECT}]"#))
    }

    /// The same object by itself.
    pub(crate) fn object() -> Self {
        Self::new(OBJECT)
    }

    /// The frame that carries this number.
    pub(crate) fn numbered(&mut self, mut number: u64) -> &[u8] {
        for place in self.number.clone().rev() {
            let digit = b'0' + (number % 10) as u8;
            self.frame[self.head + place] = digit ^ MASK[place % 4];
            number /= 10;
        }
        &self.frame
    }

    /// The text with this number, in no frame.
    pub(crate) fn bare(&self, number: u64) -> Vec<u8> {
        let mut text = self.text.clone();
        text[self.number.clone()].copy_from_slice(number.to_string().as_bytes());
        text
    }

    /// The number in a text, if it is this one in all else.
    pub(crate) fn number_in(&self, text: &[u8]) -> Option<u64> {
        let Range { start, end } = self.number;
        let same =
            text.len() == self.text.len() && text[..start] == self.text[..start] && text[end..] == self.text[end..];
        same.then(|| number(&text[start..end]))?
    }
}

/// The number that these digits write.
pub(crate) fn number(digits: &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for digit in digits {
        number = number * 10 + u64::from(digit.checked_sub(b'0').filter(|digit| *digit < 10)?);
    }
    (!digits.is_empty()).then_some(number)
}

/// A client's frame with this text.
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
