//! Effects: everything that the handling of one event does.

use crate::{Command, KeyChange, Read};

/// Everything that the handling of one event does. Committed as a whole or not at all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Effects {
    /// Commands, in the order of the handler's calls.
    pub commands: Vec<Command>,
    /// Changes of keys, at most one per key.
    pub writes: Vec<KeyChange>,
    /// The values that the event read, each before its own write to that key; at most one per key. The commit fails if one has changed since.
    /// Empty without writes.
    pub reads: Vec<Read>,
}
