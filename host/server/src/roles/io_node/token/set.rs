//! A JWK set, which is read again from time to time and when a token names an unknown key.
//!
//! One task reads it, so that there is one reading at a time and a pause between two, however many tokens wait for one. If a reading fails,
//! the keys stay.

use std::sync::Arc;

use anyhow::{Context, Result};
use parking_lot::RwLock;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::fetch::Fetch;
use super::key::{self, Key};
use super::settings::{JwksLocation, TokenSettings};
use plugnode_process::shutdown::Shutdown;

/// Tokens that may wait for a reading. Others are refused at once.
const MAX_WAITING: usize = 1_024;

/// A JWK set that is in use.
#[derive(Debug)]
pub(super) struct KeySet {
    present: Arc<RwLock<SetKeys>>,
    source: Arc<Source>,
    settings: TokenSettings,
    requests: mpsc::Sender<ReadRequest>,
}

/// The keys that one reading found.
#[derive(Debug, Clone)]
pub(super) struct SetKeys {
    keys: Arc<[Key]>,
    /// The digest of the text that they were read from.
    digest: [u8; 32],
}

/// A request for a reading.
struct ReadRequest {
    /// Whether to read even if the last reading was just before.
    now: bool,
    done: oneshot::Sender<()>,
}

/// The task that reads the set.
struct Reader {
    source: Arc<Source>,
    settings: TokenSettings,
    present: Arc<RwLock<SetKeys>>,
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
        let source = Arc::new(match place {
            JwksLocation::File(file) => Source::File(file.clone()),
            JwksLocation::Url(url) => Source::Url(Fetch::new(url, settings.jwks_ca.as_deref())?),
        });
        let first = source.read(settings).await?;
        info!(keys = first.keys.len(), jwks = %source, "JWK set read; its keys verify tokens");
        let present = Arc::new(RwLock::new(first));
        let (sender, requests) = mpsc::channel(MAX_WAITING);
        let reader = Reader {
            source: source.clone(),
            settings: settings.clone(),
            present: present.clone(),
            requests,
        };
        let ending = shutdown.clone();
        shutdown.spawn(async move {
            tokio::select! {
                () = ending.begun() => {}
                () = reader.run() => {}
            }
        });
        Ok(Self {
            present,
            source,
            settings: settings.clone(),
            requests: sender,
        })
    }

    /// The present keys.
    pub(super) fn keys(&self) -> Arc<[Key]> {
        self.present.read().keys.clone()
    }

    /// The digest of the text that the keys were read from.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.present.read().digest
    }

    /// Reads the set if it is a file. None if it is at a URL.
    ///
    /// # Errors
    /// If the file cannot be read or used.
    pub(super) async fn read_file(&self) -> Result<Option<SetKeys>> {
        match &*self.source {
            Source::File(_) => self.source.read(&self.settings).await.map(Some),
            Source::Url(_) => Ok(None),
        }
    }

    /// Uses these keys from now on.
    pub(super) fn replace(&self, keys: SetKeys) {
        *self.present.write() = keys;
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
                () = sleep_until(last + self.settings.jwks_refresh) => None,
                request = self.requests.recv() => match request {
                    Some(request) => Some(request),
                    None => return,
                },
            };
            if request.as_ref().is_some_and(|request| !request.now) && last.elapsed() < self.settings.jwks_pause {
                continue;
            }
            match self.source.read(&self.settings).await {
                Ok(read) => {
                    debug!(keys = read.keys.len(), jwks = %self.source, "JWK set read again");
                    *self.present.write() = read;
                }
                Err(error) => {
                    warn!(error = %format_args!("{error:#}"), "cannot read the JWK set again; the keys stay as they were")
                }
            }
            last = Instant::now();
            if let Some(request) = request {
                // The token may not wait any more.
                let _ = request.done.send(());
            }
        }
    }
}

impl Source {
    async fn read(&self, settings: &TokenSettings) -> Result<SetKeys> {
        let text = match timeout(settings.jwks_timeout, self.text()).await {
            Ok(text) => text,
            Err(_) => Err(anyhow::anyhow!("it took longer than {:?}", settings.jwks_timeout)),
        };
        let secrets = matches!(self, Self::File(_));
        let read = text.and_then(|text| {
            Ok(SetKeys {
                keys: key::of_set(&text, &settings.algorithms, secrets)?.into(),
                digest: Sha256::digest(&text).into(),
            })
        });
        read.with_context(|| format!("[io-node.token] jwks: cannot use {self}"))
    }

    async fn text(&self) -> Result<Vec<u8>> {
        match self {
            Self::File(file) => tokio::fs::read(file).await.context("cannot read it"),
            Self::Url(fetch) => fetch.get().await,
        }
    }
}

impl std::fmt::Debug for Source {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{self}")
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
