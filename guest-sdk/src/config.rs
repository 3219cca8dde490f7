//! The `config` table of the app's configuration, over `wasi:config`.

use std::fmt;

use crate::host::config as wire;

/// The host cannot read the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error(String);

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the app's configuration cannot be read: {}", self.0)
    }
}

impl std::error::Error for Error {}

/// The value of a key, or none if it is not set.
pub fn get(key: &str) -> Result<Option<String>, Error> {
    wire::get(key).map_err(failed)
}

/// All keys with their values.
pub fn all() -> Result<Vec<(String, String)>, Error> {
    wire::get_all().map_err(failed)
}

fn failed(error: wire::Error) -> Error {
    match error {
        wire::Error::Upstream(reason) | wire::Error::Io(reason) => Error(reason),
    }
}
