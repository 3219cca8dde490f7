//! The machine of a run, without anything that identifies it.

use std::process::Command;
use std::time::Instant;

use serde_json::{Value, json};

use plugnode_tests::binary;

/// Hardware, versions, and the load of the machine.
pub(crate) struct Machine {
    processor: String,
    cores: usize,
    memory_gb: u64,
    kernel: String,
    /// Programs with their versions.
    programs: Vec<(&'static str, String)>,
    load_at_start: String,
    load_at_end: String,
    begun: Instant,
    seconds: u64,
}

impl Machine {
    /// Inspects the machine, before anything is started.
    pub(crate) fn inspect() -> Self {
        let plugnode = binary();
        Self {
            processor: value_of(&read("/proc/cpuinfo"), "model name").unwrap_or_else(|| "unknown".to_owned()),
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

    /// Notes the load and the time at the end of the run.
    pub(crate) fn finish(&mut self) {
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

/// Load average of the last minute.
fn load() -> String {
    read("/proc/loadavg").split(' ').next().unwrap_or_default().to_owned()
}

fn memory_kb() -> u64 {
    let total = value_of(&read("/proc/meminfo"), "MemTotal");
    total
        .and_then(|total| total.split(' ').next()?.parse().ok())
        .unwrap_or(0)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(file).unwrap_or_default()
}

/// The value after the colon, in the line that begins with `start`.
fn value_of(text: &str, start: &str) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(start))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

/// The first word of `--version` that looks like a version.
fn version(program: &str) -> String {
    let output = Command::new(program)
        .arg("--version")
        .output()
        .map(|output| output.stdout);
    let output = output.unwrap_or_default();
    let output = String::from_utf8_lossy(&output);
    let words = output
        .split_whitespace()
        .map(|word| word.trim_start_matches("v=").trim_start_matches('v'));
    let mut versions = words.filter(|word| word.starts_with(|c: char| c.is_ascii_digit()));
    versions.next().unwrap_or("of unknown version").to_owned()
}
