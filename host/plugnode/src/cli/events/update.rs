//! Writes into a file of events what came of each, in place of what was expected. All else of it stays as it was written.

use std::ops::Range;

use anyhow::{Result, bail};

use super::{Came, EventsFile, in_toml};

/// A piece of a file: a header such as `[[event]]`, or a key with its value.
struct Piece {
    kind: Kind,
    /// From the beginning of its first line to the end of its last.
    range: Range<usize>,
}

enum Kind {
    /// `[[event]]`
    Event,
    Header(String),
    Pair(String),
}

/// The file with these expectations, one for each event that is to have another.
pub(in super::super) fn update(file: &EventsFile, came: &[Option<Came>]) -> Result<String> {
    let text = &file.text;
    let mut updated = String::with_capacity(text.len());
    let mut kept = 0;
    let mut number = 0;
    let pieces = pieces(text);
    let mut pieces = pieces.iter().peekable();
    while let Some(piece) = pieces.next() {
        if !matches!(piece.kind, Kind::Event) {
            continue;
        }
        number += 1;
        let Some(Some(came)) = came.get(number - 1) else {
            continue;
        };
        // The end of what stays of this event.
        let mut end = piece.range.end;
        let mut is_expected = false;
        let is_of_event = |piece: &&Piece| match &piece.kind {
            Kind::Event => false,
            Kind::Header(name) => name.starts_with("event."),
            Kind::Pair(_) => true,
        };
        while let Some(piece) = pieces.next_if(is_of_event) {
            match &piece.kind {
                Kind::Header(name) => is_expected = name == "event.expect" || name.starts_with("event.expect."),
                Kind::Pair(key) if key == "expect" || key.starts_with("expect.") => {
                    updated.push_str(&text[kept..piece.range.start]);
                    kept = piece.range.end;
                    continue;
                }
                Kind::Pair(_) | Kind::Event => {}
            }
            if is_expected {
                updated.push_str(text[kept..piece.range.start].trim_end_matches('\n'));
                if !updated.is_empty() && !updated.ends_with('\n') {
                    updated.push('\n');
                }
                kept = piece.range.end;
            } else {
                end = piece.range.end;
            }
        }
        if kept < end {
            updated.push_str(&text[kept..end]);
            kept = end;
        }
        if !updated.ends_with('\n') {
            updated.push('\n');
        }
        updated.push_str("[event.expect]\n");
        for line in in_toml(came) {
            updated.push_str(&line);
            updated.push('\n');
        }
    }
    updated.push_str(&text[kept..]);
    check(file, &updated, came)?;
    Ok(updated)
}

/// Whether the result says what came, and of the events what they were.
fn check(file: &EventsFile, updated: &str, came: &[Option<Came>]) -> Result<()> {
    let without = |text: &str| -> Option<toml::Table> {
        let mut table: toml::Table = text.parse().ok()?;
        for event in table.get_mut("event")?.as_array_mut()? {
            event.as_table_mut()?.remove("expect");
        }
        Some(table)
    };
    let read = EventsFile::of_text(&file.path, updated.to_owned());
    let is_right = read.is_ok_and(|read| {
        read.events.len() == came.len()
            && read.events.iter().zip(came).all(|(entry, came)| {
                let Some(came) = came else { return true };
                let expected = entry.expect.as_ref().and_then(|expect| Came::expected(expect).ok());
                expected.is_some_and(|expected| expected.is_met_by(came))
            })
    });
    if !is_right || without(&file.text).is_none() || without(&file.text) != without(updated) {
        bail!(
            "{} cannot be updated as it is written; begin each event with a line [[event]], and write what is expected below \
             [event.expect]",
            file.path.display()
        );
    }
    Ok(())
}

/// The line of each `[[event]]`, counted from 1.
pub(super) fn lines(text: &str) -> Vec<usize> {
    let mut lines = Vec::new();
    let (mut line, mut from) = (1, 0);
    for piece in pieces(text) {
        if matches!(piece.kind, Kind::Event) {
            line += text[from..piece.range.start].matches('\n').count();
            from = piece.range.start;
            lines.push(line);
        }
    }
    lines
}

/// The pieces of a file that is TOML.
fn pieces(text: &str) -> Vec<Piece> {
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
                    "event" => Kind::Event,
                    name => Kind::Header(name.to_owned()),
                },
                range: start..at,
            });
            continue;
        }
        at = end_of_value(text, at);
        let key = line.split('=').next().unwrap_or_default();
        pieces.push(Piece {
            kind: Kind::Pair(bare_key(key)),
            range: start..at,
        });
    }
    pieces
}

/// A key without spaces and quotes, of which those of events need none.
fn bare_key(key: &str) -> String {
    key.chars()
        .filter(|c| !c.is_whitespace() && !matches!(c, '"' | '\''))
        .collect()
}

fn end_of_line(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |end| at + end + 1)
}

/// The end of the line on which a value ends that begins on this one: not within brackets, nor within a text of several lines.
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
                at = end_of_text(bytes, at);
                continue;
            }
            _ => {}
        }
        at += 1;
    }
    text.len()
}

/// Behind the quotes that end the text which begins here.
fn end_of_text(bytes: &[u8], from: usize) -> usize {
    let quote = bytes[from];
    let quotes = [quote; 3];
    let is_long = bytes[from..].starts_with(&quotes);
    let mut at = from + if is_long { 3 } else { 1 };
    while at < bytes.len() {
        if bytes[at] == b'\\' && quote == b'"' {
            at += 2;
        } else if is_long && bytes[at..].starts_with(&quotes) {
            at += 3;
            // Up to two quotes may stand before those that end it.
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
