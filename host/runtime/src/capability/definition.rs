//! What a capability consists of: the interfaces it serves, the grant it needs, and its function for the linker.

use wasmtime::component::Linker;

use crate::settings::Grants;
use crate::state::InstanceState;

/// Interfaces that handlers can import, and the host functions behind them.
pub(crate) struct Capability {
    pub(crate) serves: &'static [Package],
    /// The grant that the app needs. None if every app has the capability.
    pub(crate) grant: Option<Grant>,
    pub(crate) link: fn(&mut Linker<InstanceState>) -> wasmtime::Result<()>,
}

/// Interfaces of one WIT package.
pub(crate) struct Package {
    pub(crate) name: &'static str,
    pub(crate) version: &'static str,
    pub(crate) interfaces: &'static [&'static str],
}

/// A grant in the app's configuration.
pub(crate) struct Grant {
    pub(crate) is_given: fn(&Grants) -> bool,
    /// How to give it.
    pub(crate) remedy: &'static str,
}

impl Capability {
    pub(crate) fn is_granted(&self, grants: &Grants) -> bool {
        self.grant.as_ref().is_none_or(|grant| (grant.is_given)(grants))
    }
}
