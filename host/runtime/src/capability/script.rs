//! `plugnode:script`: a script runtime reads the files of the script that it runs.

use wasmtime::StoreContextMut;

use super::definition::{Capability, Package};
use crate::state::InstanceState;

/// A component that imports this interface is a script runtime.
pub(crate) const SOURCE: &str = "plugnode:script/source";

pub(super) const CAPABILITY: Capability = Capability {
    serves: &[Package {
        name: "plugnode:script",
        version: "0.1.0",
        interfaces: &["source"],
    }],
    grant: None,
    link: |linker| {
        let mut source = linker.instance("plugnode:script/source@0.1.0")?;
        source.func_wrap("names", |store: StoreContextMut<'_, InstanceState>, ()| {
            Ok((store.data().app.script.names(),))
        })?;
        source.func_wrap(
            "read",
            |store: StoreContextMut<'_, InstanceState>, (name,): (String,)| {
                let file = store.data().app.script.read(&name);
                Ok((file.map(|bytes| bytes.to_vec()),))
            },
        )
    },
};
