//! Writes actual outcomes into a file of events as expectations. The rest of the file stays as it is written.

use anyhow::{Result, bail};

use super::file::EventFile;
use super::outcome::EventOutcome;
use super::toml_pieces::{Piece, PieceKind, pieces};

/// The file with new expectations for some events.
///
/// # Errors
/// When the file is valid TOML that cannot be edited, such as with events as inline tables.
pub(in super::super) fn update(file: &EventFile, outcomes: &[Option<EventOutcome>]) -> Result<String> {
    let text = &file.text;
    let mut updated = String::with_capacity(text.len());
    let mut kept = 0;
    let mut number = 0;
    let pieces = pieces(text);
    let mut pieces = pieces.iter().peekable();
    while let Some(piece) = pieces.next() {
        if !matches!(piece.kind, PieceKind::Event) {
            continue;
        }
        number += 1;
        let Some(Some(outcome)) = outcomes.get(number - 1) else {
            continue;
        };
        // End of the part of this event that stays.
        let mut end = piece.range.end;
        let mut is_expected = false;
        let is_of_event = |piece: &&Piece| match &piece.kind {
            PieceKind::Event => false,
            PieceKind::Header(name) => name.starts_with("event."),
            PieceKind::Pair(_) => true,
        };
        while let Some(piece) = pieces.next_if(is_of_event) {
            match &piece.kind {
                PieceKind::Header(name) => is_expected = name == "event.expect" || name.starts_with("event.expect."),
                PieceKind::Pair(key) if key == "expect" || key.starts_with("expect.") => {
                    updated.push_str(&text[kept..piece.range.start]);
                    kept = piece.range.end;
                    continue;
                }
                PieceKind::Pair(_) | PieceKind::Event => {}
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
        for line in outcome.to_toml() {
            updated.push_str(&line);
            updated.push('\n');
        }
    }
    updated.push_str(&text[kept..]);
    check(file, &updated, outcomes)?;
    Ok(updated)
}

/// Checks that the updated file has the same events, and expectations that the outcomes meet.
fn check(file: &EventFile, updated: &str, outcomes: &[Option<EventOutcome>]) -> Result<()> {
    let without = |text: &str| -> Option<toml::Table> {
        let mut table: toml::Table = text.parse().ok()?;
        for event in table.get_mut("event")?.as_array_mut()? {
            event.as_table_mut()?.remove("expect");
        }
        Some(table)
    };
    let read = EventFile::parse(&file.path, updated.to_owned());
    let is_correct = read.is_ok_and(|read| {
        read.events.len() == outcomes.len()
            && read.events.iter().zip(outcomes).all(|(entry, outcome)| {
                let Some(outcome) = outcome else { return true };
                let expected = entry
                    .expect
                    .as_ref()
                    .and_then(|expect| EventOutcome::expected(expect).ok());
                expected.is_some_and(|expected| expected.is_met_by(outcome))
            })
    });
    if !is_correct || without(&file.text).is_none() || without(&file.text) != without(updated) {
        bail!(
            "cannot update {} as it is written; begin each event with a line [[event]], and write its expectations below \
             [event.expect]",
            file.path.display()
        );
    }
    Ok(())
}
