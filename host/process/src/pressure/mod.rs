//! The memory of this process against its budget.
//!
//! It is looked at once a second. From a first mark on clients are read more slowly; at the budget new ones are refused and
//! `/readyz` says so, until there is room again. Those who are there stay: the kernel would end them all.

mod machine;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use bytesize::ByteSize;
use tracing::{info, warn};

use crate::shutdown::Shutdown;

/// How often memory is looked at.
const PAUSE: Duration = Duration::from_secs(1);
/// Of what the process may have at most, the budget is so many hundredths unless it is set.
const DEFAULT: u64 = 80;
/// Of the budget, clients are read more slowly from so many hundredths on.
const SHORT: u64 = 85;
/// A level ends so many hundredths of the budget below where it begins.
const SLACK: u64 = 3;

/// How a process stands with its memory. Clones are the same.
#[derive(Debug, Clone, Default)]
pub struct Pressure(Arc<State>);

#[derive(Debug, Default)]
struct State {
    level: AtomicU8,
    used: AtomicU64,
    budget: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Easy,
    Short,
    Full,
}

impl Pressure {
    /// Watches the memory of this process until it ends, against this many bytes, or a share of what the machine or its cgroup
    /// allows. A budget of 0 is none.
    pub fn watch(budget: Option<u64>, shutdown: &Shutdown) -> Self {
        let pressure = Self::default();
        let budget = budget.or_else(|| machine::limit().map(|limit| limit / 100 * DEFAULT));
        let Some(budget) = budget.filter(|budget| *budget > 0) else {
            return pressure;
        };
        if machine::used().is_none() {
            return pressure;
        }
        info!(budget = %ByteSize(budget).display().si(), "memory budget");
        let (watched, ending) = (pressure.clone(), shutdown.clone());
        shutdown.spawn(async move {
            let watching = async {
                loop {
                    if let Some(used) = machine::used() {
                        watched.note(used, budget);
                    }
                    tokio::time::sleep(PAUSE).await;
                }
            };
            tokio::select! {
                () = watching => {}
                () = ending.begun() => {}
            }
        });
        pressure
    }

    /// Whether clients are to be read more slowly.
    pub fn is_short(&self) -> bool {
        self.level() >= Level::Short
    }

    /// Why nobody is to be taken in.
    pub fn problem(&self) -> Option<String> {
        let bytes = |number: &AtomicU64| ByteSize(number.load(Ordering::Relaxed)).display().si();
        self.is_full().then(|| {
            let State { used, budget, .. } = &*self.0;
            format!("it uses {} of a memory budget of {}", bytes(used), bytes(budget))
        })
    }

    /// Whether nobody is to be taken in.
    pub fn is_full(&self) -> bool {
        self.level() == Level::Full
    }

    fn level(&self) -> Level {
        match self.0.level.load(Ordering::Relaxed) {
            0 => Level::Easy,
            1 => Level::Short,
            _ => Level::Full,
        }
    }

    /// So much of the budget is used.
    fn note(&self, used: u64, budget: u64) {
        let before = self.level();
        let now = next(before, used, budget);
        let State {
            level,
            used: last_used,
            budget: last_budget,
        } = &*self.0;
        last_used.store(used, Ordering::Relaxed);
        last_budget.store(budget, Ordering::Relaxed);
        level.store(now as u8, Ordering::Relaxed);
        let (used, budget) = (ByteSize(used).display().si(), ByteSize(budget).display().si());
        match now {
            _ if now == before => {}
            Level::Full => {
                warn!(%used, %budget, "new clients are refused: memory is at its budget; see [memory] budget")
            }
            Level::Short if before == Level::Full => info!(%used, %budget, "new clients are taken in again"),
            Level::Short => warn!(%used, %budget, "clients are read more slowly: memory is near its budget"),
            Level::Easy => info!(%used, %budget, "there is memory again"),
        }
    }

    /// A pressure that nothing measures, in hundredths of the budget: for tests of what depends on it.
    pub fn of(hundredths: u64) -> Self {
        let pressure = Self::default();
        pressure.note(hundredths, 100);
        pressure
    }

    /// Changes a pressure that nothing measures.
    pub fn set(&self, hundredths: u64) {
        self.note(hundredths, 100);
    }
}

fn next(before: Level, used: u64, budget: u64) -> Level {
    let reaches = |level: Level, mark: u64| {
        let mark = if before >= level { mark - SLACK } else { mark };
        used as f64 >= budget as f64 / 100.0 * mark as f64
    };
    if reaches(Level::Full, 100) {
        Level::Full
    } else if reaches(Level::Short, SHORT) {
        Level::Short
    } else {
        Level::Easy
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_begin_at_their_marks_and_end_below() {
        let pressure = Pressure::default();
        for (used, short, full) in [
            (84, false, false),
            (85, true, false),
            (83, true, false),
            (100, true, true),
            (98, true, true),
            (96, true, false),
            (99, true, false),
            (150, true, true),
            (10, false, false),
        ] {
            pressure.set(used);
            assert_eq!((pressure.is_short(), pressure.is_full()), (short, full), "{used}");
            assert_eq!(pressure.problem().is_some(), full);
        }
    }

    #[tokio::test]
    async fn own_memory_is_measured_against_budget() {
        let shutdown = Shutdown::new();
        let full = Pressure::watch(Some(1), &shutdown);
        let off = Pressure::watch(Some(0), &shutdown);
        let default = Pressure::watch(None, &shutdown);
        for _ in 0..100 {
            if full.is_full() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let problem = full.problem().expect("it uses more than a byte");
        assert!(problem.contains("of a memory budget of 1 B"), "{problem}");
        assert!(!off.is_short() && !default.is_full());
        shutdown.begin();
        assert!(shutdown.drained(Duration::from_secs(5)).await);
    }
}
