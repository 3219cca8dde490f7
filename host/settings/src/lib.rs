//! How settings are written in the configuration file.
//!
//! Each part of the host declares its settings once, as a serde struct with its defaults and doc texts; the configuration nests these
//! structs. This crate has what they share: value types, and [`flat!`] for structs whose keys stand in one table. It knows no setting.
//!
//! - [`Size`] and [`Bytes`]: sizes, such as `"64MB"`.
//! - [`Millis`]: durations, in keys that end with `-ms`.
//! - [`Secret`]: a text that is not shown.

pub mod flat;
mod millis;
mod secret;
mod size;

pub use millis::Millis;
pub use secret::Secret;
pub use size::{Bytes, Size};

#[doc(hidden)]
pub use {serde, serde_json};
