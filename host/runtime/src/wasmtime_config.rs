//! The configuration of wasmtime.

use std::num::NonZeroUsize;

use wasmtime::{Config, PoolingAllocationConfig, WasmBacktraceDetails};

use crate::memory::{MAX_TABLE_ELEMENTS, MAX_UNITS};

/// Bytes of native stack for one call of a handler. An interpreter takes half a kilobyte and more for each call of a script.
const MAX_STACK: usize = 1 << 20;
/// Functions in a backtrace. A panic's own take the first ten.
const MAX_FRAMES: usize = 32;

/// The settings that machine code depends on: a compiler process and the node must have the same. How instances get their
/// memory is not part of it; the node adds that.
pub(crate) fn config() -> Config {
    let mut config = Config::new();
    config
        .wasm_component_model(true)
        .concurrency_support(false)
        .epoch_interruption(true)
        .max_wasm_stack(MAX_STACK)
        .wasm_backtrace_max_frames(NonZeroUsize::new(MAX_FRAMES))
        // Function names come from the component's name section. Line numbers would come from its DWARF, which wasmtime
        // parses anew for each frame of each trap, on the thread of the trap: 50 ms for one event, and clients can cause traps.
        .wasm_backtrace_details(WasmBacktraceDetails::Disable);
    config
}

/// A pooling allocator for this many instances, each with up to `memory` bytes.
pub(crate) fn pooling(instances: u32, memory: usize) -> PoolingAllocationConfig {
    const PAGE: usize = 64 << 10;
    const MAX_STRUCTURES: usize = 4 << 20;
    const MEMORIES: u32 = 4;
    const TABLES: u32 = 8;
    let units = MAX_UNITS as u32;
    let mut pooling = PoolingAllocationConfig::new();
    pooling
        .total_component_instances(instances)
        .total_core_instances(instances.saturating_mul(units))
        .total_memories(instances.saturating_mul(MEMORIES))
        .total_tables(instances.saturating_mul(TABLES))
        .total_stacks(instances)
        .max_core_instances_per_component(units)
        .max_memories_per_component(units)
        .max_tables_per_component(units)
        .max_tables_per_module(units)
        .max_component_instance_size(MAX_STRUCTURES)
        .max_core_instance_size(MAX_STRUCTURES)
        .table_elements(MAX_TABLE_ELEMENTS)
        .max_memory_size(memory.next_multiple_of(PAGE).max(PAGE));
    pooling
}
