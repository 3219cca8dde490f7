//! What an instance hands to the one that takes its place.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// What a handler has in memory, on its way over a live replacement. See [`replace`](crate::replace).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// What the data is, with a version, such as `acme.chat/2`.
    pub schema: String,
    /// In whatever form `load` reads.
    pub data: Vec<u8>,
}

impl Snapshot {
    /// Of a value, as JSON.
    ///
    /// # Errors
    /// When the value cannot be written as JSON, such as a map whose keys are no texts.
    pub fn json(schema: impl Into<String>, value: &impl Serialize) -> serde_json::Result<Self> {
        Ok(Self {
            schema: schema.into(),
            data: serde_json::to_vec(value)?,
        })
    }

    /// The value of a snapshot that was made by [`json`](Self::json).
    ///
    /// # Errors
    /// When the data is no JSON, or not of this type.
    pub fn parse<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.data)
    }
}
