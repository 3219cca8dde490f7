//! The capabilities: what handlers can import. One file for each, and one line in the table [`ALL`].
//!
//! A capability lists the interfaces that it serves. A component that imports any other is refused with an explanation
//! before it is compiled.

mod config;
pub(crate) mod definition;
mod http;
mod keyvalue;
mod kv;
mod logging;
mod outbox;
mod presence;
mod schedule;
mod script;
mod wasi;

use wasmtime::component::Linker;

use self::definition::Capability;
use crate::settings::Grants;
use crate::state::InstanceState;

pub(super) use script::SOURCE;

/// All capabilities.
pub(super) const ALL: &[Capability] = &[
    outbox::CAPABILITY,
    keyvalue::CAPABILITY,
    kv::CAPABILITY,
    schedule::CAPABILITY,
    presence::CAPABILITY,
    config::CAPABILITY,
    logging::CAPABILITY,
    http::CAPABILITY,
    script::CAPABILITY,
    wasi::CAPABILITY,
];

/// Links the capabilities that these grants allow. For a script runtime, which imports more than its script may use, links
/// all of them: buckets and hosts that are not granted are denied at each call.
pub(super) fn link(linker: &mut Linker<InstanceState>, grants: &Grants, is_runtime: bool) -> wasmtime::Result<()> {
    ALL.iter()
        .filter(|capability| is_runtime || capability.is_granted(grants))
        .try_for_each(|capability| (capability.link)(linker))
}
