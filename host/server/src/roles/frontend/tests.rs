//! The frontend as a browser sees it, over real sockets.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::*;
use crate::http::{self, HttpSettings};
use plugnode_process::shutdown::Shutdown;

const SOON: Duration = Duration::from_secs(10);

struct Site {
    address: SocketAddr,
    running: watch::Sender<Vec<IoServerUrl>>,
    _folder: tempfile::TempDir,
}

struct Answer {
    status: u16,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines
            .find(|(of, _)| of.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }
}

impl Site {
    async fn start() -> Self {
        Self::with(config::Frontend::default()).await
    }

    async fn with(mut settings: config::Frontend) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let outside = folder.path().join("secret.txt");
        std::fs::write(&outside, "secret").unwrap();
        let public = folder.path().join("public");
        std::fs::create_dir_all(public.join("sub dir/inner")).unwrap();
        std::fs::write(public.join("index.html"), "<h1>home</h1>").unwrap();
        std::fs::write(public.join("sub dir/index.html"), "sub").unwrap();
        std::fs::write(public.join("app.js"), "0123456789").unwrap();
        std::fs::write(public.join("app.wasm"), "wasm").unwrap();
        std::fs::write(public.join(".env"), "secret").unwrap();
        std::os::unix::fs::symlink(&outside, public.join("link.txt")).unwrap();
        std::os::unix::fs::symlink(folder.path(), public.join("up")).unwrap();
        std::os::unix::fs::symlink("app.js", public.join("same.js")).unwrap();
        settings.static_dir = public;

        let (running, heard) = watch::channel(Vec::new());
        let listener = http::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let frontend = Frontend::new(&settings, heard);
        tokio::spawn(async move {
            http::serve(listener, frontend, &HttpSettings::default(), Shutdown::new()).await;
        });
        Self {
            address,
            running,
            _folder: folder,
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask("GET", path, "").await
    }

    async fn ask(&self, method: &str, path: &str, headers: &str) -> Answer {
        let host = if headers.contains("host:") {
            ""
        } else {
            "host: site.example:8080\r\n"
        };
        self.send(&format!(
            "{method} {path} HTTP/1.1\r\n{host}connection: close\r\n{headers}\r\n"
        ))
        .await
    }

    async fn send(&self, request: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(SOON, stream.read_to_end(&mut answer)).await.unwrap().unwrap();
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        Answer {
            status: head[9..12].parse().unwrap(),
            head: head.into(),
            body: body.into(),
        }
    }
}

#[tokio::test]
async fn serves_pages_with_their_types() {
    let site = Site::start().await;
    let home = site.get("/").await;
    assert_eq!((home.status, home.body.as_str()), (200, "<h1>home</h1>"));
    assert_eq!(home.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(home.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(home.header("cache-control"), Some("no-cache"));
    assert_eq!(
        site.get("/app.js?v=1").await.header("content-type"),
        Some("text/javascript; charset=utf-8")
    );
    assert_eq!(
        site.get("/app.wasm").await.header("content-type"),
        Some("application/wasm")
    );
    assert_eq!(site.get("/same.js").await.body, "0123456789");
    assert_eq!(site.get("/sub%20dir/").await.body, "sub");

    let head = site.ask("HEAD", "/app.js", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(head.header("content-length"), Some("10"));
    assert_eq!(head.header("content-type"), Some("text/javascript; charset=utf-8"));
}

#[tokio::test]
async fn redirects_folder_to_trailing_slash() {
    let site = Site::start().await;
    let redirect = site.get("/sub%20dir?q=1").await;
    assert_eq!(
        (redirect.status, redirect.header("location")),
        (301, Some("./sub%20dir/?q=1"))
    );
    assert_eq!(site.get("/sub%20dir/inner").await.header("location"), Some("./inner/"));
    assert_eq!(site.get("/sub%20dir/inner/").await.status, 404);
}

#[tokio::test]
async fn serves_ranges() {
    let site = Site::start().await;
    let part = site.ask("GET", "/app.js", "range: bytes=2-4\r\n").await;
    assert_eq!((part.status, part.body.as_str()), (206, "234"));
    assert_eq!(part.header("content-range"), Some("bytes 2-4/10"));
    assert_eq!(part.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert_eq!(site.ask("GET", "/app.js", "range: bytes=-3\r\n").await.body, "789");
    assert_eq!(site.ask("GET", "/app.js", "range: bytes=20-\r\n").await.status, 416);
    let two = site.ask("GET", "/app.js", "range: bytes=0-0,9-9\r\n").await;
    assert_eq!(two.status, 206);
    assert!(two.header("content-type").unwrap().starts_with("multipart/byteranges"));
    let many = format!("range: bytes=0-9{}\r\n", ",0-9".repeat(100));
    let many = site.ask("GET", "/app.js", &many).await;
    assert_eq!((many.status, many.body.len()), (200, 10));
    // What overlaps, or is more than the file, is not sent in parts.
    for ranges in ["0-5,5-9", "0-9,0-9", "0-,0-", "-10,-10,-10", "3-4,0-9", "0-1,9-9,1-2"] {
        let whole = site.ask("GET", "/app.js", &format!("range: bytes={ranges}\r\n")).await;
        assert_eq!((whole.status, &*whole.body), (200, "0123456789"), "{ranges}");
    }
    for ranges in ["0-4,5-9", "5-9,0-4", "0-0,2-2,-1"] {
        let parts = site.ask("GET", "/app.js", &format!("range: bytes={ranges}\r\n")).await;
        assert_eq!(parts.status, 206, "{ranges}");
    }
}

#[tokio::test]
async fn unchanged_page_is_not_sent_again() {
    let site = Site::start().await;
    let first = site.get("/app.js").await;
    let (etag, modified) = (first.header("etag").unwrap(), first.header("last-modified").unwrap());
    let same = site
        .ask("GET", "/app.js", &format!("if-none-match: \"x\", {etag}\r\n"))
        .await;
    assert_eq!(
        (same.status, same.body.as_str(), same.header("etag")),
        (304, "", Some(etag))
    );
    assert_eq!(
        site.ask("GET", "/app.js", &format!("if-modified-since: {modified}\r\n"))
            .await
            .status,
        304
    );
    let other = format!("if-none-match: \"x\"\r\nif-modified-since: {modified}\r\n");
    assert_eq!(site.ask("GET", "/app.js", &other).await.status, 200);
}

#[tokio::test]
async fn serves_nothing_outside_the_folder() {
    let site = Site::start().await;
    for path in [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/sub%20dir/../../secret.txt",
        "/sub%20dir/%2e%2e/%2e%2e/secret.txt",
        "/..%5csecret.txt",
        "//etc/passwd",
        "/%2fetc%2fpasswd",
        "/link.txt",
        "/up/secret.txt",
        "/up/public/app.js/",
        "/.env",
        "/%2eenv",
        "/app.js%00.html",
        "/app.js/x",
        "/app.js/",
        "/no%0d%0asuch",
        "/%ff%fe",
    ] {
        let answer = site.get(path).await;
        assert_eq!((answer.status, answer.body.as_str()), (404, "not found\n"), "{path}");
    }
    let long = format!("/{}", "x".repeat(5000));
    assert_eq!(site.get(&long).await.status, 404);
}

#[tokio::test]
async fn allows_only_get_and_head() {
    let site = Site::start().await;
    for (method, path) in [
        ("POST", "/"),
        ("DELETE", "/app.js"),
        ("PUT", "/config.js"),
        ("OPTIONS", "/none"),
    ] {
        let answer = site.ask(method, path, "").await;
        assert_eq!(
            (answer.status, answer.header("allow")),
            (405, Some("GET, HEAD")),
            "{method}"
        );
    }
}

#[tokio::test]
async fn io_list_rotates_and_follows_running_nodes() {
    let servers = vec![IoServerUrl::at("a", 1), IoServerUrl::at("b", 2)];
    let site = Site::with(config::Frontend {
        io_servers: servers,
        ..config::Frontend::default()
    })
    .await;
    let first = site.get("/config.js").await;
    assert_eq!(
        first.body,
        "var SOCKET_SERVERS = [{\"host\":\"a\",\"port\":1},{\"host\":\"b\",\"port\":2}];\n"
    );
    assert_eq!(first.header("cache-control"), Some("no-store"));
    assert_eq!(first.header("content-type"), Some("text/javascript; charset=utf-8"));
    assert!(
        site.get("/config.js?1")
            .await
            .body
            .starts_with("var SOCKET_SERVERS = [{\"host\":\"b\"")
    );

    let here = IoServerUrl::at(String::new(), 3);
    site.running
        .send_replace(vec![IoServerUrl::at("b", 2), here, IoServerUrl::at("::1", 4)]);
    let json = site.get("/config.json").await;
    assert_eq!(json.header("content-type"), Some("application/json"));
    let list: Vec<IoServerUrl> = serde_json::from_str(&json.body).unwrap();
    let mut list: Vec<_> = list
        .iter()
        .map(|server| format!("{} {}", server.host, server.port))
        .collect();
    list.sort();
    assert_eq!(list, ["[::1] 4", "a 1", "b 2", "site.example 3"]);
}

#[tokio::test]
async fn io_node_without_host_gets_requested_host() {
    let site = Site::with(config::Frontend {
        client_config_url: "/io".into(),
        ..config::Frontend::default()
    })
    .await;
    assert_eq!(site.get("/io.json").await.body, "[]");
    site.running.send_replace(vec![IoServerUrl::at(String::new(), 3)]);
    for (headers, host) in [
        ("host: 10.0.0.7:8080\r\n", "10.0.0.7"),
        ("host: [::1]:8080\r\n", "[::1]"),
        ("host: example\r\n", "example"),
        ("host: \"</script>\r\n", "localhost"),
    ] {
        let answer = site.ask("GET", "/io", headers).await;
        assert_eq!(
            answer.body,
            format!("var SOCKET_SERVERS = [{{\"host\":\"{host}\",\"port\":3}}];\n")
        );
    }
    assert_eq!(
        site.send("GET /io.json HTTP/1.0\r\n\r\n").await.body,
        "[{\"host\":\"localhost\",\"port\":3}]"
    );
}

#[tokio::test]
async fn missing_folder_and_absent_frontend_answer_404() {
    let settings = config::Frontend {
        static_dir: "no such folder".into(),
        ..config::Frontend::default()
    };
    let (_running, heard) = watch::channel(Vec::new());
    for frontend in [Frontend::new(&settings, heard), Frontend::absent()] {
        let request = Request::get("/").body(Full::<Bytes>::default()).unwrap();
        assert_eq!(frontend.call(request).await.unwrap().status(), StatusCode::NOT_FOUND);
    }
}

#[tokio::test]
async fn answers_only_flash_policy_requests() {
    let listener = http::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = Shutdown::new();
    shutdown.spawn(serve_flash_policy(listener, shutdown.clone()));
    let ask = async |question: &[u8]| {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(question).await.unwrap();
        let mut answer = Vec::new();
        let _ = timeout(SOON, stream.read_to_end(&mut answer))
            .await
            .expect("the connection should end");
        String::from_utf8(answer).unwrap()
    };
    let policy = ask(b"<policy-file-request/>\0").await;
    assert!(
        policy.contains("<allow-access-from domain=\"*\" to-ports=\"*\"/>"),
        "{policy}"
    );
    assert!(policy.ends_with("</cross-domain-policy>\n\0"));
    assert_eq!(ask(b"GET / HTTP/1.1\r\nhost: site.example\r\n\r\n").await, "");

    let _silent = TcpStream::connect(address).await.unwrap();
    shutdown.begin();
    assert!(shutdown.drained(SOON).await);
}
