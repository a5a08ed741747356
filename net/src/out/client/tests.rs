//! Tests of the client: what a redirect keeps, and TLS with HTTP/2.

use super::super::connect::tls_config;
use super::*;
use crate::out::tests::harness::{self, Act, Server};
use http_body_util::Full;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::atomic::AtomicUsize;
use tokio::net::TcpListener;
use tokio_rustls::TlsAcceptor;

fn request(url: &Url) -> Request {
    let mut headers = common_headers();
    headers.insert(header::AUTHORIZATION, HeaderValue::from_static("Bearer k"));
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert("x-api-key", HeaderValue::from_static("k"));
    headers.insert("idempotency-key", HeaderValue::from_static("1-2"));
    Request { method: Method::POST, url: url.clone(), headers, body: Bytes::from_static(b"[1]") }
}

fn client() -> Client {
    let guard = Guard::parse(&["127.0.0.1", "localhost"]).expect("a good list");
    Client::new(guard, &tls_config().expect("tls"))
}

#[test]
fn a_redirect_keeps_what_it_may() {
    let client = client();
    let from = client.check("https://a.example/x").expect("a url");
    let check = |status: u16, location: &str, expected: Result<(&str, bool, bool), &str>| {
        let status = StatusCode::from_u16(status).expect("a status");
        let got = client.redirected(request(&from), status, location);
        match (got, expected) {
            (Ok(got), Ok((url, has_body, has_key))) => {
                assert_eq!(got.url.as_str(), url);
                assert_eq!(!got.body.is_empty(), has_body, "{location}");
                assert_eq!(got.method == Method::POST, has_body, "{location}");
                assert_eq!(got.headers.contains_key(header::CONTENT_TYPE), has_body);
                assert_eq!(got.headers.contains_key(header::AUTHORIZATION), has_key);
                assert_eq!(got.headers.contains_key("x-api-key"), has_key, "{location}");
                assert!(got.headers.contains_key("idempotency-key"), "{location}");
            }
            (Err(got), Err(code)) => assert_eq!(got.code(), code, "{location}: {got}"),
            (got, _) => panic!("{location}: {got:?}, not {expected:?}"),
        }
    };
    check(307, "/y", Ok(("https://a.example/y", true, true)));
    check(308, "y?q#f", Ok(("https://a.example/y?q", true, true)));
    check(303, "/y", Ok(("https://a.example/y", false, true)));
    check(301, "/y", Ok(("https://a.example/y", false, true)));
    check(302, "https://a.example:8443/", Ok(("https://a.example:8443/", false, false)));
    check(302, "https://a.example:9443/", Err("outbound_refused"));
    check(302, "https://a.example:25/", Err("outbound_refused"));
    check(307, "https://localhost:9443/", Ok(("https://localhost:9443/", true, false)));
    check(307, "https://b.example/", Ok(("https://b.example/", true, false)));
    check(307, "//b.example/", Ok(("https://b.example/", true, false)));
    check(307, "http://a.example/", Err("redirect_refused"));
    check(307, "https://10.0.0.1/", Err("outbound_refused"));
    check(307, "//10.0.0.1/", Err("outbound_refused"));
    check(307, "/\\10.0.0.1/", Err("outbound_refused"));
    check(307, "https://user@b.example/", Err("outbound_refused"));
    check(307, "ftp://b.example/", Err("outbound_refused"));
    check(307, "https://[", Err("redirect_refused"));
}

#[tokio::test]
async fn a_key_does_not_follow_to_another_host() {
    harness::local(async {
        let end = Server::start(|_| vec![Act::Write(harness::answer("200 OK", "1"))]).await;
        let to = end.url("/end");
        let head = format!("HTTP/1.1 307 X\r\nlocation: {to}\r\ncontent-length: 0\r\n\r\n");
        let begin = Server::start(move |_| vec![Act::Write(head.clone())]).await;
        let client = client();
        let url = client.check(&begin.url("/")).expect("allowed");
        let reply = client.send(request(&url), &Sent::default()).await.expect("an answer");
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(begin.seen(0).header("authorization"), "Bearer k");
        assert_eq!(end.seen(0).header("authorization"), "");
        assert_eq!(end.seen(0).body, "[1]");
    })
    .await;
}

/// A resolver that gives these answers in turn, and counts.
fn resolver(answers: &[&[&str]]) -> (Resolver, Arc<AtomicUsize>) {
    let parse = |ip: &&str| SocketAddr::new(ip.parse().expect(ip), 0);
    let answers: Vec<Vec<_>> = answers.iter().map(|ips| ips.iter().map(parse).collect()).collect();
    let asked = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&asked);
    let resolver: Resolver = Arc::new(move |host, _| {
        assert_eq!(host, "rebound.example");
        let answer = answers[count.fetch_add(1, Ordering::Relaxed)].clone();
        Box::pin(async move { Ok(answer) })
    });
    (resolver, asked)
}

#[tokio::test]
async fn a_name_that_is_rebound_is_checked_at_each_connection_and_resolved_once() {
    harness::local(async {
        let close = |body: &str| vec![Act::Write(harness::answer("200 OK", body)), Act::Close];
        let server = Server::start(move |_| close("1")).await;
        let port = server.port();
        let (resolver, asked) =
            resolver(&[&["127.0.0.1"], &["127.0.0.2"], &["127.0.0.1", "10.0.0.1"], &["127.0.0.1"]]);
        let guard = Guard::parse(&[format!("127.0.0.1:{port}")]).expect("a good list");
        let client = Client::resolving(guard, &tls_config().expect("tls"), resolver);
        let url = client.check(&format!("http://rebound.example:{port}/")).expect("a name");
        // The first answer is allowed, the second is not, the third only in part.
        for (turn, code) in
            [None, Some("outbound_refused"), Some("outbound_refused"), None].into_iter().enumerate()
        {
            let reply = client.send(request(&url), &Sent::default()).await;
            let body = async |mut reply: Reply| read_all(&mut reply.body, 9).await;
            match (reply, code) {
                (Ok(reply), None) => assert_eq!(body(reply).await.expect("a body"), b"1"),
                (Err(error), Some(code)) => assert_eq!(error.code(), code, "{error}"),
                (reply, _) => panic!("{turn}: {reply:?}"),
            }
            assert_eq!(asked.load(Ordering::Relaxed), turn + 1, "one answer a connection");
        }
        assert_eq!(server.requests(), 2);
    })
    .await;
}

/// A server over TLS that speaks HTTP/2; counts its connections.
async fn secure_server(connections: Rc<Cell<u32>>) -> (u16, rustls::RootCertStore) {
    let made = rcgen::generate_simple_self_signed(vec!["localhost".to_owned()]).expect("a cert");
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).expect("a root");
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .expect("a pair");
    config.alpn_protocols = vec![b"h2".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = listener.accept().await {
            connections.set(connections.get() + 1);
            let acceptor = acceptor.clone();
            tokio::task::spawn_local(async move {
                let Ok(stream) = acceptor.accept(stream).await else { return };
                let answer = |request: hyper::Request<Incoming>| async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    Ok::<_, hyper::Error>(hyper::Response::new(Full::new(body)))
                };
                let serving = hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service_fn(answer));
                let _ = serving.await;
            });
        }
    });
    (port, roots)
}

#[tokio::test]
async fn calls_over_tls_share_one_connection_of_http2() {
    harness::local(async {
        let connections = Rc::new(Cell::new(0));
        let (port, roots) = secure_server(Rc::clone(&connections)).await;
        let mut tls = tls_config().expect("tls");
        let untrusting = Client::new(Guard::parse(&["localhost"]).expect("a list"), &tls);
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        tls = rustls::ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_root_certificates(roots)
            .with_no_client_auth();
        let trusting = Client::new(Guard::parse(&["localhost"]).expect("a list"), &tls);
        let url = trusting.check(&format!("https://localhost:{port}/")).expect("allowed");
        for _ in 0..3 {
            let sent = Sent::default();
            let mut reply = trusting.send(request(&url), &sent).await.expect("an answer");
            assert_eq!(read_all(&mut reply.body, 9).await.expect("a body"), b"[1]");
            assert!(sent.get());
        }
        assert_eq!(connections.get(), 1);
        let sent = Sent::default();
        let refused = untrusting.send(request(&url), &sent).await.expect_err("no trust");
        assert_eq!((refused.code(), refused.maybe_done()), ("connect_failed", false));
        assert!(!sent.get());
    })
    .await;
}
