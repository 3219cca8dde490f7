//! Files of events with expected effects, for `plugnode test` and `plugnode replay`.
//!
//! [`EventFile`] reads a file, `Entry` is one of its events, and [`Harness`] has a component handle them. The result is an
//! [`EventOutcome`], with `effects` as JSON. `diff` compares two outcomes, `update` writes them into the file, and [`file_of_event`] makes
//! a file of a dead letter.

mod dead_letter;
mod diff;
mod effects;
mod entry;
mod file;
mod harness;
mod notation;
mod outcome;
mod timer;
mod toml_pieces;
mod update;
mod value;

pub(super) use dead_letter::file_of_event;
pub(super) use diff::diff;
pub(super) use file::EventFile;
pub(super) use harness::{CompiledApps, Harness};
pub(super) use outcome::EventOutcome;
pub(super) use update::update;

#[cfg(test)]
mod tests;
