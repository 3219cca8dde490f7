//! The state that an instance hands over to its successor.

use serde::Serialize;
use serde::de::DeserializeOwned;

/// State of a handler that is carried over to the next release. See [`replace`](crate::replace).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Snapshot {
    /// The format of the data, with a version, such as `acme.chat/2`.
    pub schema: String,
    /// The data, in any format that `load` can read.
    pub data: Vec<u8>,
}

impl Snapshot {
    /// Creates a snapshot of a value, as JSON.
    ///
    /// # Errors
    /// If the value cannot be written as JSON, for example a map whose keys are not strings.
    pub fn json(schema: impl Into<String>, value: &impl Serialize) -> serde_json::Result<Self> {
        Ok(Self {
            schema: schema.into(),
            data: serde_json::to_vec(value)?,
        })
    }

    /// Parses the value of a snapshot that was created with [`json`](Self::json).
    ///
    /// # Errors
    /// If the data is not JSON, or does not have this type.
    pub fn parse<T: DeserializeOwned>(&self) -> serde_json::Result<T> {
        serde_json::from_slice(&self.data)
    }
}
