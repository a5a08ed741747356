//! Over real sockets, on port 0, in virtual time.

mod framing;
mod slow;
mod tls;

use super::speak::LocalExecutor;
use super::*;
use crate::admit::turns::Verdict;
use crate::body::OutBody;
use crate::core::Core;
use crate::cost::Costs;
use crate::problem::Problem;
use crate::render::json;
use crate::route::{Access, Response, handler};
use crate::testing::{World, until};
use hyper::{Method, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Bytes of the large answer: more than sockets hold.
const LARGE_BYTES: usize = 24 << 20;

/// A server with a route that answers at once and one that waits for as many ms as it is told.
async fn with_server<Fut: Future<Output = ()>>(
    limits: ServerLimits,
    test: impl FnOnce(std::net::SocketAddr, Rc<Core>, Rc<World>) -> Fut,
) {
    with_tls(None, limits, test).await;
}

/// The same over TLS.
async fn with_tls<Fut: Future<Output = ()>>(
    tls: Option<TlsSource>,
    limits: ServerLimits,
    test: impl FnOnce(std::net::SocketAddr, Rc<Core>, Rc<World>) -> Fut,
) {
    let mut world = World::new(1);
    let router = Rc::get_mut(&mut world.router).expect("nobody else has it");
    router.mount(Method::GET, "/ping", Access::Open, handler(|_| async { Ok(pong()) }));
    let live = handler(|_| async { Ok(pong()) });
    let marker = handler(|_| async { Ok(json(StatusCode::OK, b"\"marker\"".to_vec())) });
    router.mount(Method::GET, "/marker", Access::Open, marker);
    router.mount(Method::GET, "/health/live", Access::Open, live);
    let slow = handler(|request| async move {
        let ms = request.param().parse().map_err(|_| Problem::task_unknown())?;
        tokio::time::sleep(Duration::from_millis(ms)).await;
        Ok(pong())
    });
    router.mount(Method::GET, "/slow/{ms}", Access::Open, slow);
    let body = handler(|mut request| async move {
        let body = request.json().await?;
        Ok(json(StatusCode::OK, format!("{}", body.len()).into()))
    });
    router.mount(Method::POST, "/len", Access::Open, body);
    let large = handler(|_| async { Ok(json(StatusCode::OK, vec![b' '; LARGE_BYTES])) });
    router.mount(Method::GET, "/large", Access::Open, large);
    router.mount(Method::GET, "/certified/ping", Access::Open, handler(|_| async { Ok(pong()) }));
    router.need_certificate("/certified/");
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let addr = listener.local_addr().expect("an address");
    let door = Door { listener, tls };
    let (router, core) = (Rc::clone(&world.router), Rc::clone(&world.core));
    let (world, phase) = (Rc::new(world), core.phase.clone());
    let serving = async {
        let local = tokio::task::LocalSet::new();
        let test = test(addr, core, Rc::clone(&world));
        let served = local.run_until(async {
            let serving = tokio::task::spawn_local(serve(door, router, limits, phase));
            test.await;
            world.orders.set_phase(Phase::Stopping);
            serving.await
        });
        served.await.expect("no panic").expect("served");
    };
    serving.await;
}

fn pong() -> Response {
    json(StatusCode::OK, b"\"pong\"".to_vec())
}

async fn connect(addr: std::net::SocketAddr) -> TcpStream {
    TcpStream::connect(addr).await.expect("connects")
}

/// Reads until the other side closes.
async fn to_end(socket: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset after what was sent is an end as well.
    let _ = socket.read_to_end(&mut bytes).await;
    String::from_utf8_lossy(&bytes).into_owned()
}

async fn sent(addr: std::net::SocketAddr, bytes: &str) -> String {
    let mut socket = connect(addr).await;
    let _ = socket.write_all(bytes.as_bytes()).await;
    to_end(&mut socket).await
}

/// Reads until as many answers have come.
async fn answers(socket: &mut TcpStream, count: usize) -> String {
    let mut text = String::new();
    let mut bytes = [0_u8; 4_096];
    while text.matches("\"pong\"").count() < count {
        let len = socket.read(&mut bytes).await.expect("reads");
        assert!(0 < len, "closed after {text}");
        text += &String::from_utf8_lossy(&bytes[..len]);
    }
    text
}

#[tokio::test(start_paused = true)]
async fn bad_heads_are_refused_and_closed() {
    with_server(ServerLimits::default(), |addr, _, _| async move {
        let many: String = (0..101).map(|i| format!("h{i}: x\r\n")).collect();
        let long = "x".repeat(HEAD_BYTES_MAX);
        for (request, expected) in [
            ("NONSENSE\r\n\r\n".to_owned(), "HTTP/1.1 400"),
            ("GET /ping HTTP/9\r\n\r\n".to_owned(), "HTTP/1.1 400"),
            (format!("GET /ping HTTP/1.1\r\n{many}\r\n"), "HTTP/1.1 431"),
            (format!("GET /ping HTTP/1.1\r\nx: {long}\r\n\r\n"), "HTTP/1.1 431"),
            (
                "GET /ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(),
                "HTTP/1.1 200",
            ),
            ("GET /no HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n".to_owned(), "HTTP/1.1 404"),
        ] {
            let answer = sent(addr, &request).await;
            let shown = &request[..request.len().min(40)];
            assert!(answer.starts_with(expected), "{shown:?}: {answer:?}");
            let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
            assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        }
        let large = "POST /len HTTP/1.1\r\nhost: x\r\ncontent-length: 4194305\r\n\r\n";
        assert!(sent(addr, large).await.starts_with("HTTP/1.1 413"));
    })
    .await;
}

/// A request for a route that is not there, whose head and body (of which `sent` comes) are written
/// apart, with one that is behind it: both answers, as far as they come.
async fn refused_unread(addr: std::net::SocketAddr, header: &str, sent: &[u8]) -> String {
    let mut socket = connect(addr).await;
    let head = format!("POST /no HTTP/1.1\r\nhost: x\r\n{header}\r\n\r\n");
    socket.write_all(head.as_bytes()).await.expect("writes");
    tokio::task::yield_now().await;
    // What is too much is met by an end.
    let _ = socket.write_all(sent).await;
    let _ = socket.write_all(b"GET /ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
    to_end(&mut socket).await
}

#[tokio::test(start_paused = true)]
async fn a_refusal_before_the_body_keeps_the_connection_or_says_that_it_ends() {
    with_server(ServerLimits::default(), |addr, _, _| async move {
        let many = vec![b'x'; 300 << 10];
        let rows: [(&str, &[u8], bool); 6] = [
            ("content-length: 2", b"{}", true),
            ("transfer-encoding: chunked", b"2\r\n{}\r\n0\r\n\r\n", true),
            ("content-length: 20000", &many[..20_000], true),
            ("content-length: 1000", b"{}", false),
            ("content-length: 307200", &many, false),
            ("content-length: 2\r\nexpect: 100-continue", b"", false),
        ];
        for (header, body, is_kept) in rows {
            let answered = refused_unread(addr, header, body).await;
            assert!(answered.starts_with("HTTP/1.1 404"), "{header}: {answered}");
            let (refused, rest) = answered.split_once("\r\n\r\n").expect("a head");
            assert_eq!(!refused.contains("connection: close"), is_kept, "{header}: {answered}");
            assert_eq!(rest.ends_with("\"pong\""), is_kept, "{header}: {answered}");
        }
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn requests_may_be_pipelined() {
    with_server(ServerLimits::default(), |addr, core, _| async move {
        let mut socket = connect(addr).await;
        let request = "GET /ping HTTP/1.1\r\nhost: x\r\n\r\n";
        socket.write_all(request.repeat(16).as_bytes()).await.expect("writes");
        answers(&mut socket, 16).await;
        assert_eq!(core.stats.connections(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn http2_by_prior_knowledge() {
    with_server(ServerLimits::default(), |addr, _, _| async move {
        let io = TokioIo::new(connect(addr).await);
        let executor = LocalExecutor(Rc::new(Costs::new(Default::default())));
        let handshake = hyper::client::conn::http2::handshake(executor, io).await;
        let (mut sender, connection) = handshake.expect("speaks HTTP/2");
        let connection = tokio::task::spawn_local(connection);
        let request = hyper::Request::get("http://x/ping").body(OutBody::empty());
        let response = sender.send_request(request.expect("a request")).await.expect("an answer");
        assert_eq!((response.status().as_u16(), response.version()), (200, hyper::Version::HTTP_2));
        drop((sender, response));
        connection.abort();
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn those_who_dawdle_are_closed() {
    with_server(ServerLimits::default(), |addr, _, _| async move {
        let took = |begun: Instant| begun.elapsed().as_secs();
        let begun = Instant::now();
        assert_eq!(sent(addr, "").await, "");
        assert!(matches!(took(begun), 5..=6), "nothing sent: {}", took(begun));

        let begun = Instant::now();
        assert_eq!(sent(addr, "GET /ping HTTP/1.1\r\nhost:").await, "");
        assert!(matches!(took(begun), 5..=6), "half a head: {}", took(begun));

        let begun = Instant::now();
        assert_eq!(sent(addr, "PR").await, "");
        assert!(matches!(took(begun), 5..=6), "half a preface: {}", took(begun));

        let mut apart = connect(addr).await;
        for piece in ["P", "U", "T /ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"] {
            apart.write_all(piece.as_bytes()).await.expect("writes");
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        assert!(to_end(&mut apart).await.starts_with("HTTP/1.1 405"), "no preface after all");

        let begun = Instant::now();
        let kept = sent(addr, "GET /ping HTTP/1.1\r\nhost: x\r\n\r\n").await;
        assert!(kept.starts_with("HTTP/1.1 200"));
        assert!(matches!(took(begun), 75..=76), "idle: {}", took(begun));

        let begun = Instant::now();
        let slow =
            sent(addr, "GET /slow/100000 HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").await;
        assert!(slow.starts_with("HTTP/1.1 200"), "a long poll is not idle");
        assert!(100 <= took(begun));

        let begun = Instant::now();
        let dripping = "POST /len HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{";
        assert!(sent(addr, dripping).await.starts_with("HTTP/1.1 408"));
        assert!(30 <= took(begun));
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn too_many_connections_are_refused_politely() {
    let limits = ServerLimits { connections_max: 1, ..ServerLimits::default() };
    with_server(limits, |addr, core, _| async move {
        let mut first = connect(addr).await;
        first.write_all(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("writes");
        answers(&mut first, 1).await;
        let refused = sent(addr, "").await;
        assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
        let (head, body) = refused.split_once("\r\n\r\n").expect("a head");
        assert!(head.contains("retry-after: 1"));
        assert!(head.contains(&format!("content-length: {}", body.len())), "{}", body.len());
        assert_eq!(core.stats.connections_refused(), 1);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_drain_serves_what_is_open_and_finishes_what_is_under_way() {
    with_server(ServerLimits::default(), |addr, core, world| async move {
        let mut open = connect(addr).await;
        open.write_all(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("writes");
        answers(&mut open, 1).await;
        world.orders.set_phase(Phase::Draining);
        let mut is_refused = false;
        for _ in 0..1_000 {
            // The kernel takes connections until the server has had its turn to close the listener.
            is_refused |= TcpStream::connect(addr).await.is_err();
            if is_refused {
                break;
            }
            tokio::task::yield_now().await;
        }
        assert!(is_refused, "nothing new");
        open.write_all(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("writes");
        answers(&mut open, 1).await;

        open.write_all(b"GET /slow/1000 HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("writes");
        until(|| core.stats.in_flight() == 1).await;
        world.orders.set_phase(Phase::Stopping);
        let last = to_end(&mut open).await;
        assert!(last.starts_with("HTTP/1.1 200") && last.contains("connection: close"), "{last}");
        drop(open);
        until(|| core.stats.connections() == 0).await;
    })
    .await;
}

/// One submission; the answer's head and body.
async fn submit(socket: &mut TcpStream) -> String {
    let body = r#"{"agent":"echo"}"#;
    let len = body.len();
    let head = format!(
        "POST /v1/tasks HTTP/1.1\r\nhost: x\r\nauthorization: Bearer t:admin\r\ncontent-length: {len}\r\n"
    );
    socket.write_all(format!("{head}\r\n{body}").as_bytes()).await.expect("writes");
    read_some(socket).await
}

async fn get(socket: &mut TcpStream, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\n\r\n");
    socket.write_all(request.as_bytes()).await.expect("writes");
    read_some(socket).await
}

async fn read_some(socket: &mut TcpStream) -> String {
    let mut bytes = vec![0; 4_096];
    let len = socket.read(&mut bytes).await.expect("reads");
    String::from_utf8_lossy(&bytes[..len]).into_owned()
}

#[tokio::test]
async fn a_full_ring_refuses_new_work_and_health_answers() {
    use no_engine::command::Command;
    use no_engine::id::{NetId, PartitionId, ReplyTo, ShardId, TaskId, Token};
    with_server(ServerLimits::default(), |addr, core, _world| async move {
        let task = TaskId::new(0, 0, PartitionId(0));
        let reply = ReplyTo { net: NetId(0), token: Token(0) };
        while core.shards.try_send(ShardId(0), Command::Unwatch { reply, task }).is_ok() {}
        let (mut client, mut probe) = (connect(addr).await, connect(addr).await);
        for _ in 0..3 {
            let refused = submit(&mut client).await;
            assert!(refused.starts_with("HTTP/1.1 503"), "{refused}");
            assert!(refused.contains("\r\nretry-after: 1\r\n"), "{refused}");
            assert!(refused.contains(r#""code":"queue_full""#), "{refused}");
            let live = get(&mut probe, "/health/live").await;
            assert!(live.starts_with("HTTP/1.1 200"), "{live}");
        }
        let refused = core.stats.refused_by_reason();
        assert_eq!(refused[crate::admit::Refused::RingFull as usize], 3);
        assert_eq!(refused.iter().sum::<u64>(), 3);
    })
    .await;
}

#[tokio::test]
async fn many_at_once_all_have_their_turn() {
    with_server(ServerLimits::default(), |addr, core, _world| async move {
        let mut all = Vec::new();
        for _ in 0..crate::admit::turns::TURNS_PER_PASS * 4 {
            let mut socket = connect(addr).await;
            socket.write_all(b"GET /ping HTTP/1.1\r\nhost: x\r\n\r\n").await.expect("writes");
            all.push(socket);
        }
        for socket in &mut all {
            assert!(read_some(socket).await.starts_with("HTTP/1.1 200"));
        }
        assert!(core.admission.turns.is_empty());
    })
    .await;
}

#[tokio::test]
async fn new_work_is_refused_from_a_standing_queue_and_the_rest_is_served() {
    with_server(ServerLimits::default(), |addr, core, _world| async move {
        let refused = core.admission.under(Verdict::Refuse, || crate::admit::new_tasks(&core));
        let problem = refused.expect_err("refused");
        assert_eq!(problem.code.retry_after_s(), Some(1));
        assert!(core.admission.under(Verdict::Refuse, || crate::admit::leases(&core)).is_ok());
        assert!(crate::admit::new_tasks(&core).is_ok(), "the verdict is of one look alone");
        assert!(get(&mut connect(addr).await, "/ping").await.starts_with("HTTP/1.1 200"));
    })
    .await;
}
