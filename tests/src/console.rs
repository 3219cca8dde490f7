//! Runs the release commands of the CLI (`deploy`, `rollback`, `releases`, `status`) against one cluster.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::Node;
use crate::verb::{CommandOutput, verb};

/// Interval of polling the status.
const LOOK: Duration = Duration::from_millis(200);
/// Time-out until all nodes report the same release.
const AGREEMENT: Duration = Duration::from_secs(20);

/// The release commands, with the arguments that select the cluster.
pub struct Console {
    folder: TempDir,
    cluster: Vec<String>,
    builds: AtomicUsize,
}

/// Result of a command.
#[derive(Debug)]
pub struct CommandResult {
    /// Exit code.
    pub code: Option<i32>,
    /// Standard output as JSON; null when it is not JSON.
    pub json: Value,
    /// Standard error, for people.
    pub said: String,
    /// Duration of the command.
    pub took: Duration,
}

impl Console {
    /// For the cluster whose processes have this configuration.
    pub fn of(config: &str) -> Self {
        let console = Self::with(&["-c", "plugnode.toml"]);
        std::fs::write(console.folder.path().join("plugnode.toml"), config).expect("the folder can be written to");
        console
    }

    /// For a process on the memory transport.
    pub fn of_node(node: &Node) -> Self {
        Self::with(&["--port", &node.port().to_string()])
    }

    fn with(cluster: &[&str]) -> Self {
        Self {
            folder: crate::temp_folder(),
            cluster: cluster.iter().map(|argument| (*argument).to_owned()).collect(),
            builds: AtomicUsize::new(0),
        }
    }

    /// Runs `plugnode deploy` on these bytes, with more arguments.
    pub async fn deploy(&self, component: &[u8], args: &[&str]) -> CommandResult {
        let file = self.build(component);
        let path = file.to_str().expect("its name is text");
        let answer = self.run(&[&["deploy", path][..], args].concat()).await;
        // Some tests deploy hundreds of builds.
        std::fs::remove_file(&file).expect("it is still there");
        answer
    }

    /// Writes these bytes to a new file.
    pub fn build(&self, component: &[u8]) -> PathBuf {
        let number = self.builds.fetch_add(1, Ordering::Relaxed);
        let file = self.folder.path().join(format!("build-{number}.wasm"));
        std::fs::write(&file, component).expect("the folder can be written to");
        file
    }

    /// The arguments by which a command of `plugnode` finds the cluster.
    pub fn cluster(&self) -> &[String] {
        &self.cluster
    }

    /// Runs `plugnode rollback`, to the release in `args` if there is one.
    pub async fn rollback(&self, args: &[&str]) -> CommandResult {
        self.run(&[&["rollback"][..], args].concat()).await
    }

    /// `plugnode releases`, newest first.
    ///
    /// # Panics
    /// When the command fails.
    pub async fn releases(&self) -> Vec<Value> {
        let answer = self.run(&["releases"]).await;
        let releases = answer.json.as_array().cloned();
        releases.unwrap_or_else(|| panic!("plugnode releases gives no list: {answer:?}"))
    }

    /// The only app of `plugnode status`.
    ///
    /// # Panics
    /// When the command fails.
    pub async fn status(&self) -> Value {
        let mut answer = self.run(&["status"]).await;
        match answer.json["apps"].as_array() {
            Some(apps) if apps.len() == 1 => answer.json["apps"][0].take(),
            _ => panic!("plugnode status does not list exactly one app: {answer:?}"),
        }
    }

    /// Waits until no rollout is in progress and all app-nodes, `nodes` in number, use the same release. Returns its number.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn agreement(&self, nodes: usize) -> u64 {
        let begun = Instant::now();
        loop {
            let status = self.status().await;
            if let Some(release) = agreed(&status, nodes) {
                return release;
            }
            assert!(
                begun.elapsed() < AGREEMENT,
                "{nodes} nodes do not agree on a release: {status:#}"
            );
            sleep(LOOK).await;
        }
    }

    /// Waits until a rollout is in this phase.
    ///
    /// # Panics
    /// When that takes too long.
    pub async fn phase(&self, phase: &str) {
        let begun = Instant::now();
        loop {
            let status = self.status().await;
            if status["rollout"]["phase"] == phase {
                return;
            }
            assert!(
                begun.elapsed() < crate::LIMIT,
                "no rollout in phase {phase}: {status:#}"
            );
            sleep(LOOK).await;
        }
    }

    async fn run(&self, args: &[&str]) -> CommandResult {
        let begun = Instant::now();
        let cluster = self.cluster.iter().map(String::as_str);
        let all: Vec<&str> = args.iter().copied().chain(cluster).chain(["--json"]).collect();
        let CommandOutput { status, out, err } = verb(&all, self.folder.path()).await;
        CommandResult {
            code: status.code(),
            json: serde_json::from_str(&out).unwrap_or_default(),
            said: err,
            took: begun.elapsed(),
        }
    }
}

impl CommandResult {
    /// Outcome: `in-use`, `not-tried`, `failed`, `superseded` …
    pub fn outcome(&self) -> &str {
        self.json["outcome"].as_str().unwrap_or("no outcome")
    }

    /// Whether the release is in use, tried with events or not.
    pub fn is_in_use(&self) -> bool {
        matches!(self.outcome(), "in-use" | "not-tried")
    }

    /// Why it failed or was refused.
    pub fn reason(&self) -> &str {
        self.json["reason"].as_str().unwrap_or_default()
    }

    /// Number of the requested release; 0 without one.
    pub fn release(&self) -> u64 {
        self.json["release"].as_u64().unwrap_or_default()
    }

    /// Short digest of its component, as handlers see it.
    pub fn digest(&self) -> String {
        short(&self.json)
    }

    /// Time from the command until the last node used the release, as reported by the command.
    pub fn until_last_node(&self) -> Option<Duration> {
        let nodes = self.json["nodes"].as_array()?;
        let times: Option<Vec<u64>> = nodes.iter().map(|node| node["ms"].as_u64()).collect();
        times?.into_iter().max().map(Duration::from_millis)
    }
}

/// The short digest of a release, as handlers see it.
pub(crate) fn short(release: &Value) -> String {
    let digest = release["digest"].as_str().unwrap_or_default();
    digest.chars().take(12).collect()
}

/// The release in use, if all nodes use it and no rollout is in progress.
fn agreed(status: &Value, nodes: usize) -> Option<u64> {
    let release = status["release"]["release"].as_u64()?;
    let reported = status["nodes"].as_array()?;
    let is_there = |node: &Value| node["release"] == release && node["progress"].is_null();
    (status["rollout"].is_null() && reported.len() == nodes && reported.iter().all(is_there)).then_some(release)
}
