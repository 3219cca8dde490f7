//! What can be wrong with a build, and how the handler `recorder`'s file is made into one that has it.

use crate::tools::patched;

/// What is written over in the file; see the handler's `fault` module.
const MARK: &str = "fault:none; tests write it here.";

/// What is wrong with a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It fails before it has handled anything.
    Start,
    /// It fails at every event.
    First,
    /// It never comes back from an event.
    Loops,
    /// It exports another interface than a handler's.
    World,
    /// An instance of it fails once it has handled some events: first ones tell nothing.
    Later,
}

impl Flaw {
    /// What a deploy finds out before the release is in use.
    pub const FOUND_AT_ONCE: [Self; 4] = [Self::Start, Self::First, Self::Loops, Self::World];

    /// A build of the handler `recorder` with this flaw.
    ///
    /// # Panics
    /// When it is no build of that handler.
    pub fn of(self, component: Vec<u8>) -> Vec<u8> {
        let word = match self {
            Self::Start => "start",
            Self::First => "first",
            Self::Loops => "loops",
            Self::Later => "later",
            Self::World => return patched(component, "plugnode:app/handler@", "plugnode:app/hundler@"),
        };
        let rest = &MARK["fault:".len() + word.len()..];
        patched(component, MARK, &format!("fault:{word};{}", &rest[1..]))
    }
}
