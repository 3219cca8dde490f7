//! Names and version of the WIT contract between host and handlers.

/// The interface that every handler exports.
pub(crate) const HANDLER: &str = "plugnode:app/handler";
/// Optional export: calls at the start and the end of an instance.
pub(crate) const LIFECYCLE: &str = "plugnode:app/lifecycle";
/// Optional export: saves and loads the state of an instance.
pub(crate) const SNAPSHOT: &str = "plugnode:app/snapshot";
/// Package of the contract.
pub(crate) const PACKAGE: &str = "plugnode:app";
/// Version of the contract that this host serves.
pub(crate) const VERSION: &str = "0.1.2";
