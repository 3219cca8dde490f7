//! The contract in Rust, generated from `wit/`. The rest of this crate is built on it.
//!
//! Public so that [`export!`](crate::export) can refer to it from a handler's crate, and for handlers that call the contract
//! directly. On targets other than wasm its functions cannot be called: see [`test`](crate::test).

wit_bindgen::generate!({
    path: "wit",
    world: "app-node-stateful",
    generate_all,
    additional_derives: [PartialEq],
    // Contains a resource handle, which cannot be compared.
    additional_derives_ignore: ["cas-error"],
    pub_export_macro: true,
    export_macro_name: "export_component",
    default_bindings_module: "::plugnode_sdk::bindings",
});
