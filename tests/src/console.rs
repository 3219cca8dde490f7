//! Somebody who deploys: the verbs about releases as processes, as a person or a script would start them, and what these say.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;
use tokio::time::sleep;

use crate::Node;
use crate::verb::{Said, verb};

/// How often the cluster is asked whether something is so by now
const LOOK: Duration = Duration::from_millis(200);
/// and how long it may take until all nodes say the same.
const AGREEMENT: Duration = Duration::from_secs(20);

/// A terminal at which one cluster's releases are seen to.
pub struct Console {
    folder: TempDir,
    cluster: Vec<String>,
    builds: AtomicUsize,
}

/// What a command came to.
#[derive(Debug)]
pub struct Answer {
    /// Its exit code.
    pub code: Option<i32>,
    /// What it said for a machine; null when that is nothing.
    pub json: Value,
    /// What it said for people.
    pub said: String,
    /// How long it took, from its start to its end.
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
            folder: tempfile::tempdir().expect("a temporary folder can be made"),
            cluster: cluster.iter().map(|argument| (*argument).to_owned()).collect(),
            builds: AtomicUsize::new(0),
        }
    }

    /// `plugnode deploy` of these bytes, with more arguments.
    pub async fn deploy(&self, component: &[u8], args: &[&str]) -> Answer {
        let file = self.build(component);
        let path = file.to_str().expect("its name is text");
        let answer = self.run(&[&["deploy", path][..], args].concat()).await;
        // A storm has hundreds of them.
        std::fs::remove_file(&file).expect("it is still there");
        answer
    }

    /// A file with these bytes.
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

    /// `plugnode rollback`, to a release if one is named.
    pub async fn rollback(&self, args: &[&str]) -> Answer {
        self.run(&[&["rollback"][..], args].concat()).await
    }

    /// `plugnode releases`, newest first.
    ///
    /// # Panics
    /// When the cluster cannot be asked.
    pub async fn releases(&self) -> Vec<Value> {
        let answer = self.run(&["releases"]).await;
        let releases = answer.json.as_array().cloned();
        releases.unwrap_or_else(|| panic!("plugnode releases gives no list: {answer:?}"))
    }

    /// The only app of `plugnode status`.
    ///
    /// # Panics
    /// When the cluster cannot be asked.
    pub async fn status(&self) -> Value {
        let mut answer = self.run(&["status"]).await;
        match answer.json["apps"].as_array() {
            Some(apps) if apps.len() == 1 => answer.json["apps"][0].take(),
            _ => panic!("plugnode status does not tell of one app: {answer:?}"),
        }
    }

    /// Waits until no rollout goes on and every app-node, of which there are so many, uses the same release. Returns its
    /// number.
    ///
    /// # Panics
    /// When that does not come to be.
    pub async fn agreement(&self, nodes: usize) -> u64 {
        let begun = Instant::now();
        loop {
            let status = self.status().await;
            if let Some(release) = agreed(&status, nodes) {
                return release;
            }
            assert!(
                begun.elapsed() < AGREEMENT,
                "{nodes} nodes do not come to the same: {status:#}"
            );
            sleep(LOOK).await;
        }
    }

    /// Waits until a rollout is in this phase.
    ///
    /// # Panics
    /// When it does not come to be.
    pub async fn phase(&self, phase: &str) {
        let begun = Instant::now();
        loop {
            let status = self.status().await;
            if status["rollout"]["phase"] == phase {
                return;
            }
            assert!(begun.elapsed() < crate::LIMIT, "there is no {phase}: {status:#}");
            sleep(LOOK).await;
        }
    }

    async fn run(&self, args: &[&str]) -> Answer {
        let begun = Instant::now();
        let cluster = self.cluster.iter().map(String::as_str);
        let all: Vec<&str> = args.iter().copied().chain(cluster).chain(["--json"]).collect();
        let Said { status, out, err } = verb(&all, self.folder.path()).await;
        Answer {
            code: status.code(),
            json: serde_json::from_str(&out).unwrap_or_default(),
            said: err,
            took: begun.elapsed(),
        }
    }
}

impl Answer {
    /// In a word: `in-use`, `not-tried`, `failed`, `superseded` …
    pub fn outcome(&self) -> &str {
        self.json["outcome"].as_str().unwrap_or("nothing that can be read")
    }

    /// Whether it is in use, be it that it had no events to be tried with.
    pub fn is_in_use(&self) -> bool {
        matches!(self.outcome(), "in-use" | "not-tried")
    }

    /// Why it failed or was refused.
    pub fn reason(&self) -> &str {
        self.json["reason"].as_str().unwrap_or_default()
    }

    /// The number of the release that was asked for; 0 when none was.
    pub fn release(&self) -> u64 {
        self.json["release"].as_u64().unwrap_or_default()
    }

    /// Its component, as handlers see it.
    pub fn digest(&self) -> String {
        short(&self.json)
    }

    /// From the command to the last node's first use of it, as the command saw it.
    pub fn until_last_node(&self) -> Option<Duration> {
        let nodes = self.json["nodes"].as_array()?;
        let times: Option<Vec<u64>> = nodes.iter().map(|node| node["ms"].as_u64()).collect();
        times?.into_iter().max().map(Duration::from_millis)
    }
}

/// The short digest of what has a digest, as handlers see it.
pub(crate) fn short(release: &Value) -> String {
    let digest = release["digest"].as_str().unwrap_or_default();
    digest.chars().take(12).collect()
}

/// The release in use, when nothing else is and nothing is on its way.
fn agreed(status: &Value, nodes: usize) -> Option<u64> {
    let release = status["release"]["release"].as_u64()?;
    let told = status["nodes"].as_array()?;
    let is_there = |node: &Value| node["release"] == release && node["progress"].is_null();
    (status["rollout"].is_null() && told.len() == nodes && told.iter().all(is_there)).then_some(release)
}
