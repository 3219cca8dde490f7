//! The contract in `wit/`, as Rust types that the macro of wasmtime writes.
//!
//! What goes to a handler is borrowed, so that a message is copied once, into the handler's memory; what comes from it
//! is owned. Only reads of the key-value store wait for anything, and so only they are async. The world is the largest
//! that there is; which of its exports a component has is looked up in `exports`.

#![allow(missing_docs, unreachable_pub, unused_variables, dead_code)]
#![allow(
    unsafe_code,
    reason = "wasmtime's macro makes typed functions of types that it has checked"
)]

wasmtime::component::bindgen!({
    path: "wit",
    world: "app-node-stateful",
    imports: {
        "wasi:keyvalue/store.[method]bucket.get": async | trappable,
        "wasi:keyvalue/store.[method]bucket.exists": async | trappable,
        "wasi:keyvalue/store.[method]bucket.list-keys": async | trappable,
        "wasi:keyvalue/batch.get-many": async | trappable,
        "wasi:keyvalue/atomics.[static]cas.new": async | trappable,
        "wasi:keyvalue/atomics.increment": async | trappable,
        "wasi:keyvalue/atomics.swap": async | trappable,
        "plugnode:app/kv.list-keys": async | trappable,
        default: trappable,
    },
    exports: { default: async },
    ownership: Borrowing { duplicate_if_necessary: true },
    with: {
        "wasi:keyvalue/store.bucket": super::capability::Bucket,
        "wasi:keyvalue/atomics.cas": super::capability::Cas,
    },
});
