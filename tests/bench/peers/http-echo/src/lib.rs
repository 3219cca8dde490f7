//! Echoes the body of an HTTP request: the counterpart of `echo` in `examples/benchmark`.
//!
//! The first chunk of the body, usually all of it, is written before the response is handed over, so that the host sends head
//! and body together.

use std::io::Write;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

/// Bytes per read.
const CHUNK: u64 = 64 << 10;
const LENGTH: &str = "content-length";

struct Echo;

wasip2::http::proxy::export!(Echo);

impl Guest for Echo {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        // Without a length the response would use chunked encoding.
        let length = request.headers().get(LENGTH);
        let headers: Vec<_> = length.into_iter().map(|length| (LENGTH.to_owned(), length)).collect();
        let headers = Fields::from_list(&headers).expect("content-length is allowed");
        let body = request.consume().expect("the body is taken once");
        let input = body.stream().expect("the stream is taken once");
        let response = OutgoingResponse::new(headers);
        let response_body = response.body().expect("the body is taken once");
        let mut output = response_body.write().expect("the stream is taken once");
        let first = input.blocking_read(CHUNK).unwrap_or_default();
        let room = output.check_write().map_or(0, |room| room as usize);
        let (now, later) = first.split_at(first.len().min(room));
        let _ = output.write(now);
        ResponseOutparam::set(out, Ok(response));
        // An error means that the client is gone.
        if output.write_all(later).is_ok() {
            while output.blocking_splice(&input, CHUNK).is_ok() {}
        }
        drop(output);
        let _ = OutgoingBody::finish(response_body, None);
    }
}
