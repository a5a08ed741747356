//! Clients that take their time on purpose (what `slowhttptest` does with -H, -B and -X): others are
//! served meanwhile, and each slow one is cut when its time is over, so that no table stays full.
//!
//! In virtual time: the slow ones send or read a little every few seconds for ever.

use super::*;
use tokio::net::TcpSocket;

/// Slow clients of one kind.
const SLOW: usize = 20;
const GET_PING: &str = "GET /ping HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";

/// Sends `start`, then `more` every `every_ms`, until the other side closes; after how many ms it
/// did, and what it said.
async fn drip(
    addr: std::net::SocketAddr,
    start: &'static str,
    more: &'static str,
    every_ms: u64,
) -> (u64, String) {
    let (mut socket, begun) = (connect(addr).await, Instant::now());
    socket.set_nodelay(true).expect("a socket");
    socket.write_all(start.as_bytes()).await.expect("writes");
    let mut text = Vec::new();
    let mut bytes = [0_u8; 1_024];
    loop {
        tokio::select! {
            read = socket.read(&mut bytes) => match read {
                Ok(len) if 0 < len => text.extend_from_slice(&bytes[..len]),
                _ => break,
            },
            () = tokio::time::sleep(Duration::from_millis(every_ms)) => {
                let _ = socket.write_all(more.as_bytes()).await;
            }
        }
    }
    (begun.elapsed().as_millis() as u64, String::from_utf8_lossy(&text).into_owned())
}

/// Asks for the large answer and reads it by the byte; after how many ms it was cut, and how much
/// had come.
async fn sip(addr: std::net::SocketAddr, every_ms: u64) -> (u64, usize) {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(4_096).expect("a small window");
    let mut socket = socket.connect(addr).await.expect("connects");
    let begun = Instant::now();
    let request = "GET /large HTTP/1.1\r\nhost: x\r\n\r\n";
    socket.write_all(request.as_bytes()).await.expect("writes");
    let mut byte = [0_u8; 1];
    let mut came = 0;
    while begun.elapsed() < Duration::from_secs(120) {
        match socket.read(&mut byte).await {
            Ok(1) => came += 1,
            _ => break,
        }
        tokio::time::sleep(Duration::from_millis(every_ms)).await;
        // What is in the client's own buffer can be read after the server has gone.
        if socket.write_all(b"\r\n").await.is_err() {
            break;
        }
    }
    (begun.elapsed().as_millis() as u64, came)
}

/// Runs so many slow clients, and others beside them all the while; how the slow ones ended.
async fn beside<T: 'static, Fut: Future<Output = T> + 'static>(
    addr: std::net::SocketAddr,
    slow: impl Fn() -> Fut,
) -> Vec<T> {
    let all: Vec<_> = (0..SLOW).map(|_| tokio::task::spawn_local(slow())).collect();
    for _ in 0..100 {
        let begun = Instant::now();
        let answer = sent(addr, GET_PING).await;
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        // Virtual time stands still while anybody has work.
        assert!(begun.elapsed() < Duration::from_millis(600), "{:?}", begun.elapsed());
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let mut ends = Vec::new();
    for one in all {
        ends.push(one.await.expect("no panic"));
    }
    ends
}

#[tokio::test(start_paused = true)]
async fn slow_heads_are_cut_and_others_are_served() {
    with_server(ServerLimits::default(), |addr, core, _| async move {
        let slow = || drip(addr, "GET /ping HTTP/1.1\r\nhost: x\r\n", "x-a: b\r\n", 1_000);
        for (took_ms, text) in beside(addr, slow).await {
            assert!(text.is_empty() && (5_000..=7_000).contains(&took_ms), "{took_ms}: {text}");
        }
        // The second request of a connection has no more time than the first.
        let slow = || drip(addr, "GET /ping HTTP/1.1\r\nhost: x\r\n\r\nGET", "x", 1_000);
        for (took_ms, text) in beside(addr, slow).await {
            assert!(text.starts_with("HTTP/1.1 200"), "{text}");
            assert!((5_000..=7_000).contains(&took_ms), "{took_ms}");
        }
        until(|| core.stats.connections() == 0).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn slow_bodies_are_cut_and_others_are_served() {
    with_server(ServerLimits::default(), |addr, core, _| async move {
        let sized = "POST /len HTTP/1.1\r\nhost: x\r\ncontent-length: 100000\r\n\r\n{";
        let chunked = "POST /len HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
        for (start, more) in [(sized, " "), (chunked, "1\r\n \r\n")] {
            for (took_ms, text) in beside(addr, || drip(addr, start, more, 900)).await {
                assert!(text.starts_with("HTTP/1.1 408"), "{text}");
                assert!((30_000..=32_000).contains(&took_ms), "{took_ms}");
            }
        }
        until(|| core.stats.connections() == 0).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn slow_readers_are_cut_and_others_are_served() {
    with_server(ServerLimits::default(), |addr, core, _| async move {
        for (took_ms, came) in beside(addr, || sip(addr, 900)).await {
            assert!((30_000..=40_000).contains(&took_ms), "{took_ms} ms, {came} bytes");
            assert!(came < LARGE_BYTES);
        }
        until(|| core.stats.connections() == 0).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn slow_clients_do_not_fill_the_table_for_ever() {
    let limits = ServerLimits { connections_max: SLOW, ..ServerLimits::default() };
    with_server(limits, |addr, core, _| async move {
        let slow = || drip(addr, "GET /ping HTTP/1.1\r\n", "x-a: b\r\n", 1_000);
        let all: Vec<_> = (0..SLOW).map(|_| tokio::task::spawn_local(slow())).collect();
        until(|| core.stats.connections() == SLOW as u64).await;
        assert!(sent(addr, GET_PING).await.starts_with("HTTP/1.1 503"));
        for one in all {
            one.await.expect("no panic");
        }
        until(|| core.stats.connections() == 0).await;
        assert!(sent(addr, GET_PING).await.starts_with("HTTP/1.1 200"));
    })
    .await;
}
