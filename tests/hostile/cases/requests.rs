//! Malformed HTTP requests, foreign hosts and origins, and requests for files.

use anyhow::ensure;
use futures_util::future::join_all;
use tokio::io::AsyncWriteExt;

use crate::case::{Case, CaseResult, OURS};
use crate::server::Server;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new(
            "no-http",
            "sends a TLS hello, garbage, HTTP/2's preface, an endless line",
            "400 or the end of the connection",
            OURS,
            no_http,
        ),
        Case::new(
            "smuggled-requests",
            "sends requests whose length can be read in two ways, each with a second request inside",
            "400 or the end of the connection, and never a second answer",
            "CVE-2022-32213, -32214, -32215 (Node's HTTP parser), RFC 9112, 6.3",
            smuggled_requests,
        ),
        Case::new(
            "odd-hosts",
            "sends no Host, two of them, and one with a space in it",
            "400 or the end of the connection",
            "RFC 9112, 3.2",
            odd_hosts,
        ),
        Case::new(
            "three-thousand-headers",
            "opens a websocket with 3,000 headers",
            "an answer",
            "CVE-2024-37890, GHSA-3h5v-q93c-6h6q (ws)",
            three_thousand_headers,
        ),
        Case::new(
            "header-of-4-mb",
            "opens a websocket with a header of 4 MB",
            "an answer or the end of the connection, early",
            "CVE-2023-43669 (tungstenite)",
            header_of_4_mb,
        ),
        Case::new(
            "resets-at-the-handshake",
            "200 times: opens a websocket and resets the connection before, within and after its handshake",
            "other clients are served",
            "CVE-2022-41940, GHSA-r7qp-cfhv-p84w (engine.io)",
            resets_at_the_handshake,
        ),
        Case::new(
            "foreign-origin",
            "opens a websocket from a page of another site, one of an extension, and one without an origin",
            "403 or 400",
            "CVE-2019-13611, GHSA-j3jp-gvr5-7hwq (python-engineio); CWE-1385",
            foreign_origin,
        ),
        Case::new(
            "foreign-origin-by-polling",
            "opens a session by polling from a page of another site",
            "it is refused, or the page may not read it",
            "CVE-2020-28481, GHSA-fxwf-4rqh-v8g3 (socket.io)",
            foreign_origin_by_polling,
        ),
        Case::new(
            "rebound-host",
            "opens a websocket with Host and Origin both of the attacker, as after DNS rebinding",
            "it is refused, if the server knows its own names",
            "DNS rebinding; CWE-350",
            rebound_host,
        ),
        Case::new(
            "paths-out-of-the-folder",
            "requests /etc/passwd through .. in eleven spellings",
            "never that file",
            "CVE-2021-41773 (Apache), CWE-22",
            paths_out_of_the_folder,
        ),
        Case::new(
            "overlapping-ranges",
            "asks for the whole of a file eight times in one request",
            "416, one range, or no more than the file",
            "CVE-2011-3192 (Apache)",
            overlapping_ranges,
        ),
    ]
}

async fn no_http(server: Server) -> CaseResult {
    let endless = "x".repeat(300_000);
    for bytes in [
        "\u{16}\u{3}\u{1} no HTTP\r\n\r\n",
        "\u{0}\u{0}\u{0}\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        &endless,
    ] {
        let answer = server.exchange(bytes.as_bytes()).await?;
        ensure!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 505"),
            "{bytes:.20?}: {answer:.60}"
        );
    }
    Ok("refused".into())
}

async fn smuggled_requests(server: Server) -> CaseResult {
    let (path, host) = (server.query("polling", ""), &server.host);
    let inner = format!("GET {path}&smuggled HTTP/1.1\r\nHost: {host}\r\n\r\n");
    let length = inner.len();
    let mut refused = 0;
    let headers = [
        format!("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n{inner}"),
        format!("Content-Length: 0\r\nContent-Length: {length}\r\n\r\n{inner}"),
        format!("Content-Length: +0\r\n\r\n{inner}"),
        format!("Content-Length: 0x0\r\n\r\n{inner}"),
        format!("Content-Length : 0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding:\u{b}chunked\r\n\r\n0\r\n\r\n{inner}"),
        format!("Transfer-Encoding: chunked\r\n\r\n0;x\n{inner}"),
        format!("Transfer-Encoding: chunked\r\n\r\n-0\r\n\r\n{inner}"),
        format!("X: y\r\n Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n{inner}"),
    ];
    for header in &headers {
        let answer = server
            .exchange(format!("POST {path} HTTP/1.1\r\nHost: {host}\r\n{header}").as_bytes())
            .await?;
        let shown: String = header.chars().take(40).collect();
        ensure!(!answer.contains("\"sid\""), "{shown:?}: the request inside is answered");
        refused +=
            usize::from(answer.is_empty() || answer.starts_with("HTTP/1.1 4") || answer.starts_with("HTTP/1.1 501"));
    }
    ensure!(refused == headers.len(), "{refused} of {} are refused", headers.len());
    Ok("refused".into())
}

async fn odd_hosts(server: Server) -> CaseResult {
    let (path, host) = (server.query("polling", ""), &server.host);
    let headers = [
        String::new(),
        format!("Host: {host}\r\nHost: evil.example\r\n"),
        "Host: a b\r\n".into(),
    ];
    for header in headers {
        let answer = server
            .exchange(format!("GET {path} HTTP/1.1\r\n{header}\r\n").as_bytes())
            .await?;
        ensure!(
            answer.is_empty() || answer.starts_with("HTTP/1.1 4"),
            "{header:?}: {answer:.40}"
        );
    }
    Ok("refused".into())
}

async fn three_thousand_headers(server: Server) -> CaseResult {
    let headers: String = (0..3_000).map(|n| format!("x{n}: 1\r\n")).collect();
    let opened = server.upgrade("", &headers).await?;
    Ok(format!("answered by {}", opened.status))
}

async fn header_of_4_mb(server: Server) -> CaseResult {
    let header = format!("X: {}\r\n", "x".repeat(4_000_000));
    match server.upgrade("", &header).await {
        Ok(opened) => {
            ensure!(opened.status != 101, "it is taken");
            Ok(format!("answered by {}", opened.status))
        }
        Err(_) => Ok("closed".into()),
    }
}

async fn resets_at_the_handshake(server: Server) -> CaseResult {
    let request = server.handshake(&server.query("websocket", ""), "");
    for number in 0..200 {
        if number % 4 == 3 {
            server.client().await?.reset();
            continue;
        }
        let mut stream = server.dial().await?;
        stream
            .write_all(&request.as_bytes()[..request.len() * (number % 4) / 2])
            .await?;
        stream.set_zero_linger()?;
    }
    server.newcomer().await?;
    Ok("new clients are served".into())
}

async fn foreign_origin(server: Server) -> CaseResult {
    for origin in [
        "http://evil.example",
        "chrome-extension://abcdefghijklmnop",
        "null",
        "file://",
    ] {
        let opened = server.upgrade("", &format!("Origin: {origin}\r\n")).await?;
        opened.must_be(&[400, 403], &format!("a page of {origin}"))?;
    }
    Ok("refused".into())
}

async fn foreign_origin_by_polling(server: Server) -> CaseResult {
    let answer = server
        .http()
        .get(&server.query("polling", ""), &[("origin", "http://evil.example")])
        .await?;
    let allowed = answer
        .headers
        .get("access-control-allow-origin")
        .map(|origin| origin.to_str().unwrap_or_default());
    let may_read = matches!(allowed, Some("*" | "http://evil.example"));
    ensure!(answer.status != 200 || !may_read, "the page may read the session");
    Ok(format!("answered by {}", answer.status))
}

async fn rebound_host(server: Server) -> CaseResult {
    let opened = server
        .upgrade("", "Host: evil.example\r\nOrigin: http://evil.example\r\n")
        .await?;
    ensure!(opened.status != 101, "it is opened");
    Ok(format!("answered by {}", opened.status))
}

async fn paths_out_of_the_folder(server: Server) -> CaseResult {
    let ups = "/..".repeat(12);
    let paths = [
        format!("{ups}/etc/passwd"),
        format!("{}/etc/passwd", ups.replace("..", "%2e%2e")),
        format!("{}/etc/passwd", ups.replace("..", ".%2E")),
        format!("{}/etc/passwd", ups.replace("..", "%252e%252e")),
        format!("{}%2fetc%2fpasswd", ups.replace('/', "%2f")),
        format!("{}\\etc\\passwd", ups.replace('/', "\\")),
        format!("{}%5cetc%5cpasswd", ups.replace('/', "%5c")),
        format!("{}/etc/passwd", ups.replace("..", "....")),
        format!("{}/etc/passwd", ups.replace("..", "%c0%ae%c0%ae")),
        "//etc/passwd".into(),
        format!("/index.html%00{ups}/etc/passwd"),
    ];
    let server = &server;
    // Concurrently: a server without static files may not answer.
    let answers = join_all(paths.iter().map(|path| async move {
        let request = format!(
            "GET {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n",
            server.host
        );
        server.exchange(request.as_bytes()).await
    }));
    for (path, answer) in paths.iter().zip(answers.await) {
        ensure!(!answer?.contains("root:"), "{path} is /etc/passwd");
    }
    Ok("never".into())
}

async fn overlapping_ranges(server: Server) -> CaseResult {
    let file = server.file()?.to_owned();
    let whole = server.http().get(&file, &[]).await?;
    ensure!(whole.status == 200, "{file} is answered by {}", whole.status);
    let ranges = format!("bytes={}", ["0-"; 8].join(","));
    let answer = server.http().get(&file, &[("range", &ranges)]).await?;
    let (size, asked) = (whole.body.len(), answer.body.len());
    ensure!(asked <= size + 4_096, "{asked} bytes come of a file of {size}");
    Ok(format!("answered by {} with {asked} bytes", answer.status))
}
