//! The contract in Rust, generated from `wit/`. Everything else in this crate is written on top of it.
//!
//! Public so that [`export!`](crate::export) can name it from a handler's crate, and for whoever needs a call as the
//! contract has it. On targets other than wasm its functions cannot be called: see [`test`](crate::test).

wit_bindgen::generate!({
    path: "wit",
    world: "app-node-stateful",
    generate_all,
    additional_derives: [PartialEq],
    // It has a handle in it, and two handles are never the same.
    additional_derives_ignore: ["cas-error"],
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "::plugnode_sdk::bindings",
});
