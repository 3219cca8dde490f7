//! Errors of loading and starting: why a component or a pool cannot run here, and what to do.

use std::path::PathBuf;

/// Why a component could not be loaded or started. It does not affect pools that are running.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// The file is empty.
    #[error("the component file is empty: build the handler again, or check what wrote the file")]
    Empty,
    /// The file is not WebAssembly.
    #[error("not a WebAssembly component: {found}; build it first: plugnode build PATH writes a .wasm file")]
    NotWasm {
        /// The kind of file that it seems to be.
        found: String,
    },
    /// A core module instead of a component.
    #[error(
        "not a component but a core WebAssembly module: build it with cargo build --release --target wasm32-wasip2, or \
         with cargo component build --release"
    )]
    CoreModule,
    /// A component that cannot be parsed or compiled.
    #[error("cannot compile the component: {cause}; build it again")]
    Invalid {
        /// The problem.
        cause: String,
    },
    /// The compiler failed, for another reason than an invalid component.
    #[error("the compiler did not finish: {cause}")]
    Compiler {
        /// The problem and its remedy.
        cause: String,
    },
    /// A component that handles no events.
    #[error(
        "the component does not export {wanted}, it exports {exports}: implement the handler of plugnode-sdk and \
         export it with plugnode_sdk::export!, or build against the world plugnode:app/app-node"
    )]
    NoHandler {
        /// The export that a handler must have.
        wanted: String,
        /// Its exports.
        exports: String,
    },
    /// A script runtime without a script.
    #[error("the component is a script runtime without a script: combine both with plugnode build app.js")]
    NoScript,
    /// An import or export of an incompatible version of an interface.
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
        /// The remedy.
        remedy: String,
    },
    /// An import that the app's configuration does not grant.
    #[error("the component imports {import}, which this app is not granted: {remedy}")]
    NotGranted {
        /// The interface with its version.
        import: String,
        /// The text to add to the configuration.
        remedy: &'static str,
    },
    /// An import that this version of the host does not serve.
    #[error(
        "the component imports {import}, which this host does not know; it serves {served}: remove the import from \
         the handler"
    )]
    UnknownImport {
        /// The import.
        import: String,
        /// The packages that are served.
        served: String,
    },
    /// Names and versions match, but types do not.
    #[error("the component does not fit this host: {cause}; {remedy}")]
    Mismatch {
        /// The function or type.
        cause: String,
        /// The remedy.
        remedy: String,
    },
    /// A pool of no instances or of too many.
    #[error("cannot run {wanted} instances: an app has 1 to {max} on each node; change `instances`")]
    Instances {
        /// The configured number.
        wanted: usize,
        /// The limit.
        max: usize,
    },
    /// The engine's limit of instances is reached.
    #[error(
        "cannot make another instance: the limit of {max} is reached; lower `instances` of the apps, or raise max-instances"
    )]
    Full {
        /// The limit.
        max: usize,
    },
    /// An instance does not start.
    #[error("the component compiled but does not start: {cause}")]
    Start {
        /// The failure, with the backtrace and the component's standard error.
        cause: String,
    },
    /// A native instance does not start.
    #[error("the native handler does not start: {cause}")]
    StartNative {
        /// The failure.
        cause: String,
    },
    /// The compile cache cannot be used.
    #[error("cannot use {} as the compile cache: {cause}", path.display())]
    Cache {
        /// Its directory.
        path: PathBuf,
        /// Why, and what to do.
        cause: String,
    },
    /// wasmtime does not work on this machine.
    #[error("cannot set up WebAssembly on this machine: {cause}")]
    Engine {
        /// Why, and what to do.
        cause: String,
    },
}
