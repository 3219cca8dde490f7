//! A handler that is ready to be instantiated.

use crate::exports::HandlerPre;
use crate::native::Native;
use crate::script::Script;
use plugnode_release::Digest;

/// A handler: a compiled and linked component, or native Rust. Clones share it.
#[derive(Clone)]
pub struct Component {
    code: Code,
    digest: Digest,
    script: Script,
}

/// The code of a handler.
#[derive(Clone)]
pub(crate) enum Code {
    Wasm(HandlerPre),
    Native(Native),
}

impl Component {
    pub(crate) fn wasm(handler: HandlerPre, digest: Digest, script: Script) -> Self {
        Self {
            code: Code::Wasm(handler),
            digest,
            script,
        }
    }

    /// A handler in native Rust. It needs no engine to be loaded.
    pub fn native(native: Native) -> Self {
        Self {
            digest: Digest::of(native.name().as_bytes()),
            code: Code::Native(native),
            script: Script::default(),
        }
    }

    /// Whether it is native Rust.
    pub fn is_native(&self) -> bool {
        matches!(self.code, Code::Native(_))
    }

    /// The first 12 hexadecimal digits of its digest, which name the release.
    pub fn release(&self) -> &str {
        self.digest.short()
    }

    /// SHA-256 of the component's bytes. Of native Rust, of its type's name.
    pub fn digest(&self) -> &Digest {
        &self.digest
    }

    /// The script that it runs, if it is a script runtime.
    pub(crate) fn script(&self) -> &Script {
        &self.script
    }

    pub(crate) fn code(&self) -> &Code {
        &self.code
    }

    /// Whether its instances can save and load their state. Native Rust cannot: to replace it is to restart the program.
    pub(crate) fn carries_state(&self) -> bool {
        match &self.code {
            Code::Wasm(handler) => handler.carries_state(),
            Code::Native(_) => false,
        }
    }
}
