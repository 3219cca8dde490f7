//! Serves the folder of pages, and nothing outside it: neither by `..` in any encoding nor by a symbolic link. Names that begin
//! with a dot are not served, except `.well-known`.

use std::io;
use std::path::{Component, Path, PathBuf};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryFutureExt};
use http_body_util::{BodyExt, Empty};
use http_range::HttpRange;
use hyper::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, HeaderMap, HeaderValue, IF_NONE_MATCH, LOCATION, RANGE};
use hyper::{Request, Response, StatusCode};
use hyper_staticfile::util::FileResponseBuilder;
use hyper_staticfile::vfs::{FileOpener, FileWithMetadata};
use hyper_staticfile::{AcceptEncoding, ResolveResult, ResolvedFile, Resolver};
use tokio::fs::File;

use super::overlay::Overlay;
use super::response::{PageBody, plain_text};

/// Number of ranges in one request. With more, the response could be much larger than the file, so the whole file is sent.
const MAX_RANGES: usize = 8;

/// Serves the files of a folder.
pub(super) struct Pages {
    files: Resolver<Folder>,
    has_overlay: bool,
}

impl Pages {
    pub(super) fn new(folder: PathBuf, has_overlay: bool) -> Self {
        Self {
            files: Resolver::with_opener(Folder(folder)),
            has_overlay,
        }
    }

    pub(super) async fn answer<B>(&self, request: &Request<B>) -> Response<PageBody> {
        let not_found = || plain_text(StatusCode::NOT_FOUND, "not found");
        match self
            .files
            .resolve_path(request.uri().path(), AcceptEncoding::none())
            .await
        {
            Ok(ResolveResult::Found(file))
                if self.has_overlay && Overlay::applies_to(file.content_type.as_deref(), file.size) =>
            {
                let page = Overlay::add_to(file.handle).await;
                page.unwrap_or_else(|_| not_found())
            }
            Ok(ResolveResult::Found(file)) => file_response(request, file).unwrap_or_else(not_found),
            Ok(ResolveResult::IsDirectory { .. }) => redirect_to_folder(request).unwrap_or_else(not_found),
            Ok(ResolveResult::NotFound | ResolveResult::PermissionDenied | ResolveResult::MethodNotMatched) => {
                not_found()
            }
            Err(error) if is_invalid_name(&error) => not_found(),
            Err(error) => {
                tracing::warn!(path = request.uri().path(), %error, "cannot read a page");
                plain_text(StatusCode::INTERNAL_SERVER_ERROR, "cannot read this page at the moment")
            }
        }
    }
}

/// The file, the requested ranges of it, or 304 if it has not changed. None if no response can be built.
fn file_response<B>(request: &Request<B>, file: ResolvedFile) -> Option<Response<PageBody>> {
    let headers = request.headers();
    let mut builder = FileResponseBuilder::new();
    builder.request(request);
    if headers.contains_key(IF_NONE_MATCH) {
        // Entity tags are finer than times, which are compared by the second.
        builder.if_modified_since = None;
    }
    if headers.get(RANGE).is_some_and(|range| is_excessive(range, file.size)) {
        builder.range = None;
    }
    let media_type = file.content_type.as_deref().map(with_charset);
    let mut response = builder.build(file).ok()?.map(BodyExt::boxed_unsync);
    if let Some(etag) = response.headers().get(ETAG).filter(|etag| matches(headers, etag)) {
        let etag = etag.clone();
        response = Response::new(Empty::new().map_err(|never| match never {}).boxed_unsync());
        *response.status_mut() = StatusCode::NOT_MODIFIED;
        response.headers_mut().insert(ETAG, etag);
    }
    let has_content = matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT);
    let is_multipart = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|of| of.as_bytes().starts_with(b"multipart/"));
    if has_content
        && !is_multipart
        && let Some(media_type) = media_type.and_then(|of| HeaderValue::try_from(of).ok())
    {
        response.headers_mut().insert(CONTENT_TYPE, media_type);
    }
    // Clients may cache pages but must revalidate, so that changes are seen at once.
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Some(response)
}

/// Whether there are too many ranges, or they overlap. Then the whole file is sent, as RFC 9110 (14.2) allows. Ranges that do not
/// overlap are not larger than the file.
fn is_excessive(range: &HeaderValue, size: u64) -> bool {
    let Ok(mut ranges) = HttpRange::parse_bytes(range.as_bytes(), size) else {
        return false;
    };
    ranges.sort_by_key(|range| range.start);
    let overlaps = ranges
        .windows(2)
        .any(|pair| pair[0].start.saturating_add(pair[0].length) > pair[1].start);
    ranges.len() > MAX_RANGES || overlaps
}

/// Whether the client has the version with this entity tag.
fn matches(headers: &HeaderMap, etag: &HeaderValue) -> bool {
    let Ok(etag) = etag.to_str() else { return false };
    let strong = |tag: &str| tag.trim().trim_start_matches("W/").to_owned();
    let texts = headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok());
    texts
        .flat_map(|text| text.split(','))
        .any(|tag| tag.trim() == "*" || strong(tag) == strong(etag))
}

fn with_charset(media_type: &str) -> String {
    match media_type.starts_with("text/") && !media_type.contains("charset") {
        true => format!("{media_type}; charset=utf-8"),
        false => media_type.to_owned(),
    }
}

/// Redirects to the folder's URL, with a slash at its end. It is relative, so that it cannot leave this server.
fn redirect_to_folder<B>(request: &Request<B>) -> Option<Response<PageBody>> {
    let name = request.uri().path().rsplit('/').next()?;
    let query = request
        .uri()
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let location = HeaderValue::try_from(format!("./{name}/{query}")).ok()?;
    let mut response = plain_text(StatusCode::MOVED_PERMANENTLY, "moved to the folder");
    response.headers_mut().insert(LOCATION, location);
    Some(response)
}

/// Whether an error means that no file can have that name.
fn is_invalid_name(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory};
    matches!(error.kind(), InvalidFilename | InvalidInput | NotADirectory)
}

/// Opens files that are inside the folder after links are resolved.
struct Folder(PathBuf);

impl FileOpener for Folder {
    type File = File;
    type Future = BoxFuture<'static, io::Result<FileWithMetadata<File>>>;

    fn open(&self, path: &Path) -> Self::Future {
        let (folder, path) = (self.0.clone(), path.to_owned());
        let opened = tokio::task::spawn_blocking(move || open_within(&folder, &path));
        opened.map_err(io::Error::other).map(|opened| opened?).boxed()
    }
}

fn open_within(folder: &Path, path: &Path) -> io::Result<FileWithMetadata<File>> {
    let hidden = |part: Component<'_>| {
        let name = part.as_os_str().as_encoded_bytes();
        name.starts_with(b".") && name != b".well-known"
    };
    if path.components().any(hidden) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let folder = folder.canonicalize()?;
    let path = folder.join(path).canonicalize()?;
    let metadata = path.metadata()?;
    // Opening a pipe would wait for its writer.
    if !path.starts_with(&folder) || !(metadata.is_file() || metadata.is_dir()) {
        return Err(io::ErrorKind::NotFound.into());
    }
    let file = std::fs::File::open(&path)?;
    Ok(FileWithMetadata {
        handle: File::from_std(file),
        size: metadata.len(),
        modified: metadata.modified().ok(),
        is_dir: metadata.is_dir(),
    })
}
