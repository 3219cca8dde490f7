//! Polls and POSTs of a session.

use std::future::poll_fn;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::{Buf, BufMut, Bytes};
use http::header::{CONTENT_TYPE, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use tokio::time::{Instant, timeout, timeout_at};
use tracing::debug;

use crate::answer::{self, Body};
use crate::budget::Share;
use crate::codec::{self, Payload};
use crate::packet::Packet;
use crate::request::{Question, Refusal};
use crate::session::{Answer, Session, Taken};
use crate::settings::BODY_RATE;
use crate::{CloseReason, Settings, Version};

/// How long a poll may wait that comes while its client is about to move to a websocket. It moves when none waits.
const PROBED_WAIT: Duration = Duration::from_millis(100);

/// Answers the request that opens a session.
pub(crate) fn opened(open: Packet, question: &Question) -> Response<Body> {
    let (encoded, _) = codec::encode(&mut [open].into(), question.version, question.base64, usize::MAX);
    answer::text(encoded.body)
}

/// Answers a poll, when there is something to be sent.
pub(crate) async fn poll(session: Session, base64: bool) -> Response<Body> {
    let is_new = AtomicBool::new(true);
    let mut waiting = WaitingPoll(Some(&session));
    let answered = |is_short| {
        let (session, is_new) = (&session, &is_new);
        poll_fn(move |cx| session.poll_answer(cx, base64, is_new.swap(false, Ordering::Relaxed), is_short))
    };
    let answer = match session.is_probed() {
        false => answered(true).await,
        true => match timeout(PROBED_WAIT, answered(false)).await {
            Ok(answer) => answer,
            Err(_) => answered(true).await,
        },
    };
    waiting.0 = None;
    match answer {
        Answer::Packets(encoded, delivery) => answer::poll(encoded.body, encoded.is_binary, delivery),
        Answer::Overlap => {
            debug!(session = session.id(), "two polls at the same time");
            answer::status(StatusCode::BAD_REQUEST)
        }
        Answer::Moved => Refusal::BadRequest.answer(),
        Answer::Gone => Refusal::SessionUnknown.answer(),
    }
}

/// A poll that waits. Dropped with that, its connection has ended, and with it the session.
struct WaitingPoll<'a>(Option<&'a Session>);

impl Drop for WaitingPoll<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.0 {
            session.poll_was_cut_off();
        }
    }
}

/// Takes a POST in, and answers when the application has all of its packets, or does not take them before polls have brought the
/// client what waits.
pub(crate) async fn post<B>(session: Session, request: Request<B>, share: Share) -> Response<Body>
where
    B: http_body::Body<Data: Buf>,
{
    let mut posting = Posting(Some(&session));
    let is_new = AtomicBool::new(true);
    let begun = poll_fn(|cx| session.poll_begin_post(cx, is_new.swap(false, Ordering::Relaxed))).await;
    let Some(ended) = begun else {
        posting.0 = None;
        return Refusal::BadRequest.answer();
    };
    let is_binary = request.headers().get(CONTENT_TYPE).is_some_and(is_binary);
    if is_binary && session.version() == Version::V4 {
        // Dropped as it is, it ends the session.
        return answer::status(StatusCode::BAD_REQUEST);
    }
    let mut share = share;
    let read = tokio::select! {
        read = read(request.into_body(), &session.0.settings, &mut share) => read,
        _ = ended => Err(Unread::Ended),
    };
    let body = match read {
        Ok(body) => body,
        Err(unread) => {
            debug!(session = session.id(), "cannot read the body of a POST: {unread}");
            if unread.is_told() {
                posting.0 = None;
                session.end_post();
            }
            return answer::status(unread.status());
        }
    };
    let payload = match is_binary {
        true => Payload::binary(body),
        false => Payload::text(body, session.version()),
    };
    posting.0 = None;
    // The task takes it also when this request ends before.
    let (taken, hold) = session.give_post(payload, share);
    match taken.await {
        Ok(Taken::All) => answer::ok(hold),
        Ok(Taken::Refused) | Err(_) => answer::refused(hold),
    }
}

/// A POST whose body comes in, or is to. Dropped with that, it ends the session.
struct Posting<'a>(Option<&'a Session>);

impl Drop for Posting<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.0 {
            session.end(CloseReason::TransportError);
            session.end_post();
        }
    }
}

fn is_binary(content: &HeaderValue) -> bool {
    content == "application/octet-stream"
}

/// Why a body was not read.
#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error("it is larger than max-payload")]
    TooLarge,
    #[error("it comes too slowly")]
    TooSlow,
    #[error("it ended before its end")]
    CutOff,
    #[error("the session has ended")]
    Ended,
    #[error(transparent)]
    Exhausted(#[from] crate::budget::Exhausted),
}

impl Unread {
    /// Whether the client hears that nothing of the POST was taken. Then the session may go on.
    fn is_told(&self) -> bool {
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

/// Reads a body, of no more than may come, for as long as it keeps coming.
async fn read<B>(body: B, settings: &Settings, share: &mut Share) -> Result<Bytes, Unread>
where
    B: http_body::Body<Data: Buf>,
{
    let most = settings.max_payload;
    if body.size_hint().lower() > most as u64 {
        return Err(Unread::TooLarge);
    }
    let begun = Instant::now();
    let mut body = std::pin::pin!(body);
    let mut read = Vec::new();
    loop {
        let bought = Duration::from_secs((read.len() / BODY_RATE) as u64);
        let frame = timeout_at(begun + settings.body_timeout + bought, body.frame()).await;
        let frame = match frame.map_err(|_| Unread::TooSlow)? {
            None => return Ok(read.into()),
            Some(frame) => frame.map_err(|_| Unread::CutOff)?,
        };
        let Ok(data) = frame.into_data() else { continue };
        if data.remaining() > most - read.len() {
            return Err(Unread::TooLarge);
        }
        read.put(data);
        share.hold(read.len())?;
    }
}
