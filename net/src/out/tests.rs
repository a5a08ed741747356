//! Tests of calls out, against servers on real sockets that do exactly what they are told.

pub(crate) mod harness;

use super::*;
use harness::{Act, Harness, Server, answer, failed, output};
use no_engine::command::Outcome;
use no_engine::id::Attempt;
use no_engine::trace::{Origin, Trace};
use serde_json::json;

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 8\r\n\r\n{\"n\": 1}";

#[tokio::test]
async fn an_http_agent_posts_its_input_and_returns_the_answer() {
    harness::local(async {
        let server = Server::start(|_| vec![Act::Write(OK.into())]).await;
        let harness = Harness::new(&["127.0.0.1"], json!({}));
        let outcome = harness.http(&server.url("/run?x=1"), br#"{"in": true}"#).await;
        assert_eq!(output(&outcome), "{\"n\": 1}");
        let seen = server.seen(0);
        assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/run?x=1"));
        assert_eq!(seen.body, r#"{"in": true}"#);
        assert_eq!(seen.header("content-type"), "application/json");
        assert_eq!(seen.header("idempotency-key"), format!("{}-7", harness::task()));
        let trace = Trace::new(harness::task(), Origin::default());
        assert_eq!(seen.header("traceparent"), trace.traceparent(Attempt(1), Step(7)));
        assert_eq!(harness.outbound.open(), 0);
    })
    .await;
}

#[tokio::test]
async fn statuses_become_outcomes() {
    harness::local(async {
        for (head, code, retryable, maybe_done, after) in [
            ("404 Not Found", "http_status", false, false, None),
            ("429 Too Many Requests\r\nretry-after: 3", "http_status", true, false, Some(3_000)),
            ("408 Request Timeout", "http_status", true, false, None),
            ("500 Oops", "http_status", true, false, None),
            ("503 Busy\r\nretry-after: 1", "http_status", true, false, Some(1_000)),
            ("504 Gateway Timeout", "http_status", true, true, None),
            ("304 Not Modified", "http_status", false, false, None),
        ] {
            let head = format!("HTTP/1.1 {head}\r\ncontent-length: 4\r\n\r\nbody");
            let server = Server::start(move |_| vec![Act::Write(head.clone())]).await;
            let harness = Harness::new(&["127.0.0.1"], json!({}));
            let outcome = harness.http(&server.url("/"), b"1").await;
            let (error, retry_after_ms, done) = failed(&outcome);
            assert_eq!((&*error.code, error.retryable), (code, retryable), "{error:?}");
            assert_eq!((done, retry_after_ms), (maybe_done, after), "{error:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn any_successful_body_is_an_output() {
    harness::local(async {
        for (body, expected) in [("", "null"), ("plain", "\"plain\""), ("[1]", "[1]")] {
            let reply = answer("200 OK", body);
            let server = Server::start(move |_| vec![Act::Write(reply.clone())]).await;
            let harness = Harness::new(&["127.0.0.1"], json!({}));
            assert_eq!(output(&harness.http(&server.url("/"), b"1").await), expected);
        }
    })
    .await;
}

#[tokio::test]
async fn the_guard_refuses_by_address_name_and_trick() {
    harness::local(async {
        let server = Server::start(|_| vec![Act::Write(OK.into())]).await;
        let harness = Harness::new(&[], json!({}));
        let port = server.port();
        for host in ["127.0.0.1", "localhost", "2130706433", "0x7f.1", "127.1", "[::ffff:7f00:1]"] {
            let outcome = harness.http(&format!("http://{host}:{port}/"), b"1").await;
            let (error, _, maybe_done) = failed(&outcome);
            assert_eq!(&*error.code, "outbound_refused", "{host}: {error:?}");
            assert!(!error.retryable && !maybe_done);
        }
        assert_eq!(server.requests(), 0);
        assert_eq!(harness.config.refused(), 6);
        let harness = Harness::new(&[&format!("localhost:{port}")], json!({}));
        let outcome = harness.http(&format!("http://localhost:{port}/"), b"1").await;
        assert_eq!(output(&outcome), "{\"n\": 1}");
    })
    .await;
}

#[tokio::test]
async fn what_one_agent_may_reach_another_may_not() {
    harness::local(async {
        let server = Server::start(|_| vec![Act::Write(OK.into())]).await;
        let agents = json!({"a": [format!("127.0.0.1:{}", server.port())], "b": ["10.0.0.0/8"]});
        let harness = Harness::of_agents(agents);
        let tool = json!({"kind": "http", "name": "t", "url": server.url("/"), "method": "GET"});
        for (agent, is_allowed) in [("a", true), ("b", false), ("c", false), ("a", true)] {
            for mut call in [harness.http_call(&server.url("/"), b"1"), harness.tool_call(&tool)] {
                let before = server.requests();
                call.agent_name = agent.into();
                let outcome = harness.run(call).await;
                if is_allowed {
                    assert_eq!(output(&outcome), "{\"n\": 1}", "{agent}");
                } else {
                    assert_eq!(&*failed(&outcome).0.code, "outbound_refused", "{agent}");
                }
                assert_eq!(server.requests() - before, usize::from(is_allowed), "{agent}");
            }
        }
        assert_eq!(harness.config.refused(), 4);
    })
    .await;
}

#[tokio::test]
async fn a_model_that_fills_in_the_port_gets_only_those_of_the_web() {
    harness::local(async {
        let harness = Harness::new(&[], json!({}));
        let tool = json!({"kind": "http", "name": "t", "url": "http://1.1.1.1:{port}/"});
        for port in ["9000", "22"] {
            let outcome = harness.tool(&tool, &format!(r#"{{"port":{port}}}"#)).await;
            let (error, _, maybe_done) = failed(&outcome);
            assert_eq!((&*error.code, maybe_done), ("outbound_refused", false), "{error:?}");
            assert!(error.message.contains(&format!("1.1.1.1:{port}")), "{error:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn redirects_are_followed_and_checked_anew() {
    harness::local(async {
        let server = Server::start(|seen| {
            let to = |status: &str, location: &str| {
                vec![Act::Write(format!(
                    "HTTP/1.1 {status} X\r\nlocation: {location}\r\ncontent-length: 0\r\n\r\n"
                ))]
            };
            match seen.target.as_str() {
                "/303" => to("303", "/end"),
                "/302" => to("302", "end"),
                "/307" => to("307", "/end"),
                "/private" => to("307", "http://10.0.0.1/"),
                "/metadata" => to("302", "http://[::ffff:169.254.169.254]/latest"),
                "/file" => to("302", "file:///etc/passwd"),
                "/port" => to("307", "http://127.0.0.1:6379/"),
                "/user" => to("302", "http://a:b@127.0.0.1/"),
                "/acted" => to("303", "http://10.0.0.1/"),
                "/round" => to("307", "/round"),
                _ => vec![Act::Write(OK.into())],
            }
        })
        .await;
        let harness = Harness::new(&["127.0.0.1"], json!({}));
        for (path, method, body) in
            [("/303", "GET", ""), ("/302", "GET", ""), ("/307", "POST", "[1]")]
        {
            assert_eq!(output(&harness.http(&server.url(path), b"[1]").await), "{\"n\": 1}");
            let seen = server.last();
            assert_eq!((seen.method.as_str(), seen.target.as_str()), (method, "/end"));
            assert_eq!(seen.body, body);
        }
        for (path, code, maybe_done) in [
            ("/private", "outbound_refused", false),
            ("/metadata", "outbound_refused", false),
            ("/file", "outbound_refused", false),
            ("/port", "outbound_refused", false),
            ("/user", "outbound_refused", false),
            ("/acted", "outbound_refused", true),
            ("/round", "redirect_refused", false),
        ] {
            let before = server.requests();
            let outcome = harness.http(&server.url(path), b"[1]").await;
            let (error, _, done) = failed(&outcome);
            assert_eq!((&*error.code, done), (code, maybe_done), "{path}: {error:?}");
            assert!(!error.retryable);
            let asked = if path == "/round" { 6 } else { 1 };
            assert_eq!(server.requests() - before, asked, "{path}");
        }
    })
    .await;
}

#[tokio::test]
async fn too_large_an_answer_is_not_read_to_its_end() {
    harness::local(async {
        let declared = "HTTP/1.1 200 OK\r\ncontent-length: 99999999\r\n\r\n";
        let server = Server::start(move |_| vec![Act::Write(declared.into()), Act::Hold]).await;
        let harness = Harness::new(&["127.0.0.1"], json!({}));
        let outcome = harness.http(&server.url("/"), b"1").await;
        assert_eq!(&*failed(&outcome).0.code, "too_large");
        server.closed().await;

        let piece = "1".repeat(1 << 20);
        let server = Server::start(move |_| {
            let mut acts = vec![Act::Write("HTTP/1.1 200 OK\r\n\r\n".into())];
            acts.extend((0..16).map(|_| Act::Write(piece.clone())));
            acts.push(Act::Hold);
            acts
        })
        .await;
        let outcome = harness.http(&server.url("/"), b"1").await;
        let (error, _, maybe_done) = failed(&outcome);
        assert_eq!((&*error.code, error.retryable, maybe_done), ("too_large", false, true));
        server.closed().await;
    })
    .await;
}

#[tokio::test]
async fn abort_closes_the_socket_and_sends_nothing() {
    harness::local(async {
        for acts in [
            vec![Act::Hold],
            vec![Act::Write("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n12".into()), Act::Hold],
        ] {
            let server = Server::start(move |_| acts.clone()).await;
            let harness = Harness::new(&["127.0.0.1"], json!({}));
            let call = harness.http_call(&server.url("/"), b"1");
            let (task, fence) = (call.task, call.fence);
            harness.outbound.call(call);
            server.asked().await;
            harness.outbound.abort(task, Fence(fence.0 + 1));
            assert_eq!(harness.outbound.open(), 1);
            harness.outbound.abort(task, fence);
            server.closed().await;
            assert_eq!(harness.outbound.open(), 0);
            assert_eq!(harness.outcomes(), 0);
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_timeout_says_whether_the_request_was_sent() {
    harness::local(async {
        let server = Server::start(|_| vec![Act::Hold]).await;
        let harness = Harness::new(&["127.0.0.1"], json!({}));
        for (url, sent) in
            [(server.url("/"), true), (server.url("/").replace("http", "https"), false)]
        {
            let mut call = harness.http_call(&url, b"1");
            call.timeout_ms = 700;
            let outcome = harness.run(call).await;
            let (error, _, maybe_done) = failed(&outcome);
            assert_eq!((&*error.code, error.retryable), ("timeout", true), "{url}");
            assert_eq!(maybe_done, sent, "{url}");
        }
        // A TLS handshake that never ends is a failed connection well before the call's time-out.
        let outcome = harness.http(&server.url("/").replace("http", "https"), b"1").await;
        let (error, _, maybe_done) = failed(&outcome);
        assert_eq!((&*error.code, error.retryable, maybe_done), ("connect_failed", true, false));
    })
    .await;
}

#[tokio::test]
async fn a_broken_connection_may_have_done_it_and_a_refused_one_not() {
    harness::local(async {
        let server = Server::start(|_| vec![Act::Close]).await;
        let harness = Harness::new(&["127.0.0.1"], json!({}));
        let outcome = harness.http(&server.url("/"), b"1").await;
        let (error, _, maybe_done) = failed(&outcome);
        assert_eq!((&*error.code, error.retryable, maybe_done), ("connection_broken", true, true));

        let gone = Server::start(|_| vec![]).await;
        let url = gone.url("/");
        gone.stop();
        tokio::task::yield_now().await;
        let outcome = harness.http(&url, b"1").await;
        let (error, _, maybe_done) = failed(&outcome);
        assert_eq!((&*error.code, error.retryable, maybe_done), ("connect_failed", true, false));

        let half = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n12";
        let server = Server::start(|_| vec![Act::Write(half.into()), Act::Close]).await;
        let outcome = harness.http(&server.url("/"), b"1").await;
        let (error, _, maybe_done) = failed(&outcome);
        assert_eq!((&*error.code, error.retryable, maybe_done), ("connection_broken", true, true));
    })
    .await;
}

#[tokio::test]
async fn a_tool_fills_its_template_and_sends_the_rest() {
    harness::local(async {
        let server = Server::start(|_| vec![Act::Write(OK.into())]).await;
        let harness = Harness::new(&["127.0.0.1"], json!({}));
        let arguments = r#"{"id":"a/b","n":2,"list":["x","y"]}"#;
        for (method, target, body) in [
            ("GET", "/u/a%2Fb?list=x&list=y&n=2", ""),
            ("DELETE", "/u/a%2Fb?list=x&list=y&n=2", ""),
            ("POST", "/u/a%2Fb", r#"{"list":["x","y"],"n":2}"#),
            ("PUT", "/u/a%2Fb", r#"{"list":["x","y"],"n":2}"#),
        ] {
            let url = server.url("/u/{id}");
            let tool = json!({"kind": "http", "name": "t", "url": url, "method": method});
            let outcome = harness.tool(&tool, arguments).await;
            assert_eq!(output(&outcome), "{\"n\": 1}");
            let seen = server.last();
            assert_eq!((seen.method.as_str(), seen.target.as_str()), (method, target));
            assert_eq!(seen.body, body);
        }
    })
    .await;
}

#[tokio::test]
async fn what_a_model_can_mend_is_a_result_and_the_rest_a_failure() {
    harness::local(async {
        let server = Server::start(|seen| {
            let status = seen.target.trim_start_matches('/').to_owned();
            vec![Act::Write(answer(&format!("{status} X"), "{\"why\":1}"))]
        })
        .await;
        let harness = Harness::new(&["127.0.0.1"], json!({}));
        let tool = json!({"kind": "http", "name": "t", "url": server.url("/{status}")});
        let told = r#"{"error":{"status":404,"body":{"why":1}}}"#;
        assert_eq!(output(&harness.tool(&tool, r#"{"status":404}"#).await), told);
        for (arguments, piece) in
            [("{}", "argument status is missing"), ("[1]", "must be a JSON object")]
        {
            let outcome = harness.tool(&tool, arguments).await;
            assert!(output(&outcome).contains(piece), "{outcome:?}");
        }
        for status in ["408", "425", "429", "500", "503"] {
            let outcome = harness.tool(&tool, &format!(r#"{{"status":{status}}}"#)).await;
            let (error, _, maybe_done) = failed(&outcome);
            assert!(error.retryable && !maybe_done, "{status}");
        }
        let outcome = harness.tool(&tool, r#"{"status":502}"#).await;
        assert!(failed(&outcome).2);
    })
    .await;
}

#[tokio::test]
async fn large_payloads_are_named_by_their_hash() {
    harness::local(async {
        let body = format!("\"{}\"", "x".repeat(20_000));
        let reply = answer("200 OK", &body);
        let server = Server::start(move |_| vec![Act::Write(reply.clone())]).await;
        let harness = Harness::new(&["127.0.0.1"], json!({}));
        let Outcome::Output { output } = harness.http(&server.url("/"), b"1").await else {
            panic!("no output");
        };
        let no_engine::payload::Payload::Blob(blob) = output else {
            panic!("inline");
        };
        assert_eq!(blob.hash.0, *blake3::hash(body.as_bytes()).as_bytes());
        assert_eq!(blob.bytes_len as usize, body.len());
    })
    .await;
}

#[test]
fn a_configuration_that_cannot_work_is_refused() {
    let check = |allow: &[&str], models: serde_json::Value, piece: &str| {
        let models = serde_json::from_value(models).expect("well formed");
        let got = OutConfig::new(allow, &models, &|name| (name == "SET").then(|| "k".into()));
        assert!(got.map(drop).is_err_and(|e| e.to_string().contains(piece)), "{piece}");
    };
    let model = |key: &str| {
        let base = "http://h";
        json!({"m": {"provider": "openai", "baseUrl": base, "model": "x", "apiKeyEnv": key}})
    };
    check(&["10.0.0.1/8"], json!({}), "security.outbound.allow[0]");
    check(&[], model("UNSET"), "models.m: the key in UNSET is not set");
    check(&[], json!({"m": {"provider": "scripted"}}), "models.m: /script");
    let models = serde_json::from_value(model("SET")).expect("well formed");
    let agents = [("a".to_owned(), vec!["ok", "*.x"])].into();
    let got = OutConfig::new::<&str>(&[], &BTreeMap::new(), &|_| None).expect("works");
    let got = got.with_agents(&agents).map(drop).expect_err("a bad entry").to_string();
    assert!(got.starts_with("security.outbound.agents.a[1]: there are no wildcards"), "{got}");
    let good = OutConfig::new::<&str>(&[], &models, &|name| (name == "SET").then(|| "k".into()))
        .expect("works");
    assert!(good.has_model("m") && !good.has_model("n"));
    let crosses_threads = |_: &(dyn std::any::Any + Send)| ();
    crosses_threads(&good);
}
