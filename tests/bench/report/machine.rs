//! What a run ran on. Nothing that names the machine or a place on it.

use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use plugnode_tests::binary;

/// The facts, and how busy the machine was.
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    memory_gb: u64,
    kernel: String,
    /// A program and its version.
    programs: Vec<(&'static str, String)>,
    load_at_start: String,
    load_at_end: String,
    begun: Instant,
    seconds: u64,
}

impl Machine {
    /// Looks around, before anything is started.
    pub(crate) fn look() -> Self {
        let plugnode = binary();
        Self {
            processor: after(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_gb: memory_kb() >> 20,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            programs: vec![
                ("plugnode", version(&plugnode.to_string_lossy())),
                ("Node", version("node")),
                ("Redis", version("redis-server")),
            ],
            load_at_start: load(),
            load_at_end: String::new(),
            begun: Instant::now(),
            seconds: 0,
        }
    }

    /// Looks again.
    pub(crate) fn look_again(&mut self) {
        self.load_at_end = load();
        self.seconds = self.begun.elapsed().as_secs();
    }

    pub(super) fn describe(&self) -> String {
        let programs: Vec<String> = self
            .programs
            .iter()
            .map(|(name, version)| format!("{name} {version}"))
            .collect();
        format!(
            "{} processors ({}), {} GB, Linux {}; {}. Load of the machine {} at the start and {} at the end of {} min.",
            self.cores,
            self.processor,
            self.memory_gb,
            self.kernel,
            programs.join(", "),
            self.load_at_start,
            self.load_at_end,
            self.seconds.div_ceil(60),
        )
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "processor": self.processor,
            "processors": self.cores,
            "memory-gb": self.memory_gb,
            "kernel": self.kernel,
            "programs": self.programs.iter().map(|(name, version)| (*name, version.clone())).collect::<std::collections::BTreeMap<_, _>>(),
            "load-at-start": self.load_at_start,
            "load-at-end": self.load_at_end,
            "seconds": self.seconds,
        })
    }
}

/// How many processes wanted to run in the last minute.
fn load() -> String {
    read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned()
}

fn memory_kb() -> u64 {
    let total = after(&read("/proc/meminfo"), "MemTotal");
    total
        .and_then(|total| total.split(' ').next()?.parse().ok())
        .unwrap_or(0)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

/// What stands after the colon in the line that begins like this.
fn after(text: &str, start: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(start))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The first thing that looks like a version in what a program says of itself.
fn version(program: &str) -> String {
    let said = Command::new(program)
        .arg("--version")
        .output()
        .map(|output| output.stdout);
    let said = said.unwrap_or_default();
    let said = String::from_utf8_lossy(&said);
    let words = said
        .split_whitespace()
        .map(|word| word.trim_start_matches("v=").trim_start_matches('v'));
    let mut versions = words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    versions.next().unwrap_or("of unknown version").to_owned()
}
