//! How much memory one instance may have, over all the memories and tables that its component is made of.

use wasmtime::{ResourceLimiter, Result, bail};

use super::settings::in_words;

/// Functions that a table can refer to. Interpreters have some ten thousand.
pub(super) const TABLE_ELEMENTS: usize = 100_000;
/// Core instances, tables and memories of one component. Python's have more than ten.
pub(super) const PARTS: usize = 64;

/// Counts what an instance has, and ends the call that asks for too much.
#[derive(Debug)]
pub(super) struct MemoryLimit {
    limit: usize,
    used: usize,
    asked: usize,
}

impl MemoryLimit {
    pub(super) fn new(limit: usize) -> Self {
        Self {
            limit,
            used: 0,
            asked: 0,
        }
    }
}

impl ResourceLimiter for MemoryLimit {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        if maximum.is_some_and(|maximum| desired > maximum) {
            return Ok(false);
        }
        self.asked = desired.saturating_sub(current);
        // Refused with a trap and not by answering -1: the event then fails here, with a backtrace, and not somewhere
        // later in code that did not expect it.
        if self.used.saturating_add(self.asked) > self.limit {
            bail!("memory limit of {} reached", in_words(self.limit));
        }
        self.used += self.asked;
        Ok(true)
    }

    fn memory_grow_failed(&mut self, _error: wasmtime::Error) -> Result<()> {
        self.used = self.used.saturating_sub(std::mem::take(&mut self.asked));
        Ok(())
    }

    fn table_growing(&mut self, _current: usize, desired: usize, maximum: Option<usize>) -> Result<bool> {
        Ok(desired <= TABLE_ELEMENTS && maximum.is_none_or(|maximum| desired <= maximum))
    }

    fn instances(&self) -> usize {
        PARTS
    }

    fn tables(&self) -> usize {
        PARTS
    }

    fn memories(&self) -> usize {
        PARTS
    }
}
