//! The server's process by /proc: its resident memory, with a peak over time, and its open files.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::task::JoinHandle;

const SAMPLE: Duration = Duration::from_millis(20);

/// A process of this machine.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Process(u32);

/// Resident memory, in bytes.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Memory {
    pub(crate) before: u64,
    pub(crate) peak: u64,
    pub(crate) after: u64,
}

impl Process {
    /// A running process.
    pub(crate) fn new(pid: u32) -> Result<Self> {
        let process = Self(pid);
        process
            .memory()
            .with_context(|| format!("--pid {pid}: no such process on this machine"))?;
        Ok(process)
    }

    /// Its resident memory in bytes, unless it has ended.
    pub(crate) fn memory(self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
        let kilobytes: u64 = line.split_whitespace().next()?.parse().ok()?;
        Some(kilobytes * 1024)
    }

    /// Number of its open files, connections included.
    pub(crate) fn files(self) -> Option<usize> {
        Some(fs::read_dir(format!("/proc/{}/fd", self.0)).ok()?.count())
    }
}

/// Samples the memory of a process from its creation to [`stop`](Self::stop).
pub(crate) struct Watch {
    process: Process,
    before: u64,
    peak: Arc<AtomicU64>,
    task: JoinHandle<()>,
}

impl Watch {
    pub(crate) fn start(process: Process) -> Self {
        let before = process.memory().unwrap_or_default();
        let peak = Arc::new(AtomicU64::new(before));
        let highest = peak.clone();
        let task = tokio::spawn(async move {
            while let Some(memory) = process.memory() {
                highest.fetch_max(memory, Ordering::Relaxed);
                tokio::time::sleep(SAMPLE).await;
            }
        });
        Self {
            process,
            before,
            peak,
            task,
        }
    }

    pub(crate) fn stop(self) -> Memory {
        self.task.abort();
        Memory {
            before: self.before,
            peak: self.peak.load(Ordering::Relaxed),
            after: self.process.memory().unwrap_or_default(),
        }
    }
}
