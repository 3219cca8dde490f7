//! The overlay that `plugnode dev` shows over pages: a script added to each page, and the notice that the script fetches.

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::{Request, Response};
use tokio::io::AsyncReadExt;
use tokio::sync::watch;

use super::response::{PageBody, in_memory};

const SCRIPT_PATH: &str = "/__plugnode/overlay.js";
const NOTICE_PATH: &str = "/__plugnode/overlay.json";
const SCRIPT: &str = include_str!("overlay.js");
const TAG: &str = "<script src=\"/__plugnode/overlay.js\" async></script>";
const END: &[u8] = b"</body>";
/// Largest page in bytes that gets the script.
const MAX_PAGE: u64 = 4 << 20;

/// The notice that pages show, as JSON; `null` if there is none.
#[derive(Debug, Clone)]
pub struct Overlay(pub watch::Receiver<Bytes>);

impl Overlay {
    /// Answers the overlay's own requests.
    pub(super) fn answer<B>(&self, request: &Request<B>) -> Option<Response<PageBody>> {
        let (media_type, body) = match request.uri().path() {
            SCRIPT_PATH => ("text/javascript; charset=utf-8", Bytes::from_static(SCRIPT.as_bytes())),
            NOTICE_PATH => ("application/json", self.0.borrow().clone()),
            _ => return None,
        };
        Some(answer(media_type, body))
    }

    /// Whether a page of this media type and size gets the script.
    pub(super) fn applies_to(media_type: Option<&str>, size: u64) -> bool {
        media_type.is_some_and(|of| of.starts_with("text/html")) && size <= MAX_PAGE
    }

    /// The page with the script added before the end of its body.
    pub(super) async fn add_to(file: tokio::fs::File) -> std::io::Result<Response<PageBody>> {
        let mut page = Vec::new();
        file.take(MAX_PAGE).read_to_end(&mut page).await?;
        let mut ends = page.windows(END.len()).enumerate().rev();
        let end = ends
            .find(|(_, part)| part.eq_ignore_ascii_case(END))
            .map_or(page.len(), |(at, _)| at);
        page.splice(end..end, TAG.bytes());
        Ok(answer("text/html; charset=utf-8", page.into()))
    }
}

fn answer(media_type: &'static str, body: Bytes) -> Response<PageBody> {
    let mut response = Response::new(in_memory(Full::from(body)));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
