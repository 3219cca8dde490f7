//! Data of a timer event: key, due time and missed periods.

use serde::{Deserialize, Serialize};

use crate::Text;

/// A timer that fired.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fired {
    /// The key that the handler gave the timer.
    pub key: Text,
    /// When it was due, in milliseconds since the Unix epoch.
    pub due_ms: u64,
    /// Number of other events that this one stands for: periods that passed while no event could be handled.
    pub missed: u32,
    /// Whether it is a periodic timer. Its events that wait are merged into one.
    pub is_periodic: bool,
}
