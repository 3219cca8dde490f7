//! Tokens with real signatures: which are valid, and that a refusal does not tell the reason.

use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm as Signed, EncodingKey, Header, encode};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::json;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

use super::*;
use plugnode_message::{Handshake, now_ms};

const SECRET: &str = "for tests alone: 0123456789abcdef";
// Keys that are used in these tests only.
const RSA: &[u8] = include_bytes!("testing/rsa.key");
const RSA_PUBLIC: &str = include_str!("testing/rsa.pem");
const OTHER_RSA: &[u8] = include_bytes!("testing/other-rsa.key");
const EC: &[u8] = include_bytes!("testing/ec.key");
const EC_PUBLIC: &str = include_str!("testing/ec.pem");
const OTHER_EC: &[u8] = include_bytes!("testing/other-ec.key");
const SERVER: &[u8] = include_bytes!("testing/server.pem");
const SERVER_KEY: &[u8] = include_bytes!("testing/server.key");
const CA: &str = include_str!("testing/ca.pem");

const SOON: Duration = Duration::from_secs(20);

/// Settings with these keys, at most one of each kind.
fn settings(keys: Vec<KeySource>) -> TokenSettings {
    let mut settings = TokenSettings {
        jwks_refresh: SOON,
        jwks_pause: Duration::ZERO,
        jwks_timeout: SOON,
        ..TokenSettings::default()
    };
    for key in keys {
        match key {
            KeySource::Secret(secret) => settings.secret = Some(secret),
            KeySource::SecretFile(file) => settings.secret_file = Some(file),
            KeySource::PublicKey(file) => settings.public_key = Some(file),
            KeySource::Jwks(place) => settings.jwks = Some(place),
        }
    }
    settings
}

/// Tokens by any keys.
async fn tokens_by(keys: Vec<KeySource>) -> Arc<Tokens> {
    let settings = settings(Vec::new());
    Tokens::start_with(&keys, settings, &Shutdown::new()).await.unwrap()
}

async fn tokens(settings: TokenSettings) -> Arc<Tokens> {
    Tokens::start(settings, &Shutdown::new()).await.unwrap()
}

/// A file that is removed when this is dropped.
fn file(text: &str) -> tempfile::NamedTempFile {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), text).unwrap();
    file
}

fn in_seconds(seconds: i64) -> i64 {
    (now_ms() / 1_000) as i64 + seconds
}

fn claims() -> Value {
    json!({ "sub": "ann", "exp": in_seconds(60), "role": "admin" })
}

fn hs256(claims: &Value, secret: &[u8]) -> String {
    encode(&Header::new(Signed::HS256), claims, &EncodingKey::from_secret(secret)).unwrap()
}

fn rs256(claims: &Value, key: &[u8], kid: Option<&str>) -> String {
    signed(Signed::RS256, claims, &EncodingKey::from_rsa_pem(key).unwrap(), kid)
}

fn es256(claims: &Value, key: &[u8], kid: Option<&str>) -> String {
    signed(Signed::ES256, claims, &EncodingKey::from_ec_pem(key).unwrap(), kid)
}

fn signed(algorithm: Signed, claims: &Value, key: &EncodingKey, kid: Option<&str>) -> String {
    let mut header = Header::new(algorithm);
    header.kid = kid.map(String::from);
    encode(&header, claims, key).unwrap()
}

/// A token with any header.
fn made_by_hand(header: &Value, claims: &Value, signature: &[u8]) -> String {
    let part = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let text = |value: &Value| part(value.to_string().as_bytes());
    format!("{}.{}.{}", text(header), text(claims), part(signature))
}

fn set(keys: &[(&[u8], Signed, &str)]) -> String {
    let keys: Vec<Jwk> = keys
        .iter()
        .map(|(pem, algorithm, kid)| {
            let key = match algorithm {
                Signed::RS256 => EncodingKey::from_rsa_pem(pem).unwrap(),
                _ => EncodingKey::from_ec_pem(pem).unwrap(),
            };
            let mut jwk = Jwk::from_encoding_key(&key, *algorithm).unwrap();
            jwk.common.key_id = Some((*kid).into());
            jwk.common.public_key_use = Some(PublicKeyUse::Signature);
            jwk
        })
        .collect();
    json!({ "keys": keys }).to_string()
}

async fn is_valid(tokens: &Tokens, token: &str) -> bool {
    match tokens.check(Some(token)).await {
        Ok(taken) => {
            assert_eq!(Value::Object(taken.claims), json!({ "sub": "ann" }));
            true
        }
        Err(refusal) => {
            // Always the same refusal.
            assert_eq!((&*refusal.message, refusal.data), ("invalid token", None));
            false
        }
    }
}

#[tokio::test]
async fn accepts_tokens_signed_by_each_kind_of_key() {
    let secret = tokens(settings(vec![KeySource::Secret(SECRET.into())])).await;
    assert!(is_valid(&secret, &hs256(&claims(), SECRET.as_bytes())).await);

    let secret_file = file(&format!("{SECRET}\n"));
    let secret = tokens(settings(vec![KeySource::SecretFile(secret_file.path().into())])).await;
    assert!(is_valid(&secret, &hs256(&claims(), SECRET.as_bytes())).await);

    let (rsa_file, ec_file) = (file(RSA_PUBLIC), file(EC_PUBLIC));
    let both = tokens_by(vec![
        KeySource::PublicKey(rsa_file.path().into()),
        KeySource::PublicKey(ec_file.path().into()),
    ])
    .await;
    assert!(is_valid(&both, &rs256(&claims(), RSA, None)).await);
    assert!(is_valid(&both, &es256(&claims(), EC, Some("any"))).await);

    let set_file = file(&set(&[(RSA, Signed::RS256, "r"), (EC, Signed::ES256, "e")]));
    let place = JwksLocation::File(set_file.path().into());
    let by_set = tokens(settings(vec![KeySource::Jwks(place)])).await;
    assert!(is_valid(&by_set, &rs256(&claims(), RSA, Some("r"))).await);
    assert!(is_valid(&by_set, &es256(&claims(), EC, Some("e"))).await);
    assert!(is_valid(&by_set, &es256(&claims(), EC, None)).await);
    // The id of another key.
    assert!(!is_valid(&by_set, &es256(&claims(), EC, Some("r"))).await);
}

#[tokio::test]
async fn forged_and_expired_tokens_get_the_same_refusal() {
    let (rsa_file, ec_file) = (file(RSA_PUBLIC), file(EC_PUBLIC));
    let all = tokens_by(vec![
        KeySource::Secret(SECRET.into()),
        KeySource::PublicKey(rsa_file.path().into()),
        KeySource::PublicKey(ec_file.path().into()),
    ])
    .await;
    let expired = json!({ "sub": "ann", "exp": in_seconds(-10) });
    let none = json!({ "alg": "none", "typ": "JWT" });
    let mut changed = rs256(&claims(), RSA, None)
        .split('.')
        .map(String::from)
        .collect::<Vec<_>>();
    changed[1] = URL_SAFE_NO_PAD.encode(json!({ "sub": "eve", "exp": in_seconds(60) }).to_string());
    let mut critical = Header::new(Signed::HS256);
    critical.crit = Some(vec!["b64".into()]);
    for (what, token) in [
        ("expired", hs256(&expired, SECRET.as_bytes())),
        ("expired", rs256(&expired, RSA, None)),
        ("no expiry", hs256(&json!({ "sub": "ann" }), SECRET.as_bytes())),
        (
            "broken expiry",
            hs256(&json!({ "sub": "ann", "exp": "soon" }), SECRET.as_bytes()),
        ),
        (
            "not yet",
            hs256(
                &json!({ "sub": "ann", "exp": in_seconds(60), "nbf": in_seconds(30) }),
                SECRET.as_bytes(),
            ),
        ),
        (
            "other secret",
            hs256(&claims(), b"another secret that is long enough too"),
        ),
        ("other key", rs256(&claims(), OTHER_RSA, None)),
        ("other key", es256(&claims(), OTHER_EC, None)),
        ("no signature", made_by_hand(&none, &claims(), b"")),
        ("no signature", made_by_hand(&json!({ "alg": "None" }), &claims(), b"")),
        (
            "empty signature",
            made_by_hand(&json!({ "alg": "HS256" }), &claims(), b""),
        ),
        // A public key used as a secret.
        ("confused", hs256(&claims(), RSA_PUBLIC.as_bytes())),
        ("confused", hs256(&claims(), RSA_PUBLIC.trim_end().as_bytes())),
        ("confused", hs256(&claims(), EC_PUBLIC.as_bytes())),
        // The algorithm of another key.
        (
            "wrong algorithm",
            encode(
                &Header::new(Signed::HS512),
                &claims(),
                &EncodingKey::from_secret(SECRET.as_bytes()),
            )
            .unwrap(),
        ),
        (
            "wrong algorithm",
            encode(
                &Header::new(Signed::PS256),
                &claims(),
                &EncodingKey::from_rsa_pem(RSA).unwrap(),
            )
            .unwrap(),
        ),
        ("changed", changed.join(".")),
        (
            "critical",
            encode(&critical, &claims(), &EncodingKey::from_secret(SECRET.as_bytes())).unwrap(),
        ),
        ("no object", hs256(&json!(["sub"]), SECRET.as_bytes())),
        (
            "too long",
            hs256(
                &json!({ "sub": "x".repeat(MAX_BYTES), "exp": in_seconds(60) }),
                SECRET.as_bytes(),
            ),
        ),
        ("nothing", String::new()),
        ("dots", "..".into()),
        ("noise", "a.b.c".into()),
        ("noise", "\u{0}\u{ff}.🦀".into()),
    ] {
        assert!(!is_valid(&all, &token).await, "{what}: {token}");
    }
    assert!(is_valid(&all, &hs256(&claims(), SECRET.as_bytes())).await);
}

#[tokio::test]
async fn checks_issuer_audience_and_expiry_as_configured() {
    let token = |claims: Value| hs256(&claims, SECRET.as_bytes());
    let key = || vec![KeySource::Secret(SECRET.into())];
    let strict = tokens(TokenSettings {
        issuers: vec!["me".into(), "you".into()],
        audiences: vec!["chat".into()],
        ..settings(key())
    })
    .await;
    let exp = in_seconds(60);
    for (given, taken) in [
        (json!({ "sub": "ann", "exp": exp, "iss": "me", "aud": "chat" }), true),
        (
            json!({ "sub": "ann", "exp": exp, "iss": "you", "aud": ["shop", "chat"] }),
            true,
        ),
        (json!({ "sub": "ann", "exp": exp, "iss": "eve", "aud": "chat" }), false),
        (json!({ "sub": "ann", "exp": exp, "iss": "me", "aud": "shop" }), false),
        (json!({ "sub": "ann", "exp": exp, "iss": "me", "aud": [] }), false),
        (json!({ "sub": "ann", "exp": exp, "iss": "me", "aud": 7 }), false),
        (
            json!({ "sub": "ann", "exp": exp, "iss": { "a": 1 }, "aud": "chat" }),
            false,
        ),
        (json!({ "sub": "ann", "exp": exp, "aud": "chat" }), false),
        (json!({ "sub": "ann", "exp": exp, "iss": "me" }), false),
    ] {
        assert_eq!(is_valid(&strict, &token(given.clone())).await, taken, "{given}");
    }
    let lax = tokens(TokenSettings {
        expiry_required: false,
        leeway: Duration::from_secs(100),
        ..settings(key())
    })
    .await;
    for (given, taken) in [
        (json!({ "sub": "ann" }), true),
        (json!({ "sub": "ann", "aud": "anybody", "iss": "anyone" }), true),
        (json!({ "sub": "ann", "exp": in_seconds(-50) }), true),
        (json!({ "sub": "ann", "exp": in_seconds(-200) }), false),
        (json!({ "sub": "ann", "exp": "never" }), false),
    ] {
        assert_eq!(is_valid(&lax, &token(given.clone())).await, taken, "{given}");
    }
}

#[tokio::test]
async fn configured_claims_become_attributes() {
    let tokens = tokens(TokenSettings {
        claims: vec!["sub".into(), "role".into(), "team".into()],
        ..settings(vec![KeySource::Secret(SECRET.into())])
    })
    .await;
    let given = tokens.check(Some(&hs256(&claims(), SECRET.as_bytes()))).await.unwrap();
    assert_eq!(Value::Object(given.claims), json!({ "sub": "ann", "role": "admin" }));
    assert_eq!(given.expires_at, None, "not enforced");
}

#[tokio::test]
async fn keys_stay_if_they_cannot_be_read_again() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    let secrets = [
        "one of at least thirty-two bytes, this",
        "two of at least thirty-two bytes, this",
    ];
    std::fs::write(&file, secrets[0]).unwrap();
    let sources = vec![KeySource::SecretFile(file.clone())];
    let tokens = tokens(TokenSettings {
        enforce_expiry: true,
        ..settings(sources.clone())
    })
    .await;
    let signed = secrets.map(|secret| hs256(&claims(), secret.as_bytes()));
    let taken = tokens.check(Some(&signed[0])).await.unwrap();
    let expires_at = claims()["exp"].as_u64().unwrap() + tokens.leeway();
    assert!(
        taken.expires_at.is_some_and(|at| at.abs_diff(expires_at) <= 60),
        "{taken:?}"
    );
    let unchanged = tokens.read_again(&settings(sources.clone())).await.unwrap();
    assert!(!tokens.replace(unchanged).await);
    std::fs::write(&file, "too short").unwrap();
    assert!(tokens.read_again(&settings(sources.clone())).await.is_err());
    assert!(is_valid(&tokens, &signed[0]).await);
    std::fs::write(&file, secrets[1]).unwrap();
    let read = tokens.read_again(&settings(sources.clone())).await.unwrap();
    assert!(is_valid(&tokens, &signed[0]).await, "only read, not in use yet");
    std::fs::write(&file, "too short").unwrap();
    assert!(tokens.replace(read).await, "what was read, not what the file holds now");
    assert!(is_valid(&tokens, &signed[1]).await && !is_valid(&tokens, &signed[0]).await);
}

#[tokio::test]
async fn file_of_a_set_is_read_once_for_a_reload() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), set(&[(RSA, Signed::RS256, "a")])).unwrap();
    let sources = vec![KeySource::Jwks(JwksLocation::File(file.path().into()))];
    let tokens = tokens(settings(sources.clone())).await;
    std::fs::write(file.path(), set(&[(EC, Signed::ES256, "b")])).unwrap();
    let read = tokens.read_again(&settings(sources.clone())).await.unwrap();
    std::fs::write(file.path(), "{}").unwrap();
    assert!(tokens.read_again(&settings(sources.clone())).await.is_err());
    assert!(tokens.replace(read).await);
    assert!(is_valid(&tokens, &es256(&claims(), EC, Some("b"))).await);
}

#[tokio::test]
async fn refuses_missing_token_if_required() {
    let key = || vec![KeySource::Secret(SECRET.into())];
    let refusal = tokens(settings(key())).await.check(None).await.unwrap_err();
    assert_eq!(&*refusal.message, "a token is required");
    let tokens = tokens(TokenSettings {
        required: false,
        ..settings(key())
    })
    .await;
    assert_eq!(tokens.check(None).await, Ok(VerifiedToken::default()));
    assert!(!is_valid(&tokens, "forged").await);
}

#[tokio::test]
async fn finds_token_in_the_configured_field() {
    let handshake = Handshake {
        auth: Some(r#"{"token":"a","number":7,"none":null,"in":{"side":"b"}}"#.into()),
        query: "token=c&EIO=4".into(),
        headers: [
            ("authorization".into(), "bearer  d".into()),
            ("x-token".into(), "e".into()),
        ]
        .into(),
        remote_addr: None,
        transport: "websocket".into(),
        recovered: false,
    };
    let auth = |keys: &[&str]| Field::Auth(keys.iter().map(|key| key.to_string()).collect());
    for (from, found) in [
        (auth(&["token"]), Some("a")),
        (auth(&["in", "side"]), Some("b")),
        (auth(&["number"]), Some("")),
        (auth(&["none"]), None),
        (auth(&["nowhere"]), None),
        (Field::Query("token".into()), Some("c")),
        (Field::Query("other".into()), None),
        (Field::Header("authorization".into()), Some("d")),
        (Field::Header("x-token".into()), Some("e")),
        (Field::Header("cookie".into()), None),
    ] {
        let settings = TokenSettings {
            from: from.clone(),
            ..settings(vec![KeySource::Secret(SECRET.into())])
        };
        let tokens = tokens(settings).await;
        assert_eq!(tokens.of(&Fields::of(&handshake)).as_deref(), found, "{from:?}");
    }
}

/// Serves a JWK set, and counts requests.
struct Server {
    url: String,
    answer: Arc<Mutex<String>>,
    asked: Arc<AtomicUsize>,
    shutdown: Shutdown,
}

impl Server {
    async fn start(body: &str, tls: Option<TlsAcceptor>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Self {
            url: match tls {
                Some(_) => format!("https://localhost:{}/keys?v=1", address.port()),
                None => format!("http://{address}/keys?v=1"),
            },
            answer: Arc::default(),
            asked: Arc::default(),
            shutdown: Shutdown::new(),
        };
        server.set(body);
        let (answer, asked, ending) = (server.answer.clone(), server.asked.clone(), server.shutdown.clone());
        server.shutdown.spawn(async move {
            loop {
                let (stream, _) = tokio::select! {
                    stream = listener.accept() => stream.unwrap(),
                    () = ending.begun() => return,
                };
                asked.fetch_add(1, Ordering::SeqCst);
                let answer = answer.lock().unwrap().clone();
                match &tls {
                    Some(tls) => match tls.accept(stream).await {
                        Ok(stream) => reply(stream, &answer).await,
                        Err(_) => continue,
                    },
                    None => reply(stream, &answer).await,
                }
            }
        });
        server
    }

    /// Replaces the set.
    fn set(&self, body: &str) {
        let length = body.len();
        self.say(&format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n{body}"));
    }

    fn say(&self, answer: &str) {
        *self.answer.lock().unwrap() = answer.into();
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::SeqCst)
    }

    fn keys(&self) -> Vec<KeySource> {
        vec![KeySource::Jwks(JwksLocation::Url(self.url.clone()))]
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.shutdown.begin();
    }
}

async fn reply(mut stream: impl AsyncRead + AsyncWrite + Unpin, answer: &str) {
    let mut request = Vec::new();
    while !request.ends_with(b"\r\n\r\n") {
        let byte = stream.read_u8().await.unwrap();
        request.push(byte);
    }
    let request = String::from_utf8(request).unwrap().to_lowercase();
    assert!(request.starts_with("get /keys?v=1 http/1.1\r\n"), "{request}");
    assert!(request.contains("\r\nhost: "), "{request}");
    let _ = stream.write_all(answer.as_bytes()).await;
    let _ = stream.shutdown().await;
}

#[tokio::test]
async fn unknown_key_id_of_token_refreshes_the_set() {
    let server = Server::start(&set(&[(RSA, Signed::RS256, "old")]), None).await;
    let tokens = tokens(settings(server.keys())).await;
    assert!(is_valid(&tokens, &rs256(&claims(), RSA, Some("old"))).await);
    assert_eq!(server.asked(), 1);

    let new = es256(&claims(), EC, Some("new"));
    assert!(!is_valid(&tokens, &new).await);
    assert_eq!(server.asked(), 2);
    server.set(&set(&[(RSA, Signed::RS256, "old"), (EC, Signed::ES256, "new")]));
    assert!(is_valid(&tokens, &new).await);
    assert_eq!(server.asked(), 3);
    // Known keys cause no request, whether the token is forged or not.
    assert!(is_valid(&tokens, &new).await);
    assert!(!is_valid(&tokens, &es256(&claims(), OTHER_EC, Some("new"))).await);
    assert!(!is_valid(&tokens, &rs256(&claims(), RSA, Some("new"))).await);
    assert_eq!(server.asked(), 3);

    // A key that was removed from the set is invalid after the next reading.
    server.set(&set(&[(EC, Signed::ES256, "new")]));
    assert!(!is_valid(&tokens, &es256(&claims(), OTHER_EC, Some("other"))).await);
    assert!(!is_valid(&tokens, &rs256(&claims(), RSA, Some("old"))).await);
}

#[tokio::test]
async fn keys_stay_if_the_set_cannot_be_read_again() {
    let server = Server::start(&set(&[(RSA, Signed::RS256, "a")]), None).await;
    let tokens = tokens(settings(server.keys())).await;
    let good = rs256(&claims(), RSA, Some("a"));
    for answer in [
        "HTTP/1.1 500 Internal Server Error\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 302 Found\r\nlocation: http://elsewhere/\r\ncontent-length: 0\r\n\r\n".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 11\r\n\r\n{\"keys\":[]}".to_owned(),
        "HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\n{\"keys\":[".to_owned(),
        format!("HTTP/1.1 200 OK\r\n\r\n{{\"keys\":[{}", " ".repeat(300_000)),
        "what?\r\n\r\n".to_owned(),
        String::new(),
    ] {
        server.say(&answer);
        let before = server.asked();
        assert!(!is_valid(&tokens, &rs256(&claims(), RSA, Some("unknown"))).await);
        assert_eq!(server.asked(), before + 1);
        assert!(is_valid(&tokens, &good).await, "{}", &answer[..answer.len().min(80)]);
    }
}

#[tokio::test]
async fn unknown_keys_cause_few_readings() {
    let server = Server::start(&set(&[(RSA, Signed::RS256, "a")]), None).await;
    let tokens = tokens(TokenSettings {
        jwks_pause: SOON,
        ..settings(server.keys())
    })
    .await;
    let forged = es256(&claims(), OTHER_EC, Some("unknown"));
    for _ in 0..20 {
        assert!(!is_valid(&tokens, &forged).await);
    }
    assert_eq!(server.asked(), 1);
    assert!(is_valid(&tokens, &rs256(&claims(), RSA, Some("a"))).await);
}

#[tokio::test]
async fn reads_set_again_from_time_to_time() {
    let server = Server::start(&set(&[(RSA, Signed::RS256, "a")]), None).await;
    let tokens = tokens(TokenSettings {
        jwks_refresh: Duration::from_millis(20),
        ..settings(server.keys())
    })
    .await;
    server.set(&set(&[(EC, Signed::ES256, "b")]));
    let old = rs256(&claims(), RSA, Some("a"));
    let gone = async {
        while tokens.claims_by(&old, Some("a")).is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(SOON, gone).await.unwrap();
    assert!(is_valid(&tokens, &es256(&claims(), EC, Some("b"))).await);
}

#[tokio::test]
async fn fetches_set_by_https_from_trusted_servers_only() {
    let chain = CertificateDer::pem_slice_iter(SERVER)
        .collect::<Result<_, _>>()
        .unwrap();
    let key = PrivateKeyDer::from_pem_slice(SERVER_KEY).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .unwrap();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let server = Server::start(&set(&[(EC, Signed::ES256, "e")]), Some(acceptor)).await;
    let ca = file(CA);
    let trusting = tokens(TokenSettings {
        jwks_ca: Some(ca.path().into()),
        ..settings(server.keys())
    })
    .await;
    assert!(is_valid(&trusting, &es256(&claims(), EC, Some("e"))).await);

    let stranger = Tokens::start(settings(server.keys()), &Shutdown::new())
        .await
        .unwrap_err();
    let stranger = format!("{stranger:#}");
    assert!(stranger.contains("jwks: cannot use https://localhost"), "{stranger}");
    assert!(stranger.contains("TLS"), "{stranger}");
}

#[tokio::test]
async fn reports_invalid_keys_at_the_start() {
    let private = file(std::str::from_utf8(RSA).unwrap());
    let certificate = file(CA);
    let short = file("short");
    let noise = file("noise");
    let secrets_only = file(r#"{"keys":[{"kty":"oct","k":"YQ"}]}"#);
    let nowhere = PathBuf::from("no/such.pem");
    for (source, expected) in [
        (
            KeySource::Secret("short".into()),
            "secret: the secret must have 32 bytes or more",
        ),
        (KeySource::SecretFile(short.path().into()), "secret-file: cannot use "),
        (
            KeySource::PublicKey(nowhere.clone()),
            "public-key: cannot use no/such.pem: cannot read it",
        ),
        (KeySource::PublicKey(private.path().into()), "this is a private key"),
        (KeySource::PublicKey(certificate.path().into()), "this is a certificate"),
        (
            KeySource::PublicKey(noise.path().into()),
            "this is not a public key of RSA or P-256 in PEM",
        ),
        (
            KeySource::Jwks(JwksLocation::File(nowhere)),
            "jwks: cannot use no/such.pem: cannot read it",
        ),
        (
            KeySource::Jwks(JwksLocation::File(noise.path().into())),
            "this is not JSON",
        ),
        (
            KeySource::Jwks(JwksLocation::File(secrets_only.path().into())),
            "none of the 1 keys in the JWK set",
        ),
        (
            KeySource::Jwks(JwksLocation::Url("http://127.0.0.1:1/".into())),
            "jwks: cannot use http://127.0.0.1:1/: cannot connect",
        ),
    ] {
        let error = Tokens::start(settings(vec![source]), &Shutdown::new())
            .await
            .unwrap_err();
        let error = format!("{error:#}");
        assert!(
            error.starts_with("[io-node.token] ") && error.contains(expected),
            "{error}\nshould say\n{expected}"
        );
    }
    let unused = TokenSettings {
        algorithms: vec![Algorithm::RS256],
        ..settings(vec![KeySource::Secret(SECRET.into())])
    };
    let error = Tokens::start(unused, &Shutdown::new()).await.unwrap_err().to_string();
    assert!(error.contains("none of the keys is for [RS256]"), "{error}");
}

#[tokio::test]
async fn fetching_a_set_times_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let settings = TokenSettings {
        jwks_timeout: Duration::from_millis(50),
        ..settings(vec![KeySource::Jwks(JwksLocation::Url(url))])
    };
    let error = Tokens::start(settings, &Shutdown::new()).await.unwrap_err();
    assert!(format!("{error:#}").contains("it took longer than 50ms"), "{error:#}");
}

#[tokio::test]
async fn fetching_an_endless_answer_ends() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let _ = stream.read_u8().await;
        while stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.is_ok() {}
    });
    let settings = TokenSettings {
        jwks_timeout: Duration::from_secs(60),
        ..settings(vec![KeySource::Jwks(JwksLocation::Url(url))])
    };
    let error = Tokens::start(settings, &Shutdown::new()).await.unwrap_err();
    assert!(format!("{error:#}").contains("too many bytes"), "{error:#}");
}

#[tokio::test]
async fn debug_output_hides_secrets() {
    let settings = settings(vec![KeySource::Secret(SECRET.into())]);
    let shown = format!("{settings:?}");
    assert!(!shown.contains("0123456789"), "{shown}");
    let shown = format!("{:?}", tokens(settings).await);
    assert!(
        !shown.contains("0123456789") && !shown.contains("48, 49, 50"),
        "{shown}"
    );
}

#[tokio::test]
async fn ignores_keys_of_a_set_for_other_uses() {
    let mut keys: Value = serde_json::from_str(&set(&[
        (RSA, Signed::RS256, "enc"),
        (RSA, Signed::RS256, "pss"),
        (EC, Signed::ES256, "e"),
    ]))
    .unwrap();
    keys["keys"][0]["use"] = "enc".into();
    keys["keys"][1]["alg"] = "PS256".into();
    let odd = [
        json!({ "kty": "EC", "crv": "secp256k1", "x": "AA", "y": "AA", "kid": "k" }),
        json!({ "kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "short" }),
        json!({ "kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": "weak" }),
        json!({ "kty": "oct", "k": URL_SAFE_NO_PAD.encode(SECRET), "kid": "secret" }),
        json!({ "kid": 7 }),
        json!("key"),
    ];
    keys["keys"].as_array_mut().unwrap().extend(odd);
    let names = |secrets| {
        let all = [Algorithm::HS256, Algorithm::RS256, Algorithm::ES256];
        let keys = key::of_set(keys.to_string().as_bytes(), &all, secrets).unwrap();
        keys.into_iter().map(|key| key.id.unwrap()).collect::<Vec<_>>()
    };
    // Secrets are read from files only.
    assert_eq!(names(false), ["e"]);
    assert_eq!(names(true), ["e", "secret"]);
    let none = key::of_set(keys.to_string().as_bytes(), &[Algorithm::RS256], true).unwrap_err();
    assert!(none.to_string().contains("none of the 9 keys"), "{none}");
}

mod arbitrary {
    use proptest::prelude::*;

    use super::*;
    use plugnode_testing::arbitrary::{bytes, json, nearly_text, peak, text};

    /// Tokens that none of the keys signed.
    fn forged() -> impl Strategy<Value = String> {
        let header = prop_oneof![
            Just(json!({ "alg": "HS256", "typ": "JWT" })),
            Just(json!({ "alg": "none" })),
            Just(json!({ "alg": "RS256", "kid": "one" })),
            Just(json!({ "alg": "ES256", "crit": ["b64"], "b64": false })),
            json(),
        ];
        let all_claims = prop_oneof![Just(claims()), json()];
        let made = (header, all_claims, bytes(64))
            .prop_map(|(header, claims, signature)| made_by_hand(&header, &claims, &signature));
        let good = hs256(&claims(), SECRET.as_bytes());
        prop_oneof![
            3 => nearly_text(Just(good.clone())),
            3 => nearly_text(made),
            1 => any::<String>(),
            1 => (text(), text(), text()).prop_map(|(header, claims, signature)| format!("{header}.{claims}.{signature}")),
            1 => Just("a.".repeat(10_000)),
            1 => Just(good.repeat(200)),
        ]
        .prop_filter("not the valid token", move |forged| *forged != good)
    }

    #[test]
    fn refuses_any_forged_token() {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .unwrap();
        let (rsa, ec) = (file(RSA_PUBLIC), file(EC_PUBLIC));
        let tokens = runtime.block_on(tokens_by(vec![
            KeySource::Secret(SECRET.into()),
            KeySource::PublicKey(rsa.path().into()),
            KeySource::PublicKey(ec.path().into()),
        ]));
        let mut runner = proptest::test_runner::TestRunner::new(ProptestConfig::default());
        let tried = runner.run(&forged(), |forged| {
            let (taken, peak) = peak(|| runtime.block_on(tokens.check(Some(&forged))));
            let refusal = taken.expect_err("refused");
            prop_assert_eq!(&*refusal.message, "invalid token");
            prop_assert!(
                peak <= 64 * forged.len() as u64 + (256 << 10),
                "{peak} bytes for {}",
                forged.len()
            );
            Ok(())
        });
        tried.unwrap_or_else(|failure| panic!("{failure}"));
    }
}
