//! What handlers may import: one file a capability, and one line for it in the table below.
//!
//! A capability names the interfaces that it serves, so that a component that asks for anything else is refused with
//! words on why, before it is compiled.

mod config;
mod http;
mod keyvalue;
mod kv;
mod logging;
mod outbox;
mod schedule;
mod script;
mod wasi;

use wasmtime::component::Linker;

use super::settings::Grants;
use super::state::State;

pub(super) use http::OutgoingHttp;
pub(super) use keyvalue::View;
#[allow(unreachable_pub, reason = "the generated bindings export it on")]
pub use keyvalue::{Bucket, Cas};
pub(super) use script::SOURCE;
pub(super) use wasi::closed_wasi;

/// Everything that a handler can be served.
pub(super) const ALL: &[Capability] = &[
    outbox::CAPABILITY,
    keyvalue::CAPABILITY,
    kv::CAPABILITY,
    schedule::CAPABILITY,
    config::CAPABILITY,
    logging::CAPABILITY,
    http::CAPABILITY,
    script::CAPABILITY,
    wasi::CAPABILITY,
];

/// Some interfaces, and how they come into a linker.
pub(super) struct Capability {
    pub(super) serves: &'static [Package],
    /// What the app must be granted to have it; none when every app has it.
    pub(super) grant: Option<Grant>,
    pub(super) link: fn(&mut Linker<State>) -> wasmtime::Result<()>,
}

/// Interfaces of one package.
pub(super) struct Package {
    pub(super) name: &'static str,
    pub(super) version: &'static str,
    pub(super) interfaces: &'static [&'static str],
}

/// What the configuration must say for a capability to be given.
pub(super) struct Grant {
    pub(super) is_given: fn(&Grants) -> bool,
    pub(super) remedy: &'static str,
}

impl Capability {
    pub(super) fn is_granted(&self, grants: &Grants) -> bool {
        self.grant.as_ref().is_none_or(|grant| (grant.is_given)(grants))
    }
}

/// Links all that these grants allow. For a runtime component, which imports more than its script may use, that is all that
/// there is: buckets and hosts that are not granted are denied at the call.
pub(super) fn link(linker: &mut Linker<State>, grants: &Grants, is_runtime: bool) -> wasmtime::Result<()> {
    ALL.iter()
        .filter(|capability| is_runtime || capability.is_granted(grants))
        .try_for_each(|capability| (capability.link)(linker))
}
