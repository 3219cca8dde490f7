//! Answers a request with its own body: for a host of HTTP handlers, the work that `echo` of `examples/benchmark` is for us.
//!
//! The first piece of the body, which is mostly all of it, is written before the response is handed over, so that head and
//! body leave the host as one.

use std::io::Write;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam};

/// What is read at once.
const PIECE: u64 = 64 << 10;
const LENGTH: &str = "content-length";

struct Echo;

wasip2::http::proxy::export!(Echo);

impl Guest for Echo {
    fn handle(request: IncomingRequest, out: ResponseOutparam) {
        // An answer is as long as what is answered; without the length of it, it would come in chunks.
        let length = request.headers().get(LENGTH);
        let headers: Vec<_> = length.into_iter().map(|length| (LENGTH.to_owned(), length)).collect();
        let headers = Fields::from_list(&headers).expect("a handler may say the length");
        let asked = request.consume().expect("it is taken once");
        let input = asked.stream().expect("it is read once");
        let response = OutgoingResponse::new(headers);
        let answer = response.body().expect("it is taken once");
        let mut output = answer.write().expect("it is written once");
        let first = input.blocking_read(PIECE).unwrap_or_default();
        let room = output.check_write().map_or(0, |room| room as usize);
        let (now, later) = first.split_at(first.len().min(room));
        let _ = output.write(now);
        ResponseOutparam::set(out, Ok(response));
        // Who asked may be gone by now, and then nobody misses the rest.
        if output.write_all(later).is_ok() {
            while output.blocking_splice(&input, PIECE).is_ok() {}
        }
        drop(output);
        let _ = OutgoingBody::finish(answer, None);
    }
}
