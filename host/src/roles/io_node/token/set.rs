//! A JWK set that is read again and again: from time to time, and when a token names a key that is not in it.
//!
//! One task reads it, so that however many tokens ask for it there is one reading at a time and a pause between two. What
//! cannot be read leaves the keys as they were.

use std::sync::{Arc, RwLock};

use anyhow::{Context, Result};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};
use tracing::{debug, info, warn};

use super::fetch::Fetch;
use super::key::{self, Key};
use super::{Algorithm, JwksPlace, TokenSettings};
use crate::shutdown::Shutdown;

/// How many tokens may wait for a reading; the others are refused at once.
const WAITING: usize = 1_024;

/// The keys of a set, as of its latest reading.
#[derive(Debug)]
pub(super) struct KeySet {
    keys: Arc<RwLock<Arc<[Key]>>>,
    wanted: mpsc::Sender<oneshot::Sender<()>>,
}

/// Who reads it.
struct Reader {
    place: Place,
    algorithms: Vec<Algorithm>,
    settings: TokenSettings,
    keys: Arc<RwLock<Arc<[Key]>>>,
    wanted: mpsc::Receiver<oneshot::Sender<()>>,
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
            wanted,
        };
        let keys = reader.keys.clone();
        let count = reader.read().await?;
        info!(keys = count, jwks = %reader.place, "tokens are looked at with the keys of a JWK set");
        let ending = shutdown.clone();
        shutdown.spawn(async move {
            tokio::select! {
                () = ending.begun() => {}
                () = reader.run() => {}
            }
        });
        Ok(Self { keys, wanted: sender })
    }

    /// The keys of today.
    pub(super) fn keys(&self) -> Arc<[Key]> {
        self.keys
            .read()
            .expect("nothing panics while it holds this lock")
            .clone()
    }

    /// Has the set read again, unless that was just done, and waits for it.
    pub(super) async fn renew(&self) {
        let (done, is_done) = oneshot::channel();
        if self.wanted.try_send(done).is_ok() {
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
            if asked.is_some() && last.elapsed() < self.settings.pause {
                continue;
            }
            match self.read().await {
                Ok(count) => debug!(keys = count, jwks = %self.place, "the JWK set was read again"),
                Err(error) => warn!("the keys of tokens stay as they were: {error:#}"),
            }
            last = Instant::now();
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
        let keys = text.and_then(|text| key::of_set(&text, &self.algorithms, secrets));
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
