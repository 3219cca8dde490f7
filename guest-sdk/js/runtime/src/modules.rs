//! The modules of the runtime, by the names under which scripts import them. Scripts have no other modules: plugnode build bundles
//! a program of several files into one.

use rquickjs::loader::{ImportAttributes, Loader, Resolver};
use rquickjs::module::Declared;
use rquickjs::{Ctx, Error, Exception, Function, Module, Object, Result};

/// Name and source of each module; the source is the body of a function with the parameters `module`, `exports` and `require`.
pub(crate) const SOURCES: &[(&str, &str)] = &[
    ("internal", include_str!("../../src/internal.js")),
    ("events", include_str!("../../src/events.js")),
    ("buffer", include_str!("../../src/buffer.js")),
    ("hash", include_str!("../../src/hash.js")),
    ("fetch", include_str!("../../src/fetch.js")),
    ("process", include_str!("../../src/process.js")),
    ("url", include_str!("../../src/url.js")),
    ("globals", include_str!("../../src/globals.js")),
    ("inspect", include_str!("../../src/inspect.js")),
    ("source-map", include_str!("../../src/source-map.js")),
    ("attributes", include_str!("../../src/attributes.js")),
    ("broadcast", include_str!("../../src/broadcast.js")),
    ("handshake", include_str!("../../src/handshake.js")),
    ("socket", include_str!("../../src/socket.js")),
    ("plugnode", include_str!("../../src/plugnode.js")),
    ("plugnode/socket.io", include_str!("../../src/socket.io.js")),
    ("plugnode/cluster", include_str!("../../src/cluster.js")),
    ("node", include_str!("../../src/node.js")),
];

/// Loads the modules as ES modules.
pub(crate) struct Modules;

impl Resolver for Modules {
    fn resolve<'js>(
        &mut self,
        _ctx: &Ctx<'js>,
        _base: &str,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<String> {
        Ok(name.to_owned())
    }
}

impl Loader for Modules {
    fn load<'js>(
        &mut self,
        ctx: &Ctx<'js>,
        name: &str,
        _attributes: Option<ImportAttributes<'js>>,
    ) -> Result<Module<'js, Declared>> {
        let require: Function<'js> = ctx.globals().get("require")?;
        // Throws an error that lists the available modules.
        let exports: Object<'js> = require.call((name,))?;
        let mut names = Vec::new();
        for key in exports.keys::<String>() {
            let key = key?;
            let is_name = key.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '$');
            if is_name && key != "default" {
                names.push(key);
            }
        }
        let name_text = ctx
            .json_stringify(name)?
            .ok_or_else(|| Exception::throw_message(ctx, "the module has no name"))?
            .to_string()?;
        let source = format!(
            "const m = require({name_text}); export default m.default ?? m; export const {{ {} }} = m;",
            names.join(", ")
        );
        Module::declare(ctx.clone(), name, source).map_err(|error| match error {
            Error::Exception => Error::Exception,
            other => Error::new_loading_message(name, other.to_string()),
        })
    }
}
