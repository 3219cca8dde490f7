//! Serves POSTs: requests whose body brings packets.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::header::CONTENT_TYPE;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout_at};
use tracing::debug;

use crate::budget::{Exhausted, Share};
use crate::close_reason::CloseReason;
use crate::codec::Payload;
use crate::poll_delivery::PollHold;
use crate::refusal::Refusal;
use crate::response::{self, Body};
use crate::session::{Phase, PostOutcome, PostState, PostedPackets, Session};
use crate::settings::{MIN_BODY_RATE, Settings};
use crate::version::Version;

/// Reads a POST and answers it, when the application has all of its packets, or when the rest of them waits for polls.
pub(crate) async fn serve<B>(session: Session, request: Request<B>, mut share: Share) -> Response<Body>
where
    B: http_body::Body<Data: Buf>,
{
    let mut unread = UnreadPost(Some(&session));
    let is_new = AtomicBool::new(true);
    let begun = poll_fn(|cx| session.poll_begin_post(cx, is_new.swap(false, Ordering::Relaxed))).await;
    let Some(ended) = begun else {
        unread.0 = None;
        return Refusal::BadRequest.response();
    };
    let content_type = request.headers().get(CONTENT_TYPE);
    let is_binary = content_type.is_some_and(|content_type| content_type == "application/octet-stream");
    if is_binary && session.version() == Version::V4 {
        // Dropping `unread` ends the session.
        return response::status(StatusCode::BAD_REQUEST);
    }
    let read = tokio::select! {
        read = read(request.into_body(), &session.0.settings, &mut share) => read,
        _ = ended => Err(BodyError::Ended),
    };
    let body = match read {
        Ok(body) => body,
        Err(error) => {
            debug!(session = session.id(), %error, "cannot read the body of a POST");
            if error.keeps_session() {
                unread.0 = None;
                session.0.state().end_post();
            }
            return response::status(error.status());
        }
    };
    let payload = match is_binary {
        true => Payload::binary(body),
        false => Payload::text(body, session.version()),
    };
    unread.0 = None;
    // From here on the packets are processed even if the request is cut off.
    let (outcome, hold) = session.queue_post(payload, share);
    match outcome.await {
        Ok(PostOutcome::Accepted) => response::ok(hold),
        Ok(PostOutcome::Refused) | Err(_) => response::refused(hold),
    }
}

/// A POST whose body is not read to its end. Dropped with its session, it ends the session, because packets are lost.
struct UnreadPost<'a>(Option<&'a Session>);

impl Drop for UnreadPost<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.0 {
            let mut state = session.0.state();
            state.end(CloseReason::TransportError);
            state.end_post();
        }
    }
}

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
enum BodyError {
    #[error("larger than max-payload")]
    TooLarge,
    #[error("slower than body-timeout allows")]
    TooSlow,
    #[error("the connection ended")]
    CutOff,
    #[error("the session has ended")]
    Ended,
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

impl BodyError {
    /// Whether the response tells the client for certain that no packet was processed, so that the session can go on.
    fn keeps_session(&self) -> bool {
        matches!(self, Self::TooLarge | Self::TooSlow)
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::CutOff | Self::Ended => StatusCode::BAD_REQUEST,
            Self::Exhausted(_) => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Reads a body of at most [`Settings::max_payload`] bytes, for as long as it keeps the lowest rate.
async fn read<B>(body: B, settings: &Settings, share: &mut Share) -> Result<Bytes, BodyError>
where
    B: http_body::Body<Data: Buf>,
{
    let max = settings.max_payload;
    if body.size_hint().lower() > max as u64 {
        return Err(BodyError::TooLarge);
    }
    let begun = Instant::now();
    let mut body = std::pin::pin!(body);
    let mut read = Vec::new();
    loop {
        let extension = Duration::from_secs((read.len() / MIN_BODY_RATE) as u64);
        let frame = timeout_at(begun + settings.body_timeout + extension, body.frame()).await;
        let frame = match frame.map_err(|_| BodyError::TooSlow)? {
            None => return Ok(read.into()),
            Some(frame) => frame.map_err(|_| BodyError::CutOff)?,
        };
        let Ok(data) = frame.into_data() else { continue };
        if data.remaining() > max - read.len() {
            return Err(BodyError::TooLarge);
        }
        read.put(data);
        share.hold(read.len())?;
    }
}

impl Session {
    /// Begins a POST, once the one before it is processed. `is_new` on the first call for it. The receiver is closed when the
    /// session ends before the body is read. None when the POST cannot begin: the one before it is not answered, which ends
    /// the session; the session uses a websocket; or it has ended.
    fn poll_begin_post(&self, cx: &Context<'_>, is_new: bool) -> Poll<Option<oneshot::Receiver<Infallible>>> {
        let mut state = self.0.state();
        let state = &mut *state;
        let Some(polling) = state.polling.as_deref_mut().filter(|_| !state.is_websocket) else {
            return Poll::Ready(None);
        };
        let is_over = match is_new {
            true => state.phase == Phase::Ended(CloseReason::Client),
            false => state.phase != Phase::Open,
        };
        if is_over {
            return Poll::Ready(None);
        }
        match polling.post {
            PostState::Answered if !is_new || polling.next_post.is_none() => {
                polling.next_post = Some(cx.waker().clone());
                return Poll::Pending;
            }
            PostState::None => {}
            _ => {
                state.end(CloseReason::TransportError);
                return Poll::Ready(None);
            }
        }
        let (until_end, ended) = oneshot::channel();
        polling.post = PostState::ReadingBody(until_end);
        Poll::Ready(Some(ended))
    }

    /// Queues the packets of a POST for the task. The receiver gets the outcome by which to answer it. Polls are held back
    /// until the hold is dropped.
    fn queue_post(&self, payload: Payload, share: Share) -> (oneshot::Receiver<PostOutcome>, PollHold) {
        let (response, outcome) = oneshot::channel();
        let mut packets = PostedPackets::new(payload, response, share);
        let mut state = self.0.state();
        if matches!(state.phase, Phase::Ended(_)) {
            // The client does not know of the end yet: it will by its next poll.
            packets.answer(PostOutcome::Accepted);
        } else if let Some(polling) = &mut state.polling {
            polling.is_held = true;
            polling.post = PostState::Ready(packets);
            state.task.wake();
        }
        (outcome, PollHold(self.clone()))
    }
}
