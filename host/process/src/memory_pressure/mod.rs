//! Memory pressure: the memory use of this process compared with its budget, once a second.
//!
//! From 85 % of the budget on, io-nodes read clients more slowly; at the budget they refuse new clients, and `/readyz` fails.
//! Connected clients stay. Without this, the kernel would kill the process at its limit, and all clients with it.

mod usage;

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::time::Duration;

use bytesize::ByteSize;
use tracing::{info, warn};

use crate::shutdown::Shutdown;

/// Interval between two readings of memory use.
const INTERVAL: Duration = Duration::from_secs(1);
/// Default budget, in percent of the memory limit of the process.
const DEFAULT_PERCENT: u64 = 80;
/// Start of the level [`Level::High`], in percent of the budget.
const HIGH_PERCENT: u64 = 85;
/// Hysteresis: a level ends this many percent of the budget below its start.
const HYSTERESIS_PERCENT: u64 = 3;

/// Memory pressure of a process. Clones share their state.
#[derive(Debug, Clone, Default)]
pub struct MemoryPressure(Arc<State>);

#[derive(Debug, Default)]
struct State {
    level: AtomicU8,
    used: AtomicU64,
    budget: AtomicU64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Level {
    Normal,
    High,
    Full,
}

impl MemoryPressure {
    /// Measures this process until shutdown begins. `budget` is in bytes; None is 80 % of the limit of the machine or cgroup.
    /// With 0, and on other systems than Linux, nothing is measured and the level stays normal.
    pub fn watch(budget: Option<u64>, shutdown: &Shutdown) -> Self {
        let pressure = Self::default();
        let budget = budget.or_else(|| usage::limit().map(|limit| limit / 100 * DEFAULT_PERCENT));
        let Some(budget) = budget.filter(|budget| *budget > 0) else {
            return pressure;
        };
        if usage::used().is_none() {
            return pressure;
        }
        info!(budget = %ByteSize(budget).display().si(), "memory budget");
        let (watched, ending) = (pressure.clone(), shutdown.clone());
        shutdown.spawn(async move {
            let watching = async {
                loop {
                    if let Some(used) = usage::used() {
                        watched.measured(used, budget);
                    }
                    tokio::time::sleep(INTERVAL).await;
                }
            };
            tokio::select! {
                () = watching => {}
                () = ending.begun() => {}
            }
        });
        pressure
    }

    /// Whether clients must be read more slowly.
    pub fn is_high(&self) -> bool {
        self.level() >= Level::High
    }

    /// Why new clients are refused, if they are.
    pub fn problem(&self) -> Option<String> {
        let bytes = |number: &AtomicU64| ByteSize(number.load(Ordering::Relaxed)).display().si();
        self.is_full().then(|| {
            let State { used, budget, .. } = &*self.0;
            format!(
                "this process uses {} of a memory budget of {}; raise [memory] budget, or add io-nodes",
                bytes(used),
                bytes(budget)
            )
        })
    }

    /// Whether new clients must be refused.
    pub fn is_full(&self) -> bool {
        self.level() == Level::Full
    }

    fn level(&self) -> Level {
        match self.0.level.load(Ordering::Relaxed) {
            0 => Level::Normal,
            1 => Level::High,
            _ => Level::Full,
        }
    }

    /// Takes a measurement, in bytes, and logs a change of the level.
    fn measured(&self, used: u64, budget: u64) {
        let before = self.level();
        let now = next_level(before, used, budget);
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
                warn!(%used, %budget, "memory use is at its budget: refusing new clients; raise [memory] budget, or add io-nodes")
            }
            Level::High if before == Level::Full => {
                info!(%used, %budget, "memory use fell below its budget: accepting new clients again")
            }
            Level::High => warn!(%used, %budget, "memory use is near its budget: reading clients more slowly"),
            Level::Normal => info!(%used, %budget, "memory use is normal again"),
        }
    }

    /// A pressure of `percent` of the budget that does not follow the process: for tests.
    pub fn fixed(percent: u64) -> Self {
        let pressure = Self::default();
        pressure.measured(percent, 100);
        pressure
    }

    /// Sets the pressure to `percent` of the budget: for tests.
    pub fn set(&self, percent: u64) {
        self.measured(percent, 100);
    }
}

fn next_level(before: Level, used: u64, budget: u64) -> Level {
    let reaches = |level: Level, mark: u64| {
        let mark = if before >= level {
            mark - HYSTERESIS_PERCENT
        } else {
            mark
        };
        used as f64 >= budget as f64 / 100.0 * mark as f64
    };
    if reaches(Level::Full, 100) {
        Level::Full
    } else if reaches(Level::High, HIGH_PERCENT) {
        Level::High
    } else {
        Level::Normal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn level_ends_below_its_start() {
        let pressure = MemoryPressure::default();
        for (used, high, full) in [
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
            assert_eq!((pressure.is_high(), pressure.is_full()), (high, full), "{used}");
            assert_eq!(pressure.problem().is_some(), full);
        }
    }

    #[tokio::test]
    async fn measures_own_process_against_budget() {
        let shutdown = Shutdown::new();
        let full = MemoryPressure::watch(Some(1), &shutdown);
        let off = MemoryPressure::watch(Some(0), &shutdown);
        let default = MemoryPressure::watch(None, &shutdown);
        for _ in 0..100 {
            if full.is_full() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let problem = full.problem().expect("the process uses more than a byte");
        assert!(problem.contains("of a memory budget of 1 B"), "{problem}");
        assert!(!off.is_high() && !default.is_full());
        shutdown.begin();
        assert!(shutdown.drained(Duration::from_secs(5)).await);
    }
}
