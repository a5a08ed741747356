//! The cases, by what they lie about: bytes, the statuses of the answers, what becomes of the
//! connection.

use super::{Case, End, HEAD_BYTES_MAX, MARKER, PING};
use End::{Closes, ClosesLate, Either, Lives};
use std::fmt::Write as _;

fn case(bytes: impl AsRef<[u8]>, statuses: &'static [u16], end: End) -> Case {
    let bytes = bytes.as_ref();
    let mut name = String::new();
    let _ = write!(name, "{}", bytes[..bytes.len().min(160)].escape_ascii());
    (name, bytes.to_vec(), statuses, end)
}

/// A POST of `body` with these lines of head.
fn post(lines: &str, body: &str, statuses: &'static [u16], end: End) -> Case {
    case(format!("POST /len HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n{body}"), statuses, end)
}

/// A POST in chunks.
fn chunked(body: &str, statuses: &'static [u16], end: End) -> Case {
    post("Transfer-Encoding: chunked", body, statuses, end)
}

/// A GET with these lines of head.
fn get(lines: &str, statuses: &'static [u16], end: End) -> Case {
    case(format!("GET /ping HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n"), statuses, end)
}

/// A whole head.
fn head(text: &str, statuses: &'static [u16], end: End) -> Case {
    case(format!("{text}\r\n\r\n"), statuses, end)
}

/// A request line with a Host.
fn line(text: &str, statuses: &'static [u16], end: End) -> Case {
    head(&format!("{text}\r\nHost: x"), statuses, end)
}

const OK: &[u16] = &[200];
const BAD: &[u16] = &[400];
const LARGE: &[u16] = &[431];

pub(super) fn lengths() -> Vec<Case> {
    let mut cases = vec![
        post("Content-Length: 5", "hello", OK, Lives),
        post("Content-Length: 0", "", OK, Lives),
        post("Content-Length: 005", "hello", OK, Lives),
        post("Content-Length:5", "hello", OK, Lives),
        post("Content-Length: \t5 \t", "hello", OK, Lives),
        post("CONTENT-LENGTH: 5", "hello", OK, Lives),
        post("Content-Length: 5\r\nContent-Length: 5", "hello", OK, Lives),
        post("X: y", "", OK, Lives),
        post("Content-Length: 5", "hello0\r\n\r\n", &[200, 400], Closes),
        post("Content_Length: 5", "hello", &[200, 405], Closes),
        post("Content-Length: 9223372036854775807", "", &[413], Closes),
        post("Content-Length: 4194305", "", &[413], Closes),
        // The parser takes the largest number for a head that is too large.
        post("Content-Length: 18446744073709551615", "", LARGE, Closes),
        post("Content-Length: 5\r\n 6", "hello", BAD, Closes),
        post("Content-Length : 5", "hello", BAD, Closes),
        post("Content-Length\t: 5", "hello", BAD, Closes),
        post(" Content-Length: 5", "hello", BAD, Closes),
        post("Content-Length: 5\r\nContent-Length: 6", "hello", BAD, Closes),
        post("Content-Length: 6\r\nContent-Length: 5", "hello", BAD, Closes),
        post("Content-Length: 5\r\nContent-Length: 5\r\nContent-Length: 0", "hello", BAD, Closes),
        post("Content-Length: 0\r\nContent-Length: 5", "hello", BAD, Closes),
        post("Content-Length: 5\r\nX: y\r\ncontent-length: x", "hello", BAD, Closes),
        // The rest of the body never comes: what stands behind is taken for it.
        post("Content-Length: 999", "hello", &[408], ClosesLate),
    ];
    for bad in [
        "",
        " ",
        "+5",
        "-5",
        "-0",
        "0x5",
        "5h",
        "5 5",
        "5,5",
        "5, 5",
        "5,6",
        ",5",
        "5,",
        "5;",
        "5.0",
        "5e0",
        "five",
        "\u{665}",
        "'5'",
        "\"5\"",
        "5\u{0}",
        "5\u{b}",
        "5\u{c}",
        "0b101",
        "1_0",
        "NaN",
        "18446744073709551616",
        "99999999999999999999999999",
        "5\r",
        "5\rX: y",
    ] {
        cases.push(post(&format!("Content-Length: {bad}"), "hello", BAD, Closes));
    }
    cases
}

pub(super) fn codings() -> Vec<Case> {
    let body = "5\r\nhello\r\n0\r\n\r\n";
    let mut cases = vec![
        post("Transfer-Encoding: Chunked", body, OK, Lives),
        post("TRANSFER-ENCODING: CHUNKED", body, OK, Lives),
        post("Transfer-Encoding:chunked", body, OK, Lives),
        post("Transfer-Encoding: \t chunked \t", body, OK, Lives),
        post("Transfer-Encoding : chunked", body, BAD, Closes),
        post("Transfer-Encoding\t: chunked", body, BAD, Closes),
        post("Transfer-Encoding\u{0}: chunked", body, BAD, Closes),
        post(" Transfer-Encoding: chunked", body, BAD, Closes),
        post("X: y\r\n Transfer-Encoding: chunked", body, BAD, Closes),
        post("Transfer-Encoding:\r\n chunked", body, BAD, Closes),
        post("Transfer-Encoding:\n chunked", body, BAD, Closes),
        post("Transfer-Encoding: chunked\r\n ", body, BAD, Closes),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked", body, BAD, Closes),
        post("Transfer-Encoding: chunked\r\nTransfer-Encoding: identity", body, BAD, Closes),
        post("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked", body, BAD, Closes),
        post("Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", body, BAD, Closes),
        // Another name is another header; then there is no body, and what follows is no request.
        post("Transfer_Encoding: chunked", body, &[200, 400], Closes),
        post("Transfer-Encodin: chunked", body, &[200, 400], Closes),
        head("POST /len HTTP/1.0\r\nHost: x\r\nTransfer-Encoding: chunked", BAD, Closes),
    ];
    for bad in [
        "",
        "identity",
        "gzip",
        "deflate",
        "compress",
        "x-chunked",
        "xchunked",
        "chunke",
        "chunkedx",
        "chunked, chunked",
        "chunked,chunked",
        "gzip, chunked",
        "identity, chunked",
        "chunked, gzip",
        "chunked, identity",
        ", chunked",
        "chunked,",
        "chunked;q=1",
        "\"chunked\"",
        "'chunked'",
        "chunked\u{0}",
        "\u{b}chunked",
        "chunked\u{b}",
        "chunked chunked",
        "chunk\u{e9}d",
        "\rchunked",
    ] {
        cases.push(post(&format!("Transfer-Encoding: {bad}"), body, BAD, Closes));
    }
    for both in [
        "Content-Length: 15\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 15",
        "Content-Length: 0\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 0",
        "Content-Length: 3\r\nX: y\r\nTransfer-Encoding: chunked",
        "transfer-encoding: chunked\r\nx: y\r\ncontent-length: 3",
        "Transfer-Encoding: chunked\r\nContent-Length: x",
        "Content-Length: x\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 15\r\nContent-Length: 16",
        "Content-Length: 15\r\nTransfer-Encoding: identity",
        "Content-Length: 15\r\nTransfer-Encoding: gzip, chunked",
        "Content-Length: 15\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
    ] {
        cases.push(post(both, body, BAD, Closes));
    }
    cases.push(post("Content-Length: 6\r\nTransfer-Encoding: chunked", "0\r\n\r\nG", BAD, Closes));
    cases
}

pub(super) fn chunks() -> Vec<Case> {
    let long = "x".repeat(20_000);
    let marker = format!("{:x}\r\n{MARKER}\r\n0\r\n\r\n", MARKER.len());
    let mut cases = vec![
        chunked("5\r\nhello\r\n0\r\n\r\n", OK, Lives),
        chunked("0\r\n\r\n", OK, Lives),
        chunked("000\r\n\r\n", OK, Lives),
        chunked("0005\r\nhello\r\n0\r\n\r\n", OK, Lives),
        chunked("A\r\n0123456789\r\n0\r\n\r\n", OK, Lives),
        chunked("a\r\n0123456789\r\n0\r\n\r\n", OK, Lives),
        chunked("2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n", OK, Lives),
        chunked("5;a\r\nhello\r\n0\r\n\r\n", OK, Lives),
        chunked("5;a=b;c=d\r\nhello\r\n0;e\r\n\r\n", OK, Lives),
        chunked("5;a=\"q;\"\r\nhello\r\n0\r\n\r\n", OK, Lives),
        chunked("5 ;a\r\nhello\r\n0\r\n\r\n", OK, Lives),
        chunked("5\t\r\nhello\r\n0\r\n\r\n", OK, Lives),
        chunked("5\r\nhello\r\n0\r\nx: y\r\n\r\n", OK, Lives),
        chunked("5\r\nhello\r\n0\r\nContent-Length: 9\r\nHost: y\r\n\r\n", OK, Lives),
        chunked("5\r\n\r\n0\r\n\r\n0\r\n\r\n", OK, Lives),
        chunked(&marker, OK, Lives),
        // What stands behind is taken for the rest of the chunk, which never comes.
        chunked("fffffffffffffff\r\nhello\r\n0\r\n\r\n", &[408], ClosesLate),
        // A line that is no trailer, and what follows up to an empty line counts as one.
        chunked("5\r\nhello\r\n0\r\n\n", OK, ClosesLate),
        chunked("400\r\nhello\r\n0\r\n\r\n", &[408], ClosesLate),
    ];
    for bad in [
        "\r\nhello\r\n0\r\n\r\n",
        "hello\r\n0\r\n\r\n",
        "5\nhello\r\n0\r\n\r\n",
        "5\rhello\r\n0\r\n\r\n",
        "5\r\r\nhello\r\n0\r\n\r\n",
        "5\n\nhello\r\n0\r\n\r\n",
        "5\r\nhello0\r\n\r\n",
        "5\r\nhello\n0\r\n\r\n",
        "5\r\nhello\r0\r\n\r\n",
        "5\r\nhello\r\r\n0\r\n\r\n",
        "5\r\nhell\r\n0\r\n\r\n",
        "5\r\nhello!\r\n0\r\n\r\n",
        "5\r\nhello\r\n\r\n0\r\n\r\n",
        "-5\r\nhello\r\n0\r\n\r\n",
        "+5\r\nhello\r\n0\r\n\r\n",
        "-0\r\n\r\n",
        " 5\r\nhello\r\n0\r\n\r\n",
        "\t5\r\nhello\r\n0\r\n\r\n",
        "0x5\r\nhello\r\n0\r\n\r\n",
        "x5\r\nhello\r\n0\r\n\r\n",
        "5h\r\nhello\r\n0\r\n\r\n",
        "5_0\r\nhello\r\n0\r\n\r\n",
        "5 5\r\nhello\r\n0\r\n\r\n",
        "5,5\r\nhello\r\n0\r\n\r\n",
        "5\u{0}\r\nhello\r\n0\r\n\r\n",
        "\u{665}\r\nhello\r\n0\r\n\r\n",
        "5;a\nhello\r\n0\r\n\r\n",
        "5;a=\"\n\"\r\nhello\r\n0\r\n\r\n",
        "5;a\rb\r\nhello\r\n0\r\n\r\n",
        "10000000000000005\r\nhello\r\n0\r\n\r\n",
        "ffffffffffffffff1\r\nhello\r\n0\r\n\r\n",
        "fffffffffffffffffffffffff\r\nhello\r\n0\r\n\r\n",
        "5\r\nhello\r\n0\n\r\n",
        "5\r\nhello\r\n0\r\r\n",
        "5\r\nhello\r\n0\r\nno trailer\r\n\r\n",
        "5\r\nhello\r\n0\r\nx : y\r\n\r\n",
        "5\r\nhello\r\n0\r\nx: y\u{0}\r\n\r\n",
    ] {
        cases.push(chunked(bad, BAD, Closes));
    }
    cases.push(chunked(&format!("5;{long}\r\nhello\r\n0\r\n\r\n"), BAD, Closes));
    cases.push(chunked(&format!("5\r\nhello\r\n0\r\nx: {long}{long}\r\n\r\n"), BAD, Closes));
    cases
}

pub(super) fn heads() -> Vec<Case> {
    let many = |count: usize| (0..count).map(|i| format!("h{i}: x\r\n")).collect::<String>();
    let long = "x".repeat(HEAD_BYTES_MAX);
    let mut cases = vec![
        get("X: y", OK, Lives),
        get("X:", OK, Lives),
        get("X: \ty\tz\t", OK, Lives),
        get("X: \u{e9}\u{20ac}", OK, Lives),
        get("!#$%&'*+-.^_`|~: y", OK, Lives),
        case(format!("GET /ping HTTP/1.1\r\nHost: x\r\n{}\r\n", many(99)), OK, Lives),
        case(format!("GET /ping HTTP/1.1\r\nHost: x\r\n{}\r\n", many(100)), LARGE, Closes),
        case(format!("GET /ping HTTP/1.1\r\nHost: x\r\n{}\r\n", many(1_000)), LARGE, Closes),
        get(&format!("X: {long}"), LARGE, Closes),
        get(&format!("{long}: x"), LARGE, Closes),
        get(&format!("X: {long}{long}{long}"), LARGE, Closes),
        // A lone LF ends a line.
        case("GET /ping HTTP/1.1\nHost: x\n\n", OK, Lives),
        case("GET /ping HTTP/1.1\r\nHost: x\n\r\n", OK, Lives),
        case(b"GET /ping HTTP/1.1\r\nHost: x\r\nX: \xff\xfe\r\n\r\n", OK, Lives),
        case(b"GET /ping HTTP/1.1\r\nHost: x\r\n\xff: y\r\n\r\n", BAD, Closes),
    ];
    for bad in [
        "X",
        "X y",
        ": y",
        " : y",
        " X: y",
        "\tX: y",
        "X : y",
        "X\t: y",
        "X y: z",
        "X\u{0}: y",
        "X\u{1}: y",
        "X\u{7f}: y",
        "X(: y",
        "X\": y",
        "X/: y",
        "X@: y",
        "X[: y",
        "X{: y",
        "\u{e9}: y",
        "X: y\u{0}",
        "X: y\u{1}z",
        "X: \u{8}y",
        "X: y\u{b}",
        "X: y\u{1b}[0m",
        "X: y\u{7f}",
        "X: y\rz",
        "X: y\r z",
        "X: y\r\r\nZ: a",
        "X: y\r\n z",
        "X: y\r\n\tz",
        "X: y\r\n : z",
        "X: y\n z",
        "\rX: y",
        "X\r: y",
        "X\r\n: y",
    ] {
        cases.push(get(bad, BAD, Closes));
    }
    cases
}

pub(super) fn request_lines() -> Vec<Case> {
    let long = "x".repeat(HEAD_BYTES_MAX + 8_000);
    let mut cases = vec![
        line("GET /ping HTTP/1.1", OK, Lives),
        line("\r\nGET /ping HTTP/1.1", OK, Lives),
        line("\r\n\r\n\nGET /ping HTTP/1.1", OK, Lives),
        line("GET /ping?a=%zz&b HTTP/1.1", OK, Lives),
        line("GET http://x/ping HTTP/1.1", OK, Lives),
        line("GET HTTP://X:99/ping HTTP/1.1", OK, Lives),
        line("GET https://other.example/ping HTTP/1.1", OK, Lives),
        line("HEAD /no HTTP/1.1", &[404], Lives),
        line("GET /no HTTP/1.1", &[404], Lives),
        line("GET /PING HTTP/1.1", &[404], Lives),
        line("GET /%70ing HTTP/1.1", &[404], Lives),
        line("GET //ping HTTP/1.1", &[404], Lives),
        line("GET /ping/../marker HTTP/1.1", &[404], Lives),
        line("get /ping HTTP/1.1", &[405], Lives),
        line("BREW /ping HTTP/1.1", &[405], Lives),
        line("TRACE /ping HTTP/1.1", &[405], Lives),
        line("OPTIONS /ping HTTP/1.1", &[405], Lives),
        line("OPTIONS * HTTP/1.1", &[404], Lives),
        line("CONNECT x:80 HTTP/1.1", &[405], Closes),
        line("CONNECT /ping HTTP/1.1", &[405], Closes),
        line("CONNECT http://x/ping HTTP/1.1", &[405], Closes),
        head("GET /ping HTTP/1.0", OK, Closes),
        head("GET /ping HTTP/1.0\r\nHost: x\r\nConnection: close", OK, Closes),
        line(&format!("GET /{long} HTTP/1.1"), LARGE, Closes),
        line(&format!("{long} /ping HTTP/1.1"), LARGE, Closes),
        // What stands before HTTP/1.0: the answer says 1.1 all the same.
        case("GET /ping\r\n", BAD, Closes),
        case("GET /ping\n", BAD, Closes),
        case("\u{0}\r\n\r\n", BAD, Closes),
        case("\u{16}\u{3}\u{1}\u{2}\u{0}\u{1}\u{0}\r\n\r\n", BAD, Closes),
        case(b"GET /ping HTTP/1.1\xff\r\nHost: x\r\n\r\n", BAD, Closes),
    ];
    for bad in [
        "GET /ping",
        "GET /ping ",
        "GET",
        "GET ",
        "/ping HTTP/1.1",
        " GET /ping HTTP/1.1",
        "\tGET /ping HTTP/1.1",
        "GET/ping HTTP/1.1",
        "GET  /ping HTTP/1.1",
        "GET /ping  HTTP/1.1",
        "GET\t/ping\tHTTP/1.1",
        "GET /ping\tHTTP/1.1",
        "GET /ping HTTP/1.1 ",
        "GET /ping HTTP/1.1 x",
        "GET /ping HTTP/1.1\r",
        "GET /pi ng HTTP/1.1",
        "GET /pi\u{0}ng HTTP/1.1",
        "GET /pi\u{1}ng HTTP/1.1",
        "GET /pi\u{7f}ng HTTP/1.1",
        "GET /ping HTTP/1.2",
        "GET /ping HTTP/1.10",
        "GET /ping HTTP/11.1",
        "GET /ping HTTP/1",
        "GET /ping HTTP/1.",
        "GET /ping HTTP/0.9",
        "GET /ping HTTP/2.0",
        "GET /ping HTTP/2",
        "GET /ping HTTP/3",
        "GET /ping http/1.1",
        "GET /ping HTTPS/1.1",
        "GET /ping HTTP /1.1",
        "GET /ping XTTP/1.1",
        "GET /ping HTTP/+1.1",
        "GET /ping HTTP/1.1\u{0}",
        "G(T /ping HTTP/1.1",
        "G\u{0}T /ping HTTP/1.1",
        "G\"T /ping HTTP/1.1",
        "\u{e9} /ping HTTP/1.1",
        "GET ping HTTP/1.1",
        "GET x:80 HTTP/1.1",
        "GET * HTTP/1.1",
        "GET ? HTTP/1.1",
        "GET http:// HTTP/1.1",
        "GET http:///ping HTTP/1.1",
        "GET http://u@x/ping HTTP/1.1",
        "GET http://u:p@x/ping HTTP/1.1",
        "GET ftp://x/ping HTTP/1.1",
        "GET http:/ping HTTP/1.1",
        "SM",
        "garbage",
    ] {
        cases.push(line(bad, BAD, Closes));
    }
    cases
}

pub(super) fn hosts() -> Vec<Case> {
    let mut cases = vec![
        head("GET /ping HTTP/1.1", BAD, Closes),
        head("GET /ping HTTP/1.1\r\nHost: x\r\nHost: x", BAD, Closes),
        head("GET /ping HTTP/1.1\r\nHost: x\r\nhost: y", BAD, Closes),
        head("GET /ping HTTP/1.1\r\nHost:\r\nHost: x", BAD, Closes),
        head("GET /ping HTTP/1.0\r\nHost: x\r\nHost: y", BAD, Closes),
        head("GET http://x/ping HTTP/1.1", BAD, Closes),
        head("GET /ping HTTP/1.1\r\nHost:", OK, Lives),
        head("GET /ping HTTP/1.1\r\nHost: x.example:3000", OK, Lives),
        head("GET /ping HTTP/1.1\r\nHost: [::1]:3000", OK, Lives),
        head("GET /ping HTTP/1.1\r\nHost: x\r\nX-Forwarded-Host: y", OK, Lives),
    ];
    for bad in ["x y", "x, y", "x/y", "u@x", "x:y", "x:1:2", "[::1", "x\\y", "x?y", "x#y", "\u{e9}"]
    {
        cases.push(head(&format!("GET /ping HTTP/1.1\r\nHost: {bad}"), BAD, Closes));
    }
    cases
}

pub(super) fn manners() -> Vec<Case> {
    let asked = "Content-Length: 5\r\nExpect: 100-continue";
    let length = format!("Content-Length: {}", MARKER.len());
    let inside = format!("GET /ping HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n{MARKER}");
    let unread = format!("POST /ping HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n{MARKER}");
    let coded = "GET /ping HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n";
    vec![
        post(asked, "hello", &[100, 200], Lives),
        post("Content-Length: 5\r\nExpect: 100-Continue", "hello", &[100, 200], Lives),
        get("Expect: 100-continue", OK, Lives),
        post("Content-Length: 5\r\nExpect: the-unexpected", "hello", &[417], Closes),
        post("Content-Length: 5\r\nExpect:", "hello", &[417], Closes),
        post("Content-Length: 5\r\nExpect: 100-continue, x", "hello", &[417], Closes),
        post(&format!("{asked}\r\nExpect: x"), "hello", &[417], Closes),
        get("Expect: x", &[417], Closes),
        head("GET /ping HTTP/1.0\r\nExpect: x", OK, Closes),
        get("Connection: close", OK, Closes),
        get("Connection: CLOSE", OK, Closes),
        get("Connection: x, close", OK, Closes),
        get("Connection: keep-alive\r\nConnection: close", OK, Closes),
        get("Connection: close\r\nConnection: keep-alive", OK, Closes),
        get("Connection: keep-alive", OK, Lives),
        get("Connection: x", OK, Lives),
        get("Connection: Host, Content-Length", OK, Lives),
        head("GET /ping HTTP/1.0\r\nHost: x\r\nConnection: keep-alive", OK, Lives),
        get(
            "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk",
            OK,
            Lives,
        ),
        get("Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13", OK, Lives),
        get("Upgrade: TLS/1.0", OK, Lives),
        // Bodies that nobody asked for, with a request for data.
        case(inside, OK, Either),
        case(unread, &[405], Either),
        case(format!("{coded}5\r\nhello\r\n0\r\n\r\n"), OK, Either),
        case(format!("{coded}x\r\nhello\r\n0\r\n\r\n"), OK, Closes),
        post(&length, MARKER, OK, Lives),
        // Answers in their order, and nothing behind an error.
        case(PING.repeat(3), &[200, 200, 200], Lives),
        case(format!("{PING}\u{0}garbage\r\n\r\n"), &[200, 400], Closes),
        case(format!("{PING}{PING}GET /ping HTTP/1.1\r\n\r\n{PING}"), &[200, 200, 400], Closes),
        case(format!("{PING}GET / HTTP/9\r\n\r\n{PING}{PING}"), &[200, 400], Closes),
        case(format!("GET /no HTTP/1.1\r\nhost: x\r\n\r\n{PING}"), &[404, 200], Lives),
        case(format!("GET /slow/20 HTTP/1.1\r\nhost: x\r\n\r\n{PING}"), &[200, 200], Lives),
    ]
}
