//! `plugnode:script`: hands a runtime component the files of the program that it runs.

use wasmtime::StoreContextMut;

use super::{Capability, Package};
use crate::state::State;

/// The interface by whose import a runtime component is known.
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
        source.func_wrap("names", |store: StoreContextMut<'_, State>, ()| {
            Ok((store.data().app.script.names(),))
        })?;
        source.func_wrap("read", |store: StoreContextMut<'_, State>, (name,): (String,)| {
            let file = store.data().app.script.read(&name);
            Ok((file.map(|bytes| bytes.to_vec()),))
        })
    },
};
