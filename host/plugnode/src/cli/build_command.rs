//! `[build]` of a plugnode.toml: a shell command that builds the handler, as a component or as a script, with any toolchain.

use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tokio::process::Command;

use super::child::{ErrorOutput, output_of};
use super::script::{build_component, is_script};
use super::source_watcher::SourceWatcher;
use super::terminal;
use plugnode_runtime::ComponentInfo;
use plugnode_server::config::Build;

/// Limit of the command's output in an error, in lines from its end.
const MAX_LINES: usize = 60;
/// Exit code of a shell for an unknown command.
const NOT_FOUND: i32 = 127;

/// The build command of a project.
pub(super) struct BuildCommand {
    command: String,
    /// Working directory.
    folder: PathBuf,
    /// File that the command writes.
    output: PathBuf,
    watch: Vec<String>,
    /// Path of the plugnode.toml, for error messages.
    settings: PathBuf,
}

impl BuildCommand {
    /// From `[build]` of the plugnode.toml at `settings`, in `folder`.
    pub(super) fn new(build: Build, folder: &Path, settings: &Path) -> Result<Self> {
        let settings_name = settings.display();
        let Some(command) = build.command.filter(|command| !command.trim().is_empty()) else {
            bail!(
                "{settings_name}: [build] command: is missing; set it to the command that builds the component, such as \"make\""
            );
        };
        let Some(output) = build.output.filter(|output| !output.as_os_str().is_empty()) else {
            bail!(
                "{settings_name}: [build] output: is missing; set it to the component or script that `{command}` writes, such as \
                 \"build/app.wasm\""
            );
        };
        Ok(Self {
            command,
            folder: folder.into(),
            output: folder.join(output),
            watch: build.watch,
            settings: settings.into(),
        })
    }

    /// Whether the output is a script, to be embedded in its runtime component.
    pub(super) fn builds_script(&self) -> bool {
        is_script(&self.output)
    }

    /// The file that the command writes.
    pub(super) fn output(&self) -> &Path {
        &self.output
    }

    /// Watches `[build] watch`, or the folder without it.
    pub(super) fn watch(&self) -> Result<SourceWatcher> {
        SourceWatcher::patterns(&self.folder, &self.watch, &self.output)
            .with_context(|| format!("{}: [build] watch", self.settings.display()))
    }

    /// Runs the command and returns the component.
    ///
    /// # Errors
    /// With the last lines of its output, if the command fails.
    pub(super) async fn run(&self, runtime: Option<&Path>) -> Result<Bytes> {
        let (command, settings) = (&self.command, self.settings.display());
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).current_dir(&self.folder);
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        shell.kill_on_drop(true);
        let child = shell.spawn().context("cannot run sh for [build] command")?;
        let errors = ErrorOutput::default();
        let what = || format!("{command}: {}", errors.last_line());
        let (status, printed) = terminal::during(what, terminal::say, output_of(child, &errors)).await?;
        if !status.success() {
            let output = errors.into_text() + &String::from_utf8_lossy(&printed);
            let lines: Vec<_> = output.trim_end().lines().collect();
            let output = lines[lines.len().saturating_sub(MAX_LINES)..].join("\n");
            let remedy = match status.code() {
                Some(NOT_FOUND) => format!("\ninstall what is not found, or change [build] command in {settings}"),
                _ => String::new(),
            };
            bail!(
                "{} does not build: `{command}` ended with {status}\n{output}{remedy}",
                self.folder.display()
            );
        }
        let output = self.output.display();
        if !self.output.is_file() {
            bail!(
                "`{command}` ended well, and there is no {output}; name the file that it writes by [build] output in {settings}"
            );
        }
        if self.builds_script() {
            return build_component(&self.output, runtime).await;
        }
        let component = tokio::fs::read(&self.output).await;
        let component = Bytes::from(component.with_context(|| format!("cannot read {output}"))?);
        ComponentInfo::of_handler(&component).with_context(|| {
            format!("{output}, which `{command}` made, is no handler; see [build] output in {settings}")
        })?;
        Ok(component)
    }
}
