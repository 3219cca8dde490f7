//! Compiled components, kept as files: made once, loaded by whoever needs them next.
//!
//! A file's name says which component it is of and which engine it is for. Processes of one machine share a folder: of two
//! that want the same file at once, one makes it and the other waits. What handlers import and export is not known here.

mod folder;
mod lock;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use wasmtime::component::Component;

use self::folder::Folder;
use self::lock::Lock;
use super::compiler::{Compiler, Work, configuration};
use super::load_error::LoadError;
use plugnode_release::Digest;

/// Compilers at work at the same time. Each takes as many processors as it can get, and much memory.
const AT_ONCE: usize = 2;

/// The compiled components of one engine.
#[derive(Debug)]
pub(super) struct Artifacts {
    folder: Folder,
    compiler: Compiler,
    engine: wasmtime::Engine,
    configuration: String,
    turns: Semaphore,
    /// Whether handlers run whose events must not wait for a compiler.
    serves: AtomicBool,
}

/// The right to make the compiled component of one digest, which one process of a machine has at a time.
#[derive(Debug)]
pub struct Turn(#[expect(dead_code, reason = "it is held, and let go when this is dropped")] Lock);

/// What is there under a name.
enum Found {
    Loaded(Component),
    Broken(String),
    Nothing,
}

/// Whether an [`Engine`](super::Engine) can keep compiled components in this folder. Makes it when it is not there.
pub fn check_cache(folder: &Path) -> Result<(), LoadError> {
    Folder::open(Some(folder)).map(drop)
}

impl Artifacts {
    /// Opens the folder `compiled` in this one, and makes it when it is not there. None is a folder of its own, which
    /// goes with this.
    pub(super) fn open(engine: wasmtime::Engine, cache: Option<&Path>, compiler: Compiler) -> Result<Self, LoadError> {
        Ok(Self {
            folder: Folder::open(cache)?,
            compiler,
            configuration: configuration(&engine),
            engine,
            turns: Semaphore::new(AT_ONCE),
            serves: AtomicBool::new(false),
        })
    }

    /// From now on compilers step back.
    pub(super) fn begin_to_serve(&self) {
        self.serves.store(true, Ordering::Relaxed);
    }

    /// The component of this digest, if it was compiled before.
    pub(super) async fn kept(&self, digest: &Digest) -> Option<Component> {
        match self.find(&self.name_of(digest)).await {
            Ok(Found::Loaded(component)) => {
                tracing::info!(release = digest.short(), "component was compiled before");
                Some(component)
            }
            _ => None,
        }
    }

    /// The component of these bytes and this digest, compiled now if it never was. Dropped before it is done, it stops
    /// the compiler.
    pub(super) async fn get(&self, digest: &Digest, bytes: &Bytes) -> Result<Component, LoadError> {
        if let Found::Loaded(component) = self.find(&self.name_of(digest)).await? {
            tracing::info!(release = digest.short(), "component was compiled before");
            return Ok(component);
        }
        let turn = self.turn(digest).await?;
        self.make(digest, bytes, turn).await
    }

    /// Waits until nobody else is making the component of this digest.
    pub(super) async fn turn(&self, digest: &Digest) -> Result<Turn, LoadError> {
        self.folder.lock(&self.name_of(digest)).await.map(Turn)
    }

    /// The component of these bytes and this digest, whose turn it is, compiled now unless somebody has done it by now.
    pub(super) async fn make(&self, digest: &Digest, bytes: &Bytes, _turn: Turn) -> Result<Component, LoadError> {
        let name = self.name_of(digest);
        let release = digest.short();
        match self.find(&name).await? {
            Found::Loaded(component) => {
                tracing::info!(release, "component was compiled by another process meanwhile");
                return Ok(component);
            }
            Found::Broken(cause) => tracing::warn!(release, cause, "compiled component is damaged; it is made anew"),
            Found::Nothing => {}
        }
        let began = Instant::now();
        self.compile(&name, bytes).await?;
        let took = began.elapsed();
        let cause = match self.find(&name).await? {
            Found::Loaded(component) => {
                tracing::info!(release, ?took, "component compiled");
                return Ok(component);
            }
            Found::Broken(cause) => format!("what it made cannot be loaded: {cause}"),
            Found::Nothing => "what it made was removed by another process; try again".to_owned(),
        };
        Err(LoadError::Compiler { cause })
    }

    /// Keeps the bytes of a component. What cannot be kept is told, and nothing else comes of it.
    pub(super) async fn keep_bytes(&self, digest: &Digest, bytes: &Bytes) {
        let (folder, digest, bytes) = (self.folder.clone(), digest.clone(), bytes.clone());
        let kept = spawn_blocking(move || {
            if folder.find_bytes(&digest)?.is_some() {
                return Ok(());
            }
            let (file, mut writer) = folder.begin()?;
            writer.write_all(&bytes).map_err(|error| folder.unusable(&error))?;
            folder.keep_bytes(file, &digest)
        });
        let kept = kept
            .await
            .unwrap_or_else(|error| Err(self.folder.unusable(&error.into())));
        if let Err(error) = kept {
            tracing::warn!(%error, "the bytes of a component cannot be kept, for when the transport loses them");
        }
    }

    /// Whether the bytes of this component are kept. From now on they count as used.
    pub(super) async fn keeps_bytes(&self, digest: &Digest) -> bool {
        let (folder, digest) = (self.folder.clone(), digest.clone());
        let found = spawn_blocking(move || folder.find_bytes(&digest)).await;
        matches!(found, Ok(Ok(Some(_))))
    }

    /// The bytes of a component, if they are kept and whole.
    pub(super) async fn kept_bytes(&self, digest: &Digest) -> Option<Bytes> {
        let (folder, digest) = (self.folder.clone(), digest.clone());
        let read = spawn_blocking(move || {
            let mut file = folder.find_bytes(&digest).ok()??;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).ok()?;
            if Digest::of(&bytes) != digest {
                // So that it is written anew.
                let _ = folder.forget_bytes(&digest);
                return None;
            }
            Some(bytes.into())
        });
        read.await.ok()?
    }

    fn name_of(&self, digest: &Digest) -> String {
        format!("{digest}-{}", self.configuration)
    }

    async fn compile(&self, name: &str, bytes: &Bytes) -> Result<(), LoadError> {
        let _turn = self.turns.acquire().await.expect("it is never closed");
        let (file, writer) = self.folder.begin()?;
        let work = Work {
            bytes,
            configuration: &self.configuration,
            functions: &self.folder.functions(),
            is_first: !self.serves.load(Ordering::Relaxed),
        };
        self.compiler.compile(&self.engine, work, writer).await?;
        let (folder, name) = (self.folder.clone(), name.to_owned());
        let kept = spawn_blocking(move || folder.keep(file, &name)).await;
        kept.map_err(|error| self.folder.unusable(&error.into()))?
    }

    async fn find(&self, name: &str) -> Result<Found, LoadError> {
        let (folder, engine, name) = (self.folder.clone(), self.engine.clone(), name.to_owned());
        let found = spawn_blocking(move || {
            let Some(file) = folder.find(&name)? else {
                return Ok(Found::Nothing);
            };
            Ok(match load(&engine, &file) {
                Ok(component) => Found::Loaded(component),
                Err(error) => Found::Broken(format!("{error:#}")),
            })
        });
        found.await.map_err(|error| self.folder.unusable(&error.into()))?
    }
}

/// Maps compiled code into memory, where instances run it.
///
/// # Soundness
/// wasmtime trusts the file: it must hold what wasmtime made for this very configuration, and must never change. Only
/// [`Folder::find`] gives files to this function, and it gives those alone that this user owns and nobody else may write, opened
/// in a folder of which the same is true, below folders in which nobody else can put another in its place; so whoever could
/// change them could as well change this process. It is the open file that is mapped, whatever its name names by now. What is in them
/// was written by our own compiler into another file, and came there whole, by one rename, after the compiler had said that
/// it was done and all of it was on the disk; no file is ever written to in its place. The name tells the version of
/// wasmtime, the processor and every setting that code depends on, and wasmtime compares them with its own once more.
/// Compilers take functions over from each other by files of the folder's own folder `functions`, which they trust on the
/// same terms: they ask the same of the owner and the mode, and wasmtime's cache finds a function by a SHA-256 of all that
/// it is compiled from. Checksums there find what is damaged; against whoever may write there they are no help. The
/// file may be removed while it is mapped: what is mapped stays until it is dropped.
#[allow(unsafe_code, reason = "compiled code is machine code, which wasmtime cannot check")]
fn load(engine: &wasmtime::Engine, file: &File) -> wasmtime::Result<Component> {
    // wasmtime takes components by path alone; this one is that of the open file.
    let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: see above.
    unsafe { Component::deserialize_file(engine, opened) }
}
