//! Sends one HTTP request over and over at a fixed rate, to nO and to Restate alike, and prints how
//! long each took from the instant at which it was due, not from when a connection was free: a
//! stall of the server counts against it for every request that should have been sent meanwhile
//! (G. Tene, "How NOT to Measure Latency", 2013).
//!
//! One thread a connection, blocking, on purpose: a thread's sleep ends within 0.1 ms, the timers
//! of the usual runtimes within 1 ms, and one millisecond is what is measured here.
//!
//! `drive URL BODY RATE SECONDS CONNECTIONS`; `BEARER` may hold a token. Prints one JSON object.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// What to send, and when.
struct Plan {
    address: String,
    request: Vec<u8>,
    start: Instant,
    interval: Duration,
    requests: u64,
}

/// What came of it: latencies in µs of answers with status 200, and the number of all others.
#[derive(Default)]
struct Outcome {
    latencies_us: Vec<u64>,
    errors: u64,
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((plan, connections)) = plan(&arguments) else {
        eprintln!("usage: drive http://HOST:PORT/PATH BODY RATE SECONDS CONNECTIONS");
        return ExitCode::from(2);
    };
    let next = AtomicU64::new(0);
    let mut total = Outcome::default();
    thread::scope(|scope| {
        let workers: Vec<_> =
            (0..connections).map(|_| scope.spawn(|| connection(&plan, &next))).collect();
        for worker in workers {
            let Ok(outcome) = worker.join() else { continue };
            total.latencies_us.extend(outcome.latencies_us);
            total.errors += outcome.errors;
        }
    });
    print(&mut total, &plan);
    ExitCode::SUCCESS
}

fn plan(arguments: &[String]) -> Option<(Plan, u64)> {
    let [url, body, rate, seconds, connections] = arguments else { return None };
    let (address, path) = url.strip_prefix("http://")?.split_once('/')?;
    let (rate, seconds): (f64, f64) = (rate.parse().ok()?, seconds.parse().ok()?);
    let bearer = std::env::var("BEARER").map(|token| format!("Authorization: Bearer {token}\r\n"));
    // Restate refuses a content type for a handler without input.
    let content = if body.is_empty() { "" } else { "Content-Type: application/json\r\n" };
    let request = format!(
        "POST /{path} HTTP/1.1\r\nHost: {address}\r\n{content}{}Content-Length: {}\r\n\r\n{body}",
        bearer.unwrap_or_default(),
        body.len(),
    );
    let plan = Plan {
        address: address.to_owned(),
        request: request.into_bytes(),
        // Threads and connections come first, then the clock runs.
        start: Instant::now() + Duration::from_millis(200),
        interval: Duration::from_secs_f64(1.0 / rate),
        requests: (rate * seconds) as u64,
    };
    Some((plan, connections.parse().ok()?))
}

/// Takes the next request that is due, again and again, until none is left.
fn connection(plan: &Plan, next: &AtomicU64) -> Outcome {
    let mut outcome = Outcome::default();
    let mut stream = connect(&plan.address).ok();
    loop {
        // ORDER: a counter; nothing else is passed on with it.
        let number = next.fetch_add(1, Ordering::Relaxed);
        if plan.requests <= number {
            return outcome;
        }
        let due_at = plan.start + plan.interval.mul_f64(number as f64);
        thread::sleep(due_at.saturating_duration_since(Instant::now()));
        let answer = match stream.as_mut() {
            Some(stream) => exchange(stream, &plan.request),
            None => Err(io::ErrorKind::NotConnected.into()),
        };
        match answer {
            Ok(200) => outcome.latencies_us.push(due_at.elapsed().as_micros() as u64),
            Ok(_) => outcome.errors += 1,
            Err(_) => {
                outcome.errors += 1;
                stream = connect(&plan.address).ok();
            }
        }
    }
}

fn connect(address: &str) -> io::Result<BufReader<TcpStream>> {
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    Ok(BufReader::new(stream))
}

/// Sends `request`, reads the whole answer, and gives its status.
fn exchange(stream: &mut BufReader<TcpStream>, request: &[u8]) -> io::Result<u16> {
    stream.get_mut().write_all(request)?;
    let (mut line, mut body, mut status) = (String::new(), None, None);
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let text = line.trim_end().to_ascii_lowercase();
        if status.is_none() {
            status = text.split(' ').nth(1).and_then(|code| code.parse().ok());
        } else if let Some(length) = text.strip_prefix("content-length:") {
            body = length.trim().parse::<u64>().ok();
        } else if text.is_empty() {
            break;
        }
    }
    // Both servers give a length; a chunked answer would be a change worth a look.
    let (Some(status), Some(body)) = (status, body) else {
        return Err(io::ErrorKind::InvalidData.into());
    };
    io::copy(&mut stream.take(body), &mut io::sink())?;
    Ok(status)
}

fn print(outcome: &mut Outcome, plan: &Plan) {
    let Outcome { latencies_us, errors } = outcome;
    latencies_us.sort_unstable();
    let at = |share: f64| {
        let rank = (latencies_us.len() as f64 * share).ceil() as usize;
        latencies_us.get(rank.saturating_sub(1)).map_or(f64::NAN, |us| *us as f64 / 1000.0)
    };
    let (p50, p99, max) = (at(0.50), at(0.99), at(1.0));
    let (sent, answered) = (plan.requests, latencies_us.len());
    let counts = format!(r#""sent":{sent},"answered":{answered},"errors":{errors}"#);
    println!(r#"{{{counts},"p50_ms":{p50:.3},"p99_ms":{p99:.3},"max_ms":{max:.3}}}"#);
}
