//! The compile cache: machine code of components, and bytes of components, as files.
//!
//! A file's name contains the component's digest and the engine's configuration. Processes of one machine can share the
//! directory: if two need the same file, one compiles and the other waits. What components import and export is not known
//! here.

mod dir;
mod file_lock;
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

use self::dir::CacheDir;
use self::file_lock::FileLock;
use crate::compiler::{CompileRequest, Compiler, configuration};
use crate::load_error::LoadError;
use plugnode_release::Digest;

/// Compilers that run at the same time. Each uses several processors and much memory.
const MAX_COMPILERS: usize = 2;

/// The compile cache of one engine.
#[derive(Debug)]
pub(crate) struct CompileCache {
    dir: CacheDir,
    compiler: Compiler,
    engine: wasmtime::Engine,
    configuration: String,
    compilers: Semaphore,
    /// Whether events are handled, which must not wait for a compiler.
    is_serving: AtomicBool,
}

/// The right to compile one component, which one process of a machine has at a time. Released when it is dropped.
#[derive(Debug)]
pub struct CompileLock(#[expect(dead_code, reason = "held until it is dropped")] FileLock);

/// Result of a look-up.
enum CacheEntry {
    Loaded(Component),
    /// Damaged, for this reason.
    Damaged(String),
    Missing,
}

/// Checks that an [`Engine`](crate::Engine) can use this directory as its compile cache. Creates it if it does not exist.
///
/// # Errors
/// When it cannot be created, or other users could write to it.
pub fn check_cache(dir: &Path) -> Result<(), LoadError> {
    CacheDir::open(Some(dir)).map(drop)
}

impl CompileCache {
    /// Opens the subdirectory `compiled` of this directory, and creates it if it does not exist. None uses a temporary
    /// directory, which is removed with the cache.
    pub(crate) fn open(engine: wasmtime::Engine, cache: Option<&Path>, compiler: Compiler) -> Result<Self, LoadError> {
        Ok(Self {
            dir: CacheDir::open(cache)?,
            compiler,
            configuration: configuration(&engine),
            engine,
            compilers: Semaphore::new(MAX_COMPILERS),
            is_serving: AtomicBool::new(false),
        })
    }

    /// From now on compilers run with low priority.
    pub(crate) fn start_serving(&self) {
        self.is_serving.store(true, Ordering::Relaxed);
    }

    /// The component with this digest, if it is in the cache.
    pub(crate) async fn get_cached(&self, digest: &Digest) -> Option<Component> {
        match self.find(&self.file_name(digest)).await {
            Ok(CacheEntry::Loaded(component)) => {
                tracing::info!(component = digest.short(), "compiled component taken from the cache");
                Some(component)
            }
            _ => None,
        }
    }

    /// The component with this digest, compiled from `bytes` if it is not in the cache. Dropping the future stops the
    /// compiler.
    pub(crate) async fn get(&self, digest: &Digest, bytes: &Bytes) -> Result<Component, LoadError> {
        if let CacheEntry::Loaded(component) = self.find(&self.file_name(digest)).await? {
            tracing::info!(component = digest.short(), "compiled component taken from the cache");
            return Ok(component);
        }
        let lock = self.lock(digest).await?;
        self.compile(digest, bytes, lock).await
    }

    /// Waits until no other process compiles the component with this digest.
    pub(crate) async fn lock(&self, digest: &Digest) -> Result<CompileLock, LoadError> {
        self.dir.lock(&self.file_name(digest)).await.map(CompileLock)
    }

    /// The component with this digest, compiled from `bytes` unless another process has done so before this one got the
    /// lock.
    pub(crate) async fn compile(
        &self,
        digest: &Digest,
        bytes: &Bytes,
        _lock: CompileLock,
    ) -> Result<Component, LoadError> {
        let name = self.file_name(digest);
        let component = digest.short();
        match self.find(&name).await? {
            CacheEntry::Loaded(found) => {
                tracing::info!(component, "component was compiled by another process meanwhile");
                return Ok(found);
            }
            CacheEntry::Damaged(cause) => {
                tracing::warn!(component, cause, "compiled component is damaged; compiling again")
            }
            CacheEntry::Missing => {}
        }
        let began = Instant::now();
        self.run_compiler(&name, bytes).await?;
        let took = began.elapsed();
        let cause = match self.find(&name).await? {
            CacheEntry::Loaded(found) => {
                tracing::info!(component, ?took, "component compiled");
                return Ok(found);
            }
            CacheEntry::Damaged(cause) => format!("its output cannot be loaded: {cause}"),
            CacheEntry::Missing => "its output was removed by another process; try again".to_owned(),
        };
        Err(LoadError::Compiler { cause })
    }

    /// Stores the bytes of a component. A failure is only logged.
    pub(crate) async fn put_bytes(&self, digest: &Digest, bytes: &Bytes) {
        let (dir, digest, bytes) = (self.dir.clone(), digest.clone(), bytes.clone());
        let stored = spawn_blocking(move || {
            if dir.find_bytes(&digest)?.is_some() {
                return Ok(());
            }
            let (file, mut writer) = dir.create_temp()?;
            writer.write_all(&bytes).map_err(|error| dir.unusable(&error))?;
            dir.put_bytes(file, &digest)
        });
        let stored = stored
            .await
            .unwrap_or_else(|error| Err(self.dir.unusable(&error.into())));
        if let Err(error) = stored {
            tracing::warn!(%error, "cannot cache the bytes of a component, which would restore it if the transport loses them");
        }
    }

    /// Whether the bytes of this component are cached. Marks them as used.
    pub(crate) async fn has_bytes(&self, digest: &Digest) -> bool {
        let (dir, digest) = (self.dir.clone(), digest.clone());
        let found = spawn_blocking(move || dir.find_bytes(&digest)).await;
        matches!(found, Ok(Ok(Some(_))))
    }

    /// The bytes of a component, if they are cached and undamaged.
    pub(crate) async fn bytes(&self, digest: &Digest) -> Option<Bytes> {
        let (dir, digest) = (self.dir.clone(), digest.clone());
        let read = spawn_blocking(move || {
            let mut file = dir.find_bytes(&digest).ok()??;
            let mut bytes = Vec::new();
            file.read_to_end(&mut bytes).ok()?;
            if Digest::of(&bytes) != digest {
                // Removed, so that they are stored again.
                let _ = dir.remove_bytes(&digest);
                return None;
            }
            Some(bytes.into())
        });
        read.await.ok()?
    }

    fn file_name(&self, digest: &Digest) -> String {
        format!("{digest}-{}", self.configuration)
    }

    async fn run_compiler(&self, name: &str, bytes: &Bytes) -> Result<(), LoadError> {
        let _permit = self.compilers.acquire().await.expect("the semaphore is never closed");
        let (file, writer) = self.dir.create_temp()?;
        let request = CompileRequest {
            bytes,
            configuration: &self.configuration,
            functions: &self.dir.functions(),
            is_before_serving: !self.is_serving.load(Ordering::Relaxed),
        };
        self.compiler.compile(&self.engine, request, writer).await?;
        let (dir, name) = (self.dir.clone(), name.to_owned());
        let stored = spawn_blocking(move || dir.put(file, &name)).await;
        stored.map_err(|error| self.dir.unusable(&error.into()))?
    }

    async fn find(&self, name: &str) -> Result<CacheEntry, LoadError> {
        let (dir, engine, name) = (self.dir.clone(), self.engine.clone(), name.to_owned());
        let found = spawn_blocking(move || {
            let Some(file) = dir.find(&name)? else {
                return Ok(CacheEntry::Missing);
            };
            Ok(match load(&engine, &file) {
                Ok(component) => CacheEntry::Loaded(component),
                Err(error) => CacheEntry::Damaged(format!("{error:#}")),
            })
        });
        found.await.map_err(|error| self.dir.unusable(&error.into()))?
    }
}

/// Maps machine code into memory, where instances run it.
///
/// # Soundness
/// wasmtime trusts the file: it must contain what wasmtime made for this very configuration, and must never change.
///
/// - *No other user can have written it.* Only [`CacheDir::find`] passes files here. It opens them in a directory that this
///   user owns and nobody else may write to, below directories in which nobody else can replace it; the file itself is owned
///   by this user and writable for nobody else. A user who could still change it could change this process as well.
/// - *It is the file that was checked.* The open file is mapped, whatever its name refers to by now.
/// - *It is complete, and does not change.* Our own compiler wrote it under a temporary name; it was renamed into place after
///   the compiler had succeeded and all of it was on disk. No file is ever written in place. It may be removed while it is
///   mapped: the mapping stays valid until it is dropped.
/// - *It fits this engine.* The name contains a hash of wasmtime's version, the processor and every setting that machine code
///   depends on, and wasmtime compares them once more.
/// - *Functions that compilers reuse* are in the subdirectory `functions`, on the same terms: owner and mode are checked, and
///   wasmtime's cache finds a function by a SHA-256 of all that it is compiled from. Checksums there detect damage; they are
///   no defence against somebody who can write there.
#[allow(unsafe_code, reason = "wasmtime cannot check machine code")]
fn load(engine: &wasmtime::Engine, file: &File) -> wasmtime::Result<Component> {
    // wasmtime takes a path only; this one refers to the open file.
    let opened = format!("/proc/self/fd/{}", file.as_raw_fd());
    // SAFETY: see above.
    unsafe { Component::deserialize_file(engine, opened) }
}
