//! HTTP requests in flight. The host runs each concurrently; this module polls all of them at once for data to read or room to write,
//! so that none blocks another. The semantics of `fetch` are in `../../src/fetch.js`.

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

/// Bytes per read.
const CHUNK: u64 = 64 << 10;

thread_local! {
    static REQUESTS: RefCell<Requests> = const { RefCell::new(Requests { last_id: 0, all: BTreeMap::new() }) };
}

struct Requests {
    last_id: u32,
    all: BTreeMap<u32, Request>,
}

struct Request {
    upload: Option<Upload>,
    stage: Stage,
    /// Size limit of the response's body, in bytes.
    max_body: usize,
}

/// A request body that is being sent.
struct Upload {
    // Declared in drop order: a stream must be dropped before its body.
    stream: OutputStream,
    body: OutgoingBody,
    bytes: Vec<u8>,
    written: usize,
    is_flushed: bool,
}

/// A response body that is being received.
struct Download {
    // Declared in drop order, as above.
    stream: InputStream,
    _body: IncomingBody,
}

enum Stage {
    Sent(FutureIncomingResponse),
    Receiving(Response, Download),
    Done(std::result::Result<Response, Failure>),
}

struct Response {
    status: u16,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

struct Failure {
    is_denied: bool,
    reason: String,
}

impl Failure {
    fn new(reason: impl Into<String>) -> Self {
        Self {
            is_denied: false,
            reason: reason.into(),
        }
    }
}

impl From<ErrorCode> for Failure {
    fn from(code: ErrorCode) -> Self {
        let reason = match code {
            ErrorCode::HttpRequestDenied => {
                return Self {
                    is_denied: true,
                    reason: "the app's grants do not allow this host".to_owned(),
                };
            }
            ErrorCode::DnsTimeout | ErrorCode::DnsError(_) | ErrorCode::DestinationNotFound => {
                "the host name cannot be resolved"
            }
            ErrorCode::DestinationUnavailable | ErrorCode::DestinationIpUnroutable => "the host cannot be reached",
            ErrorCode::ConnectionRefused => "the connection was refused",
            ErrorCode::ConnectionTerminated | ErrorCode::HttpResponseIncomplete => {
                "the connection ended before the response was complete"
            }
            ErrorCode::ConnectionLimitReached => {
                "this instance has too many HTTP requests open; read their responses first, or raise limits.http-requests"
            }
            ErrorCode::ConnectionTimeout => "connecting timed out",
            ErrorCode::ConnectionReadTimeout | ErrorCode::ConnectionWriteTimeout | ErrorCode::HttpResponseTimeout => {
                "the response timed out"
            }
            ErrorCode::TlsProtocolError | ErrorCode::TlsCertificateError | ErrorCode::TlsAlertReceived(_) => {
                "the TLS handshake failed: certificate or protocol not accepted"
            }
            ErrorCode::HttpRequestUriInvalid => "the URL is not valid",
            ErrorCode::HttpProtocolError => "the response is not valid HTTP, or the connection ended within it",
            ErrorCode::InternalError(Some(reason)) => return Self::new(reason),
            other => return Self::new(other.to_string()),
        };
        Self::new(reason)
    }
}

/// Sends a request and returns its id. `line` is method, scheme, authority and path; `headers` alternates names and values.
pub(crate) fn start(
    ctx: Ctx<'_>,
    line: Vec<String>,
    headers: Vec<String>,
    body: Option<Bytes>,
    max_body: u32,
) -> Result<u32> {
    let invalid = |reason: &str| Exception::throw_type(&ctx, reason);
    let fields = Fields::new();
    for pair in headers.chunks_exact(2) {
        let value: Option<Vec<u8>> = pair[1].chars().map(|c| u8::try_from(u32::from(c)).ok()).collect();
        let value = value.ok_or_else(|| invalid(&format!("the header {} has characters beyond U+00FF", pair[0])))?;
        fields
            .append(&pair[0], &value)
            .map_err(|error| invalid(&format!("the header {} cannot be sent: {error}", pair[0])))?;
    }
    let [method, scheme, authority, path] = line.as_slice() else {
        return Err(invalid("a request needs a method, a scheme, an authority and a path"));
    };
    let request = OutgoingRequest::new(fields);
    let scheme = if scheme == "https" { Scheme::Https } else { Scheme::Http };
    let set = request
        .set_method(&method_of(method))
        .and_then(|()| request.set_scheme(Some(&scheme)))
        .and_then(|()| request.set_authority(Some(authority)))
        .and_then(|()| request.set_path_with_query(Some(path)));
    set.map_err(|()| invalid("the method or URL is not valid"))?;
    let upload = body.map(|bytes| {
        let body = request.body().expect("requested only once");
        Upload {
            stream: body.write().expect("requested only once"),
            body,
            bytes: bytes.0,
            written: 0,
            is_flushed: false,
        }
    });
    let stage = match outgoing_handler::handle(request, None) {
        Ok(future) => Stage::Sent(future),
        Err(code) => Stage::Done(Err(code.into())),
    };
    REQUESTS.with_borrow_mut(|requests| {
        requests.last_id = requests.last_id.wrapping_add(1);
        let max_body = max_body as usize;
        requests.all.insert(
            requests.last_id,
            Request {
                upload,
                stage,
                max_body,
            },
        );
        Ok(requests.last_id)
    })
}

/// Waits until a request has made progress, at max_body this many milliseconds.
pub(crate) fn wait(milliseconds: f64) {
    REQUESTS.with_borrow_mut(|requests| {
        if requests.advance() {
            return;
        }
        let time = Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or_default();
        let mut waited = vec![monotonic_clock::subscribe_duration(
            u64::try_from(time.as_nanos()).unwrap_or(u64::MAX),
        )];
        waited.extend(requests.all.values().flat_map(Request::pollables));
        poll(&waited.iter().collect::<Vec<_>>());
        drop(waited);
        requests.advance();
    });
}

/// The result of a finished request, which is then removed: `{ status, headers, body }` or `{ error, isDenied }`. None if it is not
/// finished.
pub(crate) fn take(ctx: Ctx<'_>, id: u32) -> Result<Option<Object<'_>>> {
    let done = REQUESTS.with_borrow_mut(|requests| {
        let is_done = matches!(requests.all.get(&id)?.stage, Stage::Done(_));
        is_done.then(|| requests.all.remove(&id))?
    });
    let Some(Request {
        stage: Stage::Done(result),
        ..
    }) = done
    else {
        return Ok(None);
    };
    let object = Object::new(ctx.clone())?;
    match result {
        Ok(response) => {
            let headers: Vec<String> = response
                .headers
                .into_iter()
                .flat_map(|(name, value)| [name, value.into_iter().map(char::from).collect()])
                .collect();
            object.set("status", response.status)?;
            object.set("headers", headers)?;
            object.set("body", TypedArray::<u8>::new(ctx, response.body)?)?;
        }
        Err(failure) => {
            object.set("error", failure.reason)?;
            object.set("isDenied", failure.is_denied)?;
        }
    }
    Ok(Some(object))
}

/// Cancels a request.
pub(crate) fn cancel(id: u32) {
    REQUESTS.with_borrow_mut(|requests| requests.all.remove(&id));
}

impl Requests {
    /// Advances all requests. Returns whether any of them is done.
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
            let stage = std::mem::replace(
                &mut self.stage,
                Stage::Done(Err(Failure::new("the request is being advanced"))),
            );
            let (stage, goes_on) = stage.advance(self.max_body);
            self.stage = stage;
            if !goes_on {
                return;
            }
        }
    }

    /// The events that the request waits for.
    fn pollables(&self) -> impl Iterator<Item = Pollable> {
        let upload = self.upload.as_ref().map(|upload| upload.stream.subscribe());
        let response = match &self.stage {
            Stage::Sent(future) => Some(future.subscribe()),
            Stage::Receiving(_, download) => Some(download.stream.subscribe()),
            Stage::Done(_) => None,
        };
        upload.into_iter().chain(response)
    }
}

impl Upload {
    /// Sends more of the body. None when the upload has ended or failed; the response shows which.
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
    /// The next stage, and whether it can advance again at once.
    fn advance(self, max_body: usize) -> (Self, bool) {
        match self {
            Self::Sent(future) => match future.get() {
                None => (Self::Sent(future), false),
                Some(Ok(Ok(response))) => match receive(&response) {
                    Ok((response, download)) => (Self::Receiving(response, download), true),
                    Err(failure) => (Self::Done(Err(failure)), false),
                },
                Some(Ok(Err(code))) => (Self::Done(Err(code.into())), false),
                Some(Err(())) => (Self::Done(Err(Failure::new("the response was already taken"))), false),
            },
            Self::Receiving(mut response, download) => match download.stream.read(CHUNK) {
                Ok(bytes) if bytes.is_empty() => (Self::Receiving(response, download), false),
                Ok(bytes) if response.body.len() + bytes.len() > max_body => {
                    let reason = format!("the body of the response is larger than {max_body} bytes");
                    (Self::Done(Err(Failure::new(reason))), false)
                }
                Ok(bytes) => {
                    response.body.extend(bytes);
                    (Self::Receiving(response, download), true)
                }
                Err(StreamError::Closed) => (Self::Done(Ok(response)), false),
                Err(StreamError::LastOperationFailed(error)) => {
                    let failure = http_error_code(&error).map_or_else(
                        || Failure::new("the connection ended before the response was complete"),
                        Failure::from,
                    );
                    (Self::Done(Err(failure)), false)
                }
            },
            done @ Self::Done(_) => (done, false),
        }
    }
}

fn receive(response: &IncomingResponse) -> std::result::Result<(Response, Download), Failure> {
    let read = || {
        let body = response.consume().ok()?;
        let stream = body.stream().ok()?;
        Some(Download { stream, _body: body })
    };
    let download = read().ok_or_else(|| Failure::new("the body of the response cannot be read"))?;
    let response = Response {
        status: response.status(),
        headers: response.headers().entries(),
        body: Vec::new(),
    };
    Ok((response, download))
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
