//! `[build]`: the command that builds a handler with a toolchain that plugnode does not support itself.

use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::value_sources::ValueSources;
use super::{Config, ConfigError, environment};

/// `[build]`
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Build {
    /// Command that makes the component; run by `sh -c` in the folder of the file. Unset: the folder is a script or a crate.
    #[schemars(example = &"make")]
    pub command: Option<String>,
    /// File that `command` writes: a component, or a script that is then put into its runtime. Needed with `command`.
    #[schemars(example = &"build/app.wasm")]
    pub output: Option<PathBuf>,
    /// Files, folders and patterns such as `"src/**/*.c"` whose changes run `command` again. Empty: all in the folder
    /// but `target`, `build`, `dist`, `out`, `node_modules` and `public`.
    pub watch: Vec<String>,
}

impl Build {
    /// Reads the section from a file and the environment without validating other sections. None: it is not set.
    ///
    /// # Errors
    /// If the file cannot be read, or a value has the wrong type.
    pub fn load(
        file: &Path,
        variables: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Option<Self>, ConfigError> {
        let mut sources = ValueSources::of_file(Some(file))?;
        let table = environment::overlay(sources.table()?, variables, &mut sources)?;
        let config: Config = table
            .try_into()
            .map_err(|error: toml::de::Error| ConfigError(vec![error.to_string()]))?;
        Ok((config.build != Self::default()).then_some(config.build))
    }
}
