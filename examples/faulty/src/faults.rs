//! The faults. Each is a function of its own, so that a stack trace names it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use plugnode_sdk::kv;
use plugnode_sdk::prelude::*;

/// Panics a few calls deep.
#[inline(never)]
pub(crate) fn nested_panic() {
    panic_at_depth(black_box(3));
}

#[inline(never)]
fn panic_at_depth(remaining: u32) {
    if remaining == 0 {
        panic!("panicked on request");
    }
    panic_at_depth(black_box(remaining - 1));
}

/// Never returns.
#[inline(never)]
pub(crate) fn loop_forever() {
    let mut turns = 0u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Allocates until memory is exhausted.
#[inline(never)]
pub(crate) fn exhaust_memory() {
    let mut blocks = Vec::new();
    loop {
        blocks.push(black_box(vec![1u8; 1 << 20]));
    }
}

/// Keeps the CPU busy for this time.
#[inline(never)]
pub(crate) fn busy_wait(time: Duration) {
    let start = Instant::now();
    while black_box(start.elapsed()) < time {}
}

/// Emits and writes, then panics: none of its effects may happen.
#[inline(never)]
pub(crate) fn panic_after_effects(client: &Client) -> Result {
    client.emit("half", ())?;
    client.broadcast("half", ())?;
    client.join("half")?;
    client.patch_attributes(&serde_json::json!({ "half": true }))?;
    kv::open("default")?.set("half", &true)?;
    panic!("panicked after effects");
}
