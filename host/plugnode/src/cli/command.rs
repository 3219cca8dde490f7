//! `[build]` of a plugnode.toml: a command of any toolchain that makes the component, or the script, of a handler.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::Mutex;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use tokio::process::Command;

use super::build::listen;
use super::progress;
use super::script::{component_of, is_script};
use super::sources::Sources;
use plugnode_runtime::ComponentInfo;
use plugnode_server::config::Build;

/// The most lines of what a command has said that an error shows: its last ones.
const SHOWN: usize = 60;
/// What a shell ends with when there is no such command.
const NOT_FOUND: i32 = 127;

/// A command that builds a handler.
pub(super) struct BuildCommand {
    command: String,
    /// Where it runs.
    folder: PathBuf,
    /// What it writes.
    output: PathBuf,
    watch: Vec<String>,
    /// The file that says so, for people.
    settings: PathBuf,
}

impl BuildCommand {
    /// What `[build]` in the plugnode.toml of a folder says.
    pub(super) fn new(build: Build, folder: &Path, settings: &Path) -> Result<Self> {
        let settings_name = settings.display();
        let Some(command) = build.command.filter(|command| !command.trim().is_empty()) else {
            bail!("{settings_name}: [build] command: is missing; name what makes the component, such as \"make\"");
        };
        let Some(output) = build.output.filter(|output| !output.as_os_str().is_empty()) else {
            bail!(
                "{settings_name}: [build] output: is missing; name the component or the script that `{command}` writes, such as \
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

    /// Whether it makes a script, which is then put into its runtime.
    pub(super) fn makes_script(&self) -> bool {
        is_script(&self.output)
    }

    /// The name of what it makes.
    pub(super) fn output(&self) -> &Path {
        &self.output
    }

    /// What is watched.
    pub(super) fn sources(&self) -> Result<Sources> {
        Sources::of_patterns(&self.folder, &self.watch, &self.output)
            .with_context(|| format!("{}: [build] watch", self.settings.display()))
    }

    /// Runs it, and gives the component that came of it.
    pub(super) async fn run(&self, runtime: Option<&Path>) -> Result<Bytes> {
        let (command, settings) = (&self.command, self.settings.display());
        let mut shell = Command::new("sh");
        shell.arg("-c").arg(command).current_dir(&self.folder);
        shell.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        shell.kill_on_drop(true);
        let child = shell.spawn().context("cannot run sh, which runs [build] command")?;
        let said = Mutex::new(String::new());
        let what = || {
            let said = said.lock().expect("nothing panics while it holds this lock");
            let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or_default();
            format!("{command}: {}", last.trim())
        };
        let (status, printed) = progress::during(what, progress::say, listen(child, &said)).await?;
        if !status.success() {
            let mut said = said.into_inner().expect("nothing panics while it holds this lock");
            said.push_str(&String::from_utf8_lossy(&printed));
            let lines: Vec<_> = said.trim_end().lines().collect();
            let said = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
            let remedy = match status.code() {
                Some(NOT_FOUND) => format!("\ninstall what is not found, or change [build] command in {settings}"),
                _ => String::new(),
            };
            bail!(
                "{} does not build: `{command}` ended with {status}\n{said}{remedy}",
                self.folder.display()
            );
        }
        let output = self.output.display();
        if !self.output.is_file() {
            bail!(
                "`{command}` ended well, and there is no {output}; name the file that it writes by [build] output in {settings}"
            );
        }
        if self.makes_script() {
            return component_of(&self.output, runtime).await;
        }
        let component = tokio::fs::read(&self.output).await;
        let component = Bytes::from(component.with_context(|| format!("cannot read {output}"))?);
        ComponentInfo::of_handler(&component).with_context(|| {
            format!("{output}, which `{command}` made, is no handler; see [build] output in {settings}")
        })?;
        Ok(component)
    }
}
