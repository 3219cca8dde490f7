//! Memory limit of one instance, over all memories and tables of its component.

use wasmtime::{ResourceLimiter, Result, bail};

use plugnode_settings::Size;

/// Elements of a table: functions that can be called indirectly. Interpreters have some ten thousand.
pub(crate) const MAX_TABLE_ELEMENTS: usize = 100_000;
/// Core instances, tables and memories of one component, each. Python's have more than ten.
pub(crate) const MAX_UNITS: usize = 64;

/// Counts the memory of an instance. Growing beyond the limit traps.
#[derive(Debug)]
pub(crate) struct MemoryLimit {
    limit: usize,
    used: usize,
    /// The growth that was allowed last, taken back if it fails.
    last_growth: usize,
}

impl MemoryLimit {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: 0,
            last_growth: 0,
        }
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.last_growth = desired.saturating_sub(current);
        // A trap rather than the answer -1: the event fails here with a backtrace, instead of later in code that does not
        // expect it.
        if self.used.saturating_add(self.last_growth) > self.limit {
            bail!(
                "memory limit of {} reached: keep less, or raise limits.memory of the [[app]]",
                Size::from(self.limit)
            );
        }
        self.used += self.last_growth;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> Result<()> {
        self.used = self.used.saturating_sub(std::mem::take(&mut self.last_growth));
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        Ok(desired <= MAX_TABLE_ELEMENTS && maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        MAX_UNITS
    }

    fn tables(&self) -> usize {
        MAX_UNITS
    }

    fn memories(&self) -> usize {
        MAX_UNITS
    }
}
