//! A file of events: TOML with the contents of the key-value store and a list of events.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, anyhow, bail};
use serde::Deserialize;

use super::entry::Entry;
use super::toml_pieces::event_lines;
use plugnode_server::config::in_words;

/// Limit of a file, in bytes.
const MAX_BYTES: u64 = 16 << 20;

/// A file of events.
pub(in super::super) struct EventFile {
    /// Path, for messages.
    pub(in super::super) path: PathBuf,
    /// Contents.
    pub(in super::super) text: String,
    /// Contents of the key-value store before the first event: values by bucket and key.
    pub(in super::super) keyvalue: BTreeMap<String, BTreeMap<String, String>>,
    /// Events, in order.
    pub(in super::super) events: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Contents {
    #[serde(default)]
    keyvalue: BTreeMap<String, BTreeMap<String, String>>,
    #[serde(default, rename = "event")]
    events: Vec<Entry>,
}

impl EventFile {
    /// Reads a file.
    pub(in super::super) fn read(path: &Path) -> Result<Self> {
        let size = match std::fs::metadata(path) {
            Ok(size) => size,
            Err(error) => bail!(
                "cannot read {}: {error}; name a file of events, see `plugnode test --help`",
                path.display()
            ),
        };
        if size.len() > MAX_BYTES {
            bail!(
                "{} has more than {MAX_BYTES} bytes; split it into several files",
                path.display()
            );
        }
        let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        let file = Self::parse(path, text)?;
        if file.events.is_empty() {
            bail!("{} has no [[event]]; see `plugnode test --help`", path.display());
        }
        Ok(file)
    }

    /// Line numbers of the events that are written as `[[event]]`.
    pub(in super::super) fn lines(&self) -> Vec<usize> {
        event_lines(&self.text)
    }

    /// Parses the contents of a file.
    pub(super) fn parse(path: &Path, text: String) -> Result<Self> {
        let Contents { keyvalue, events } = toml::from_str(&text).map_err(|error| {
            let at = error.span().map_or(0, |span| span.start);
            let line = 1 + text.bytes().take(at).filter(|byte| *byte == b'\n').count();
            anyhow!("{}:{line}: {}", path.display(), in_words(error.message()))
        })?;
        Ok(Self {
            path: path.into(),
            text,
            keyvalue,
            events,
        })
    }
}
