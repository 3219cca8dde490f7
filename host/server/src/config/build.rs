//! `[build]`: how a handler is made by a toolchain that plugnode does not know.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::place::Places;
use super::{Config, ConfigError, environment};

/// `[build]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Build {
    /// What makes the component, by `sh -c` in the folder of the file. Default: none; the folder is a crate, a package or a script.
    pub command: Option<String>,
    /// The component, or the script, that it writes. Must be given with `command`.
    pub output: Option<PathBuf>,
    /// Files, folders and patterns whose changes make it run again. Default: all in the folder.
    pub watch: Vec<String>,
}

impl Build {
    /// What a file and the variables of an environment say of it, whatever the rest of them is. None when they say nothing.
    pub fn load(
        file: &Path,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Option<Self>, ConfigError> {
        let mut places = Places::of_file(Some(file))?;
        let table = environment::overlay(places.table()?, variables, &mut places)?;
        let config: Config = table
            .try_into()
            .map_err(|error: toml::de::Error| ConfigError(vec![error.to_string()]))?;
        Ok((config.build != Self::default()).then_some(config.build))
    }
}
