//! A JWK set, which is read again from time to time and when a token names an unknown key.
//!
//! One task reads it, so that there is one reading at a time and a pause between two, however many tokens wait for one. If a reading fails,
//! the keys stay.

use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::{Mutex, RwLock};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::fetch::Fetch;
use super::key::{self, Key};
use super::settings::{Algorithm, JwksLocation, TokenSettings};
use plugnode_process::shutdown::Shutdown;

/// Tokens that may wait for a reading. Others are refused at once.
const MAX_WAITING: usize = 1_024;

/// The keys of a set, from its latest reading.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Arc<RwLock<Arc<[Key]>>>,
    /// The digest of the text that they were read from.
    digest: Arc<Mutex<[u8; 32]>>,
    requests: mpsc::Sender<ReadRequest>,
}

/// A request for a reading.
struct ReadRequest {
    /// Whether to read even if the last reading was just before.
    now: bool,
    done: oneshot::Sender<()>,
}

/// The task that reads the set.
struct Reader {
    source: Source,
    algorithms: Vec<Algorithm>,
    settings: TokenSettings,
    keys: Arc<RwLock<Arc<[Key]>>>,
    digest: Arc<Mutex<[u8; 32]>>,
    requests: mpsc::Receiver<ReadRequest>,
}

/// The source of the set.
enum Source {
    File(std::path::PathBuf),
    Url(Fetch),
}

impl KeySet {
    /// Reads the set, and reads it again until `shutdown` begins.
    ///
    /// # Errors
    /// If the first reading fails.
    pub(super) async fn start(place: &JwksLocation, settings: &TokenSettings, shutdown: &Shutdown) -> Result<Self> {
        let source = match place {
            JwksLocation::File(file) => Source::File(file.clone()),
            JwksLocation::Url(url) => Source::Url(Fetch::new(url, settings.ca.as_deref())?),
        };
        let (sender, requests) = mpsc::channel(MAX_WAITING);
        let reader = Reader {
            source,
            algorithms: settings.algorithms.clone(),
            settings: settings.clone(),
            keys: Arc::new(RwLock::new(Arc::from([]))),
            digest: Arc::default(),
            requests,
        };
        let (keys, digest) = (reader.keys.clone(), reader.digest.clone());
        let count = reader.read().await?;
        info!(keys = count, jwks = %reader.source, "JWK set read; its keys verify tokens");
        let ending = shutdown.clone();
        shutdown.spawn(async move {
            tokio::select! {
                () = ending.begun() => {}
                () = reader.run() => {}
            }
        });
        Ok(Self {
            keys,
            digest,
            requests: sender,
        })
    }

    /// The present keys.
    pub(super) fn keys(&self) -> Arc<[Key]> {
        self.keys.read().clone()
    }

    /// The digest of the text that the keys were read from.
    pub(super) fn digest(&self) -> [u8; 32] {
        *self.digest.lock()
    }

    /// Has the set read again unless that was just done, and waits until it is.
    pub(super) async fn renew(&self) {
        self.request(false).await;
    }

    /// Has the set read again, and waits until it is.
    pub(super) async fn read_again(&self) {
        self.request(true).await;
    }

    async fn request(&self, now: bool) {
        let (done, done_receiver) = oneshot::channel();
        if self.requests.try_send(ReadRequest { now, done }).is_ok() {
            // An error means that nothing is read now.
            let _ = done_receiver.await;
        }
    }
}

impl Reader {
    async fn run(mut self) {
        let mut last = Instant::now();
        loop {
            let request = tokio::select! {
                () = sleep_until(last + self.settings.refresh) => None,
                request = self.requests.recv() => match request {
                    Some(request) => Some(request),
                    None => return,
                },
            };
            if request.as_ref().is_some_and(|request| !request.now) && last.elapsed() < self.settings.pause {
                continue;
            }
            match self.read().await {
                Ok(count) => debug!(keys = count, jwks = %self.source, "JWK set read again"),
                Err(error) => warn!("cannot read the JWK set again; the keys stay as they were: {error:#}"),
            }
            last = Instant::now();
            if let Some(request) = request {
                // The token may not wait any more.
                let _ = request.done.send(());
            }
        }
    }

    /// Reads the set, and returns the number of its keys.
    async fn read(&self) -> Result<usize> {
        let reading = timeout(self.settings.timeout, self.source.read());
        let text = match reading.await {
            Ok(text) => text,
            Err(_) => Err(anyhow::anyhow!("it took longer than {:?}", self.settings.timeout)),
        };
        let secrets = matches!(self.source, Source::File(_));
        let keys = text.and_then(|text| {
            let keys = key::of_set(&text, &self.algorithms, secrets)?;
            *self.digest.lock() = Sha256::digest(&text).into();
            Ok(keys)
        });
        let keys = keys.with_context(|| format!("[io-node.token] jwks: cannot use {}", self.source))?;
        let count = keys.len();
        *self.keys.write() = keys.into();
        Ok(count)
    }
}

impl Source {
    async fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::File(file) => tokio::fs::read(file).await.context("cannot read it"),
            Self::Url(fetch) => fetch.get().await,
        }
    }
}

impl std::fmt::Display for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            Self::Url(fetch) => fetch.fmt(f),
        }
    }
}
