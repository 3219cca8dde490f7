//! Splits TOML into headers and key-value pairs, by their byte ranges, so that `update` can replace some and keep the
//! rest as written.

use std::ops::Range;

/// A header such as `[[event]]`, or a key with its value.
pub(super) struct Piece {
    pub(super) kind: PieceKind,
    /// From the beginning of its first line to the end of its last.
    pub(super) range: Range<usize>,
}

/// Kind of a piece, and its key.
pub(super) enum PieceKind {
    /// `[[event]]`
    Event,
    /// Another header.
    Header(String),
    /// A key-value pair.
    Pair(String),
}

/// Line number of each `[[event]]`, from 1.
pub(super) fn event_lines(text: &str) -> Vec<usize> {
    let mut lines = Vec::new();
    let (mut line, mut from) = (1, 0);
    for piece in pieces(text) {
        if matches!(piece.kind, PieceKind::Event) {
            line += text[from..piece.range.start].matches('\n').count();
            from = piece.range.start;
            lines.push(line);
        }
    }
    lines
}

/// Splits a valid TOML text.
pub(super) fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let start = at;
        let line = text[at..].lines().next().unwrap_or_default();
        let bare = line.trim_start();
        if bare.is_empty() || bare.starts_with('#') {
            at = end_of_line(text, at);
            continue;
        }
        if bare.starts_with('[') {
            at = end_of_line(text, at);
            let header = bare_key(bare.split('#').next().unwrap_or_default());
            let name = header.trim_matches(['[', ']']);
            pieces.push(Piece {
                kind: match name {
                    "event" => PieceKind::Event,
                    name => PieceKind::Header(name.to_owned()),
                },
                range: start..at,
            });
            continue;
        }
        at = end_of_value(text, at);
        let key = line.split('=').next().unwrap_or_default();
        pieces.push(Piece {
            kind: PieceKind::Pair(bare_key(key)),
            range: start..at,
        });
    }
    pieces
}

/// A key without spaces and quotes, which no key of an event needs.
fn bare_key(key: &str) -> String {
    key.chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, '"' | '\''))
        .collect()
}

fn end_of_line(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |end| at + end + 1)
}

/// End of the last line of the pair that begins at `from`: line breaks within brackets and strings do not end it.
fn end_of_value(text: &str, from: usize) -> usize {
    let bytes = text.as_bytes();
    let mut depth = 0_usize;
    let mut at = from;
    while at < bytes.len() {
        match bytes[at] {
            b'#' => {
                at = text[at..].find('\n').map_or(text.len(), |end| at + end);
                continue;
            }
            b'\n' if depth == 0 => return at + 1,
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b'"' | b'\'' => {
                at = end_of_string(bytes, at);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// Position after the closing quotes of the string that begins at `from`.
fn end_of_string(bytes: &[u8], from: usize) -> usize {
    let quote = bytes[from];
    let quotes = [quote; 3];
    let is_long = bytes[from..].starts_with(&quotes);
    let mut at = from + if is_long { 3 } else { 1 };
    while at < bytes.len() {
        if bytes[at] == b'\\' && quote == b'"' {
            at += 2;
        } else if is_long && bytes[at..].starts_with(&quotes) {
            at += 3;
            // Up to two quotes may precede the closing ones.
            while bytes.get(at) == Some(&quote) {
                at += 1;
            }
            return at;
        } else if !is_long && bytes[at] == quote {
            return at + 1;
        } else {
            at += 1;
        }
    }
    bytes.len()
}
