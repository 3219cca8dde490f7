//! HTTP requests in flight. Each goes on by itself in the host; here it is looked after whether there is something to read or room to
//! write, for all of them at once, so that none waits for another. What `fetch` means is `../../src/fetch.js`'s to know.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::time::Duration;

use rquickjs::{Ctx, Exception, Object, Result, TypedArray};
use wasip2::clocks::monotonic_clock;
use wasip2::http::outgoing_handler;
use wasip2::http::types::{
    ErrorCode, Fields, FutureIncomingResponse, IncomingBody, IncomingResponse, Method, OutgoingBody, OutgoingRequest,
    Scheme, http_error_code,
};
use wasip2::io::poll::{Pollable, poll};
use wasip2::io::streams::{InputStream, OutputStream, StreamError};

use crate::host::Bytes;

/// Bytes that are read at once.
const CHUNK: u64 = 64 << 10;

thread_local! {
    static REQUESTS: RefCell<Requests> = const { RefCell::new(Requests { last: 0, all: BTreeMap::new() }) };
}

struct Requests {
    last: u32,
    all: BTreeMap<u32, Request>,
}

struct Request {
    upload: Option<Upload>,
    stage: Stage,
    /// Bytes of its answer's body.
    most: usize,
}

/// A body on its way.
struct Upload {
    // In this order: a stream must not outlive the body that it is of.
    stream: OutputStream,
    body: OutgoingBody,
    bytes: Vec<u8>,
    written: usize,
    is_flushed: bool,
}

/// A body that comes.
struct Download {
    // As above.
    stream: InputStream,
    _body: IncomingBody,
}

enum Stage {
    Asked(FutureIncomingResponse),
    Reading(Answer, Download),
    Done(std::result::Result<Answer, Failure>),
}

struct Answer {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

struct Failure {
    is_denied: bool,
    words: String,
}

impl Failure {
    fn new(words: impl Into<String>) -> Self {
        Self {
            is_denied: false,
            words: words.into(),
        }
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        let words = match code {
            ErrorCode::HttpRequestDenied => {
                return Self {
                    is_denied: true,
                    words: "it is not granted".to_owned(),
                };
            }
            ErrorCode::DnsTimeout | ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => "no such host",
            ErrorCode::DestinationUnavailable | ErrorCode::DestinationIpUnroutable => "the host cannot be reached",
            ErrorCode::ConnectionRefused => "the connection was refused",
            ErrorCode::ConnectionTerminated | ErrorCode::HttpResponseIncomplete => {
                "the connection ended before the answer did"
            }
            ErrorCode::ConnectionTimeout => "connecting took too long",
            ErrorCode::ConnectionReadTimeout | ErrorCode::ConnectionWriteTimeout | ErrorCode::HttpResponseTimeout => {
                "the answer took too long"
            }
            ErrorCode::TlsProtocolError | ErrorCode::TlsCertificateError | ErrorCode::TlsAlertReceived(_) => {
                "no secure connection can be made: its certificate or protocol is not accepted"
            }
            ErrorCode::HttpRequestUriInvalid => "the address is not valid",
            ErrorCode::HttpProtocolError => "the answer is not HTTP, or the connection ended in it",
            ErrorCode::InternalError(Some(words)) => return Self::new(words),
            other => return Self::new(other.to_string()),
        };
        Self::new(words)
    }
}

/// Sends a request and returns its number. `line` is method, scheme, authority and path; names and values of `headers` are in turn.
pub(crate) fn start(
    ctx: Ctx<'_>,
    line: Vec<String>,
    headers: Vec<String>,
    body: Option<Bytes>,
    most: u32,
) -> Result<u32> {
    let wrong = |words: &str| Exception::throw_type(&ctx, words);
    let fields = Fields::new();
    for pair in headers.chunks_exact(2) {
        let value: Option<Vec<u8>> = pair[1].chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        let value = value.ok_or_else(|| wrong(&format!("the header {} has characters beyond U+00FF", pair[0])))?;
        fields
            .append(&pair[0], &value)
            .map_err(|error| wrong(&format!("the header {} cannot be sent: {error}", pair[0])))?;
    }
    let [method, scheme, authority, path] = line.as_slice() else {
        return Err(wrong("a request has a method, a scheme, an authority and a path"));
    };
    let request = OutgoingRequest::new(fields);
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let set = request
        .set_method(&method_of(method))
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(path)));
    set.map_err(|()| wrong("a method or an address like this cannot be sent"))?;
    let upload = body.map(|bytes| {
        let body = request.body().expect("it is asked for once");
        Upload {
            stream: body.write().expect("it is asked for once"),
            body,
            bytes: bytes.0,
            written: 0,
            is_flushed: false,
        }
    });
    let stage = match outgoing_handler::handle(request, None) {
        Ok(future) => Stage::Asked(future),
        Err(code) => Stage::Done(Err(code.into())),
    };
    REQUESTS.with_borrow_mut(|requests| {
        requests.last = requests.last.wrapping_add(1);
        let most = most as usize;
        requests.all.insert(requests.last, Request { upload, stage, most });
        Ok(requests.last)
    })
}

/// Waits until one of them has gone on, or for so many milliseconds.
pub(crate) fn wait(milliseconds: f64) {
    REQUESTS.with_borrow_mut(|requests| {
        if requests.advance() {
            return;
        }
        let time = Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or_default();
        let mut waited = vec![monotonic_clock::subscribe_duration(
            u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
        )];
        waited.extend(requests.all.values().flat_map(Request::waited));
        poll(&waited.iter().collect::<Vec<_>>());
        drop(waited);
        requests.advance();
    });
}

/// `{ status, headers, body }` or `{ error, isDenied }` of one that is done. None while it is not.
pub(crate) fn take(ctx: Ctx<'_>, number: u32) -> Result<Option<Object<'_>>> {
    let done = REQUESTS.with_borrow_mut(|requests| {
        let is_done = matches!(requests.all.get(&number)?.stage, Stage::Done(_));
        is_done.then(|| requests.all.remove(&number))?
    });
    let Some(Request {
        stage: Stage::Done(result),
        ..
    }) = done
    else {
        return Ok(None);
    };
    let told = Object::new(ctx.clone())?;
    match result {
        Ok(answer) => {
            let headers: Vec<String> = answer
                .headers
                .into_iter()
                .flat_map(|(name, value)| [name, value.into_iter().map(char::from).collect()])
                .collect();
            told.set("status", answer.status)?;
            told.set("headers", headers)?;
            told.set("body", TypedArray::<u8>::new(ctx, answer.body)?)?;
        }
        Err(failure) => {
            told.set("error", failure.words)?;
            told.set("isDenied", failure.is_denied)?;
        }
    }
    Ok(Some(told))
}

/// Gives one up.
pub(crate) fn cancel(number: u32) {
    REQUESTS.with_borrow_mut(|requests| requests.all.remove(&number));
}

impl Requests {
    /// Whether one of them is done.
    fn advance(&mut self) -> bool {
        let mut is_done = false;
        for request in self.all.values_mut() {
            request.advance();
            is_done |= matches!(request.stage, Stage::Done(_));
        }
        is_done
    }
}

impl Request {
    fn advance(&mut self) {
        self.upload = self.upload.take().and_then(Upload::advance);
        loop {
            let stage = std::mem::replace(&mut self.stage, Stage::Done(Err(Failure::new("it is being looked at"))));
            let (stage, goes_on) = stage.advance(self.most);
            self.stage = stage;
            if !goes_on {
                return;
            }
        }
    }

    /// What it waits for.
    fn waited(&self) -> impl Iterator<Item = Pollable> {
        let upload = self.upload.as_ref().map(|upload| upload.stream.subscribe());
        let answer = match &self.stage {
            Stage::Asked(future) => Some(future.subscribe()),
            Stage::Reading(_, download) => Some(download.stream.subscribe()),
            Stage::Done(_) => None,
        };
        upload.into_iter().chain(answer)
    }
}

impl Upload {
    /// None when it is over, whether well or not: the answer tells.
    fn advance(mut self) -> Option<Self> {
        loop {
            let room = usize::try_from(self.stream.check_write().ok()?).unwrap_or(usize::MAX);
            if room == 0 {
                return Some(self);
            }
            let rest = &self.bytes[self.written..];
            if !rest.is_empty() {
                let part = &rest[..rest.len().min(room)];
                self.stream.write(part).ok()?;
                self.written += part.len();
            } else if !self.is_flushed {
                self.stream.flush().ok()?;
                self.is_flushed = true;
            } else {
                drop(self.stream);
                let _ = OutgoingBody::finish(self.body, None);
                return None;
            }
        }
    }
}

impl Stage {
    /// What it is now, and whether it can be more at once.
    fn advance(self, most: usize) -> (Self, bool) {
        match self {
            Self::Asked(future) => match future.get() {
                None => (Self::Asked(future), false),
                Some(Ok(Ok(response))) => match begin(&response) {
                    Ok((answer, download)) => (Self::Reading(answer, download), true),
                    Err(failure) => (Self::Done(Err(failure)), false),
                },
                Some(Ok(Err(code))) => (Self::Done(Err(code.into())), false),
                Some(Err(())) => (Self::Done(Err(Failure::new("it was answered already"))), false),
            },
            Self::Reading(mut answer, download) => match download.stream.read(CHUNK) {
                Ok(bytes) if bytes.is_empty() => (Self::Reading(answer, download), false),
                Ok(bytes) if answer.body.len() + bytes.len() > most => {
                    let words = format!("the body of the answer is larger than {most} bytes");
                    (Self::Done(Err(Failure::new(words))), false)
                }
                Ok(bytes) => {
                    answer.body.extend(bytes);
                    (Self::Reading(answer, download), true)
                }
                Err(StreamError::Closed) => (Self::Done(Ok(answer)), false),
                Err(StreamError::LastOperationFailed(error)) => {
                    let failure = http_error_code(&error).map_or_else(
                        || Failure::new("the connection ended before the answer did"),
                        Failure::from,
                    );
                    (Self::Done(Err(failure)), false)
                }
            },
            done @ Self::Done(_) => (done, false),
        }
    }
}

fn begin(response: &IncomingResponse) -> std::result::Result<(Answer, Download), Failure> {
    let read = || {
        let body = response.consume().ok()?;
        let stream = body.stream().ok()?;
        Some(Download { stream, _body: body })
    };
    let download = read().ok_or_else(|| Failure::new("its body cannot be read"))?;
    let answer = Answer {
        status: response.status(),
        headers: response.headers().entries(),
        body: Vec::new(),
    };
    Ok((answer, download))
}

fn method_of(name: &str) -> Method {
    match name {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "PUT" => Method::Put,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        "PATCH" => Method::Patch,
        _ => Method::Other(name.to_owned()),
    }
}
