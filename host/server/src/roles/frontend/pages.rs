//! The folder of pages. Nothing outside of it is served: not by `..` in any spelling, and not by a symbolic link.
//! Names that begin with a dot are not served either, but for `.well-known`.

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
use super::{PageBody, words};

/// More ranges than this in one request are a way to make much of little, and the whole file is sent.
const MOST_RANGES: usize = 8;

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
        let not_found = || words(StatusCode::NOT_FOUND, "not found");
        match self
            .files
            .resolve_path(request.uri().path(), AcceptEncoding::none())
            .await
        {
            Ok(ResolveResult::Found(file))
                if self.has_overlay && Overlay::is_for(file.content_type.as_deref(), file.size) =>
            {
                let page = Overlay::page(file.handle).await;
                page.unwrap_or_else(|_| not_found())
            }
            Ok(ResolveResult::Found(file)) => file_response(request, file).unwrap_or_else(not_found),
            Ok(ResolveResult::IsDirectory { .. }) => redirect_into(request).unwrap_or_else(not_found),
            Ok(ResolveResult::NotFound | ResolveResult::PermissionDenied | ResolveResult::MethodNotMatched) => {
                not_found()
            }
            Err(error) if is_of_the_name(&error) => not_found(),
            Err(error) => {
                tracing::warn!(path = request.uri().path(), %error, "cannot read a page");
                words(
                    StatusCode::INTERNAL_SERVER_ERROR,
                    "this page cannot be read at the moment",
                )
            }
        }
    }
}

/// The file or the asked part of it, or that it has not changed. None if it makes no response, which no file does.
fn file_response<B>(request: &Request<B>, file: ResolvedFile) -> Option<Response<PageBody>> {
    let headers = request.headers();
    let mut builder = FileResponseBuilder::new();
    builder.request(request);
    if headers.contains_key(IF_NONE_MATCH) {
        // The finer question wins: times are compared by the second.
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
    let several = response
        .headers()
        .get(CONTENT_TYPE)
        .is_some_and(|of| of.as_bytes().starts_with(b"multipart/"));
    if has_content
        && !several
        && let Some(media_type) = media_type.and_then(|of| HeaderValue::try_from(of).ok())
    {
        response.headers_mut().insert(CONTENT_TYPE, media_type);
    }
    // Kept, and asked about each time: a page that was changed is seen at once.
    response
        .headers_mut()
        .insert(CACHE_CONTROL, HeaderValue::from_static("no-cache"));
    Some(response)
}

/// Whether ranges are so many, or overlap, that much would be made of little: the whole file is sent then, as RFC 9110 (14.2)
/// leaves to servers. Those that do not overlap are no more than the file.
fn is_excessive(range: &HeaderValue, size: u64) -> bool {
    let Ok(mut ranges) = HttpRange::parse_bytes(range.as_bytes(), size) else {
        return false;
    };
    ranges.sort_by_key(|range| range.start);
    let overlaps = ranges
        .windows(2)
        .any(|pair| pair[0].start.saturating_add(pair[0].length) > pair[1].start);
    ranges.len() > MOST_RANGES || overlaps
}

/// Whether what a client has is what there is.
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

/// To the folder's own URL. Relative, so that it leads nowhere but into that folder.
fn redirect_into<B>(request: &Request<B>) -> Option<Response<PageBody>> {
    let name = request.uri().path().rsplit('/').next()?;
    let query = request
        .uri()
        .query()
        .map(|query| format!("?{query}"))
        .unwrap_or_default();
    let location = HeaderValue::try_from(format!("./{name}/{query}")).ok()?;
    let mut response = words(StatusCode::MOVED_PERMANENTLY, "it is a folder");
    response.headers_mut().insert(LOCATION, location);
    Some(response)
}

/// Whether a file could not be opened because no file can have that name.
fn is_of_the_name(error: &io::Error) -> bool {
    use io::ErrorKind::{InvalidFilename, InvalidInput, NotADirectory};
    matches!(error.kind(), InvalidFilename | InvalidInput | NotADirectory)
}

/// Opens what is really in the folder.
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
    // To open a pipe would wait for its writer.
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
