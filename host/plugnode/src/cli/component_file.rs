//! Component files that a person names.

use std::io::ErrorKind;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// Reads the file.
pub(super) fn read(path: &Path) -> Result<Vec<u8>> {
    let file = path.display();
    match std::fs::read(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("there is no {file}; build it by `plugnode build`, or name another .wasm file")
        }
        read => read.with_context(|| format!("cannot read {file}")),
    }
}
