//! Where a request of HTTP/1 ends, told by as many ways of lying about it as we know.
//!
//! What RFC 9112 says, and what is done here:
//!
//! - 2.2: a lone LF may end a line (it does); a lone CR never does. Empty lines before a request
//!   line are skipped. Anything else that is no request line is 400, and the connection closes.
//! - 3.2: exactly one Host in HTTP/1.1, well-formed, or 400. The absolute form of a target is taken;
//!   the authority form is for CONNECT, the asterisk for OPTIONS. 2.3: versions but 1.0 and 1.1 are
//!   refused (505 or, as here, 400).
//! - 5.1: no blank between a name and its colon: 400. 5.2: folded lines: 400.
//! - 6.1: a coding that we do not know is refused (501, or as here 400), `chunked` is the last and
//!   only one. A request with both a coding and a length may be refused or read by the coding, and
//!   the connection must close: it is refused. A coding in HTTP/1.0 is faulty framing.
//! - 6.3: lengths that differ or are none are 400. The same length twice may count as one: it does.
//! - 7.1: unknown extensions of chunks are skipped; a size that is none, or overflows, or a chunk
//!   without its CRLF ends the connection. 9.6: after `close` nothing more is served.
//! - RFC 9110, 10.1.1: `100-continue` is answered before the body is read; any other expectation is
//!   417. 9.3.6: we are no proxy, CONNECT is 405.
//!
//! Each case goes over a connection of its own, one that served before, and one byte at a time. A
//! marked request stands right behind it, in the same write: where the case must close the
//! connection, the marked one is never served, however the case was read. Some cases carry the mark
//! in their body, where it is data.

mod cases;

use super::*;
use cases::{chunks, codings, heads, hosts, lengths, manners, request_lines};

const MARKER: &str = "GET /marker HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
const PING: &str = "GET /ping HTTP/1.1\r\nhost: x\r\n\r\n";

/// What becomes of the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum End {
    /// The marked request is served.
    Lives,
    /// It is not; the connection closes soon.
    Closes,
    /// It is not; the connection closes when somebody's patience is over.
    ClosesLate,
    /// The case is sound, and either is right: a body that nobody asked for may be read or cut.
    Either,
}
use End::{ClosesLate, Either, Lives};

/// A name, the bytes, the statuses of the answers, the end.
type Case = (String, Vec<u8>, &'static [u16], End);

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Mode {
    Fresh,
    Reused,
    ByteByByte,
}

fn marks(core: &Core) -> u64 {
    let figures = core.stats.figures();
    let marker = figures.iter().find(|route| &*route.pattern == "/marker").expect("mounted");
    marker.by_status.iter().sum()
}

/// The statuses of all answers in a text; no body of ours looks like one.
fn statuses(text: &str) -> Vec<u16> {
    let status = |at: usize| text.get(at + 9..at + 12).and_then(|digits| digits.parse().ok());
    text.match_indices("HTTP/1.").filter_map(|(at, _)| status(at)).collect()
}

/// What is wrong with how a case went.
async fn fault(addr: std::net::SocketAddr, core: &Core, case: &Case, mode: Mode) -> Option<String> {
    let (name, bytes, expected, end) = case;
    let mut socket = connect(addr).await;
    // Else bytes wait for an acknowledgement, which comes in real time.
    socket.set_nodelay(true).expect("a socket");
    if mode == Mode::Reused {
        socket.write_all(PING.as_bytes()).await.expect("writes");
        answers(&mut socket, 1).await;
    }
    let (before, begun) = (marks(core), Instant::now());
    let all = [bytes, MARKER.as_bytes()].concat();
    let size = if mode == Mode::ByteByByte { 1 } else { all.len() };
    for piece in all.chunks(size) {
        // It may be closed by now.
        let _ = socket.write_all(piece).await;
        if mode == Mode::ByteByByte {
            tokio::task::yield_now().await;
        }
    }
    let text = to_end(&mut socket).await;
    let took_ms = begun.elapsed().as_millis();
    let marked = marks(core) - before;
    let mut expected = expected.to_vec();
    let is_alive = *end == Lives || (*end == Either && marked == 1);
    expected.extend(is_alive.then_some(200));
    let took_ms_max = if *end == ClosesLate { 80_000 } else { 3_000 };
    let is_right =
        marked == u64::from(is_alive) && statuses(&text) == expected && took_ms < took_ms_max;
    let told =
        || format!("{name}\n  {mode:?}: not {expected:?} and {end:?} in {took_ms} ms: {text:?}");
    (!is_right).then(told)
}

async fn check_all(cases: Vec<Case>) {
    with_server(ServerLimits::default(), |addr, core, _| async move {
        let mut faults = Vec::new();
        for case in &cases {
            for mode in [Mode::Fresh, Mode::Reused, Mode::ByteByByte] {
                faults.extend(fault(addr, &core, case, mode).await);
            }
        }
        assert!(faults.is_empty(), "{}", faults.join("\n"));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn lengths_are_read_in_one_way() {
    check_all(lengths()).await;
}

#[tokio::test(start_paused = true)]
async fn codings_are_chunked_or_refused() {
    check_all(codings()).await;
}

#[tokio::test(start_paused = true)]
async fn chunks_are_what_they_say() {
    check_all(chunks()).await;
}

#[tokio::test(start_paused = true)]
async fn heads_hold_what_they_may() {
    check_all(heads()).await;
}

#[tokio::test(start_paused = true)]
async fn request_lines_are_well_formed() {
    check_all(request_lines()).await;
}

#[tokio::test(start_paused = true)]
async fn a_host_is_named_once() {
    check_all(hosts()).await;
}

#[tokio::test(start_paused = true)]
async fn expectations_and_connections_are_honoured() {
    check_all(manners()).await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_breaks_off_is_never_served() {
    with_server(ServerLimits::default(), |addr, core, _| async move {
        for (sent, expected) in [
            ("", &[][..]),
            ("GET", &[]),
            ("GET /marker HTTP/1.1\r\nhost: x\r\n", &[]),
            ("GET /marker HTTP/1.1\r\nhost: x\r\n\r", &[]),
            ("POST /len HTTP/1.1\r\nhost: x\r\ncontent-length: 9\r\n\r\n{}", &[400]),
            ("POST /len HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n5\r\nhel", &[400]),
            ("POST /len HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n0\r\n", &[400]),
        ] {
            let mut socket = connect(addr).await;
            socket.write_all(sent.as_bytes()).await.expect("writes");
            socket.shutdown().await.expect("half closed");
            let text = to_end(&mut socket).await;
            assert!(statuses(&text).is_empty() || statuses(&text) == expected, "{sent:?}: {text}");
        }
        assert_eq!(marks(&core), 0);
    })
    .await;
}

#[test]
fn there_are_enough_cases() {
    let all = [lengths(), codings(), chunks(), heads(), request_lines(), hosts(), manners()];
    let count: usize = all.iter().map(Vec::len).sum();
    assert!(150 <= count, "{count}");
}
