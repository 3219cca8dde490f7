//! The error that `plugnode dev` shows over its pages: a failed build or start, or a failed event, with an excerpt of the source.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use serde_json::json;
use tokio::sync::watch;
use tokio::time::sleep;

use super::format::plain;
use super::source_excerpt::SourceExcerpt;
use plugnode_message::EventKind;
use plugnode_release::Digest;
use plugnode_server::roles::frontend::Overlay;
use plugnode_transport::{DeadContent, DeadLetter, Transport};

/// Interval of polling for dead letters.
const POLL: Duration = Duration::from_millis(250);
/// Limit of an error message, in bytes.
const MAX_MESSAGE: usize = 16 << 10;
/// Number of earlier releases that are remembered.
const MAX_EARLIER: usize = 100;

/// The error that pages show. Shared by the tasks that report errors.
pub(super) struct ErrorOverlay {
    /// Folder of the handler's source.
    folder: PathBuf,
    /// Number of errors so far: a repeated error is shown again.
    count: AtomicU64,
    state: watch::Sender<OverlayState>,
}

#[derive(Default)]
struct OverlayState {
    /// The error as JSON, or `null`.
    error: Bytes,
    /// For a failed event: the release that it failed in.
    release: Option<String>,
    /// Whether the error is of a build or start. A failed event does not replace it.
    is_build: bool,
    /// The release in use.
    current: String,
    /// Earlier releases. Events that fail in them are not shown.
    earlier: VecDeque<String>,
}

impl ErrorOverlay {
    /// No error, for a handler with its source in `folder` and this first release.
    pub(super) fn new(folder: &Path, first: &Digest) -> Self {
        Self {
            folder: folder.into(),
            count: AtomicU64::new(0),
            state: watch::Sender::new(OverlayState {
                error: Bytes::from_static(b"null"),
                current: first.short().to_owned(),
                ..OverlayState::default()
            }),
        }
    }

    /// The overlay for the frontend, and a future that keeps it up to date while it is polled.
    pub(super) fn for_frontend(&self) -> (Overlay, impl Future<Output = ()> + Send + use<>) {
        let mut state = self.state.subscribe();
        let (send, receive) = watch::channel(state.borrow().error.clone());
        let forward = async move {
            while state.changed().await.is_ok() {
                let error = state.borrow_and_update().error.clone();
                send.send_replace(error);
            }
        };
        (Overlay(receive), forward)
    }

    /// Shows that a build or start has failed.
    pub(super) fn build_failed(&self, message: &str) {
        let error = self.error("The handler does not build", message);
        self.state.send_modify(|state| {
            state.error = error;
            state.is_build = true;
            state.release = None;
        });
    }

    /// Takes note of the release in use. Clears the error, except that of an event which failed in this release.
    pub(super) fn release_in_use(&self, digest: &Digest) {
        let release = digest.short();
        self.state.send_modify(|state| {
            if state.current != release {
                let before = std::mem::replace(&mut state.current, release.to_owned());
                state.earlier.push_back(before);
                if state.earlier.len() > MAX_EARLIER {
                    state.earlier.pop_front();
                }
            }
            state.earlier.retain(|earlier| earlier != release);
            if state.release.as_deref() != Some(release) {
                state.clear();
            }
        });
    }

    /// Clears the error of a build: the source builds to the release in use again. The error of an event stays.
    pub(super) fn build_succeeded(&self) {
        self.state.send_if_modified(|state| {
            let was_build = state.is_build;
            if was_build {
                state.clear();
            }
            was_build
        });
    }

    /// Shows events that become dead letters. Never ends.
    pub(super) async fn watch_dead_letters(&self, transport: &Transport) {
        let mut last = None;
        loop {
            sleep(POLL).await;
            let Some(letter) = transport
                .dead_letters
                .dead_letters(1)
                .await
                .ok()
                .and_then(|mut letters| letters.pop())
            else {
                continue;
            };
            let release = letter.cause.release.clone().unwrap_or_default();
            let is_known = last == Some(letter.id);
            last = Some(letter.id);
            if is_known || self.state.borrow().earlier.contains(&release) {
                continue;
            }
            let title = format!("The handler failed: {}", event_name(&letter));
            let error = self.error(&title, &letter.cause.reason);
            self.state.send_modify(|state| {
                if !state.is_build {
                    state.error = error;
                    state.release = Some(release);
                }
            });
        }
    }

    fn error(&self, title: &str, message: &str) -> Bytes {
        let message = &message[..message.floor_char_boundary(MAX_MESSAGE)];
        let text: Vec<_> = message.lines().map(plain).collect();
        let (place, frame) = match SourceExcerpt::find(&self.folder, message) {
            Some(excerpt) => (Some(excerpt.location), excerpt.lines),
            None => (None, Vec::new()),
        };
        let number = self.count.fetch_add(1, Ordering::Relaxed);
        let error = json!({
            "number": number, "title": plain(title), "place": place, "frame": frame, "text": text.join("\n"),
        });
        error.to_string().into()
    }
}

impl OverlayState {
    fn clear(&mut self) {
        self.error = Bytes::from_static(b"null");
        self.is_build = false;
        self.release = None;
    }
}

fn event_name(letter: &DeadLetter) -> String {
    match &letter.content {
        DeadContent::Event(event) => match &event.kind {
            EventKind::Message { event, .. } => format!("message {event:?}"),
            kind => kind.word().to_owned(),
        },
        DeadContent::Foreign(_) => "an event".to_owned(),
    }
}
