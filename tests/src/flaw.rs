//! Builds of the handler `recorder` with a flaw, made by patching its file.

use crate::tools::patched;

/// The text that is patched; see the handler's module `fault`.
const MARK: &str = "fault:none; tests write it here.";

/// A flaw of a build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// It traps at its start.
    Start,
    /// It traps at every event.
    First,
    /// It loops forever at every event.
    Loops,
    /// It exports another interface than a handler.
    World,
    /// Its instances trap after some events: the first events succeed.
    Later,
}

impl Flaw {
    /// Flaws that a deploy detects before the release comes into use.
    pub const FOUND_AT_ONCE: [Self; 4] = [Self::Start, Self::First, Self::Loops, Self::World];

    /// A build of the handler `recorder` with this flaw.
    ///
    /// # Panics
    /// When `component` is no build of that handler.
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
