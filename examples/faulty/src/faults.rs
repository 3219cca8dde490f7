//! The faults themselves, each in a function of its own so that a report can name it.

use std::hint::black_box;
use std::time::{Duration, Instant};

use plugnode_sdk::kv;
use plugnode_sdk::prelude::*;

/// Panics, a few calls down.
#[inline(never)]
pub(crate) fn tip_over() {
    lean(black_box(3));
}

#[inline(never)]
fn lean(further: u32) {
    if further == 0 {
        panic!("tipped over, as asked");
    }
    lean(black_box(further - 1));
}

/// Never returns.
#[inline(never)]
pub(crate) fn spin() {
    let mut turns = 0u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

/// Allocates until there is no more.
#[inline(never)]
pub(crate) fn devour() {
    let mut eaten = Vec::new();
    loop {
        eaten.push(black_box(vec![1u8; 1 << 20]));
    }
}

/// Keeps the processor busy.
#[inline(never)]
pub(crate) fn be_busy(time: Duration) {
    let start = Instant::now();
    while black_box(start.elapsed()) < time {}
}

/// Emits and writes, and then panics: nothing of it may be seen.
#[inline(never)]
pub(crate) fn do_half(client: &Client) -> Result {
    client.emit("half", ())?;
    client.broadcast("half", ())?;
    client.join("half")?;
    client.patch_attributes(&serde_json::json!({ "half": true }))?;
    kv::open("default")?.set("half", &true)?;
    panic!("half of it is done");
}
