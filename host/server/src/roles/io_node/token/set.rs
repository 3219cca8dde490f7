//! A JWK set that is read again and again: from time to time, and when a token names a key that is not in it.
//!
//! One task reads it, so that however many tokens ask for it there is one reading at a time and a pause between two. What
//! cannot be read leaves the keys as they were.

use std::sync::{Arc, Mutex, RwLock};

use anyhow::{Context, Result};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::fetch::Fetch;
use super::key::{self, Key};
use super::settings::{Algorithm, JwksPlace, TokenSettings};
use plugnode_process::shutdown::Shutdown;

/// How many tokens may wait for a reading; the others are refused at once.
const WAITING: usize = 1_024;

/// The keys of a set, as of its latest reading.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Arc<RwLock<Arc<[Key]>>>,
    /// Of the text that they were read from.
    digest: Arc<Mutex<[u8; 32]>>,
    wanted: mpsc::Sender<Wanted>,
}

/// A reading that somebody waits for.
struct Wanted {
    /// Whether it is to be read in any case, and not only when the last reading was a while ago.
    now: bool,
    done: oneshot::Sender<()>,
}

/// Who reads it.
struct Reader {
    place: Place,
    algorithms: Vec<Algorithm>,
    settings: TokenSettings,
    keys: Arc<RwLock<Arc<[Key]>>>,
    digest: Arc<Mutex<[u8; 32]>>,
    wanted: mpsc::Receiver<Wanted>,
}

enum Place {
    File(std::path::PathBuf),
    Url(Fetch),
}

impl KeySet {
    /// Reads the set, and goes on to read it until `shutdown` begins.
    pub(super) async fn start(place: &JwksPlace, settings: &TokenSettings, shutdown: &Shutdown) -> Result<Self> {
        let place = match place {
            JwksPlace::File(file) => Place::File(file.clone()),
            JwksPlace::Url(url) => Place::Url(Fetch::new(url, settings.ca.as_deref())?),
        };
        let (sender, wanted) = mpsc::channel(WAITING);
        let reader = Reader {
            place,
            algorithms: settings.algorithms.clone(),
            settings: settings.clone(),
            keys: Arc::new(RwLock::new(Arc::from([]))),
            digest: Arc::default(),
            wanted,
        };
        let (keys, digest) = (reader.keys.clone(), reader.digest.clone());
        let count = reader.read().await?;
        info!(keys = count, jwks = %reader.place, "tokens are looked at with the keys of a JWK set");
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
            wanted: sender,
        })
    }

    /// The keys of today.
    pub(super) fn keys(&self) -> Arc<[Key]> {
        self.keys
            .read()
            .expect("nothing panics while it holds this lock")
            .clone()
    }

    /// Tells this set from another.
    pub(super) fn digest(&self) -> [u8; 32] {
        *self.digest.lock().expect("nothing panics while it holds this lock")
    }

    /// Has the set read again, unless that was just done, and waits for it.
    pub(super) async fn renew(&self) {
        self.want(false).await;
    }

    /// Has the set read again, and waits for it.
    pub(super) async fn read_again(&self) {
        self.want(true).await;
    }

    async fn want(&self, now: bool) {
        let (done, is_done) = oneshot::channel();
        if self.wanted.try_send(Wanted { now, done }).is_ok() {
            // An error says that it is over, too.
            let _ = is_done.await;
        }
    }
}

impl Reader {
    async fn run(mut self) {
        let mut last = Instant::now();
        loop {
            let asked = tokio::select! {
                () = sleep_until(last + self.settings.refresh) => None,
                asked = self.wanted.recv() => match asked {
                    Some(asked) => Some(asked),
                    None => return,
                },
            };
            if asked.as_ref().is_some_and(|asked| !asked.now) && last.elapsed() < self.settings.pause {
                continue;
            }
            match self.read().await {
                Ok(count) => debug!(keys = count, jwks = %self.place, "the JWK set was read again"),
                Err(error) => warn!("the keys of tokens stay as they were: {error:#}"),
            }
            last = Instant::now();
            if let Some(asked) = asked {
                // Who asked may not wait any more.
                let _ = asked.done.send(());
            }
        }
    }

    /// Reads the set, and says how many keys it has.
    async fn read(&self) -> Result<usize> {
        let reading = timeout(self.settings.timeout, self.place.read());
        let text = match reading.await {
            Ok(text) => text,
            Err(_) => Err(anyhow::anyhow!("it took longer than {:?}", self.settings.timeout)),
        };
        let secrets = matches!(self.place, Place::File(_));
        let keys = text.and_then(|text| {
            let keys = key::of_set(&text, &self.algorithms, secrets)?;
            *self.digest.lock().expect("nothing panics while it holds this lock") = Sha256::digest(&text).into();
            Ok(keys)
        });
        let keys = keys.with_context(|| format!("[io-node.token] jwks: cannot use {}", self.place))?;
        let count = keys.len();
        *self.keys.write().expect("nothing panics while it holds this lock") = keys.into();
        Ok(count)
    }
}

impl Place {
    async fn read(&self) -> Result<Vec<u8>> {
        match self {
            Self::File(file) => tokio::fs::read(file).await.context("cannot read it"),
            Self::Url(fetch) => fetch.get().await,
        }
    }
}

impl std::fmt::Display for Place {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::File(file) => file.display().fmt(f),
            Self::Url(fetch) => fetch.fmt(f),
        }
    }
}
