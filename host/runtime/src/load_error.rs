//! Why a component, or a pool of its instances, cannot run here: each in words that a person can act on.

use std::path::PathBuf;

/// Why something could not be loaded or started. Whatever ran before is not disturbed by it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// There is nothing in the file.
    #[error("the component file is empty: build the handler again, or check what wrote the file")]
    Empty,
    /// Something else than WebAssembly.
    #[error(
        "not a WebAssembly component: {found}; build the handler with cargo build --release --target wasm32-wasip2"
    )]
    NotWasm {
        /// What it seems to be.
        found: String,
    },
    /// WebAssembly, but from before components.
    #[error(
        "this is a core WebAssembly module and not a component: build it with cargo build --release --target \
         wasm32-wasip2, or with cargo component build --release"
    )]
    CoreModule,
    /// A component that cannot be read or compiled.
    #[error("the component cannot be compiled, so build it again: {cause}")]
    Invalid {
        /// What is wrong with it.
        cause: String,
    },
    /// The compiler came to no end, whatever the component is like.
    #[error("the compiler did not finish: {cause}")]
    Compiler {
        /// What became of it, and what to do.
        cause: String,
    },
    /// A component that answers no events.
    #[error(
        "the component does not export {wanted}, it exports {exports}: implement the handler of plugnode-sdk and \
         export it with plugnode_sdk::export!, or build against the world plugnode:app/app-node"
    )]
    NoHandler {
        /// The export that a handler must have.
        wanted: String,
        /// What it exports instead.
        exports: String,
    },
    /// A runtime component as it is shipped.
    #[error("the component runs scripts, and there is none in it: make one of both with plugnode build app.js")]
    NoScript,
    /// A component or an import made for another version of an interface.
    #[error("the component {verb} {found}, this host serves {package}@{served}: {remedy}")]
    OtherVersion {
        /// `imports` or `exports`.
        verb: &'static str,
        /// The interface with its version.
        found: String,
        /// The package it belongs to.
        package: &'static str,
        /// The version that is served.
        served: &'static str,
        /// What to do.
        remedy: String,
    },
    /// An import that the app's configuration could allow.
    #[error("the component imports {import}, which this app is not granted: {remedy}")]
    NotGranted {
        /// The interface with its version.
        import: String,
        /// The line for the configuration.
        remedy: &'static str,
    },
    /// An import that no host of this version could serve.
    #[error(
        "the component imports {import}, which this host does not know; it serves {served}: take the import out of \
         the handler"
    )]
    UnknownImport {
        /// The import.
        import: String,
        /// The packages that are served.
        served: String,
    },
    /// Names and versions agree, and what is behind them does not.
    #[error("the component does not fit this host: {cause}; {remedy}")]
    Mismatch {
        /// Which function or type.
        cause: String,
        /// What to do.
        remedy: String,
    },
    /// A pool of no or of too many instances.
    #[error("{wanted} instances are asked for, and an app can have 1 to {most} on a node: change `instances`")]
    Instances {
        /// How many were asked for.
        wanted: usize,
        /// How many there can be.
        most: usize,
    },
    /// The engine is full.
    #[error("no room for another instance, {most} are alive: lower `instances` of the apps, or raise the host's limit")]
    Full {
        /// How many there can be.
        most: usize,
    },
    /// An instance could not be made.
    #[error("the component compiled but does not start: {cause}")]
    Start {
        /// What happened, with the backtrace and what the component wrote to standard error.
        cause: String,
    },
    /// An instance of native Rust could not be made.
    #[error("the native handler does not start: {cause}")]
    StartNative {
        /// What happened.
        cause: String,
    },
    /// The folder for compiled code cannot be used.
    #[error("cannot use {} as the cache of compiled components: {cause}", path.display())]
    Cache {
        /// The folder.
        path: PathBuf,
        /// Why not.
        cause: String,
    },
    /// WebAssembly does not work on this machine.
    #[error("cannot set up WebAssembly on this machine: {cause}")]
    Engine {
        /// Why not.
        cause: String,
    },
}
