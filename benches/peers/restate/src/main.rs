//! The service that Restate calls while it is measured: `noop` does nothing, `three` journals three
//! steps that do nothing.
//!
//! How many invocations ran to their end is told to whoever connects to a second address. That
//! count makes the figures honest: the client counts answers, this counts work. It goes past
//! Restate, so that asking costs the rival nothing and does not wait behind its queue.
//!
//! `peer-restate SERVICE_ADDRESS:PORT COUNT_ADDRESS:PORT`

use restate_sdk::prelude::*;
use std::io::Write;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

struct Bench {
    done: Arc<AtomicU64>,
}

impl Bench {
    fn end(&self) -> u64 {
        // ORDER: a plain count, read when nothing runs any more.
        self.done.fetch_add(1, Ordering::Relaxed)
    }
}

#[service]
impl Bench {
    #[handler]
    async fn noop(&self, _context: Context<'_>) -> Result<u64, HandlerError> {
        Ok(self.end())
    }

    #[handler]
    async fn three(&self, context: Context<'_>) -> Result<u64, HandlerError> {
        let mut sum = 0;
        for step in 1..=3_u64 {
            sum += context.run(|| async move { Ok(step) }).await?;
        }
        assert_eq!(sum, 6, "a step's result was not what it gave");
        Ok(self.end())
    }
}

/// Writes the count to each connection, and closes it.
fn tell(listener: &TcpListener, done: &AtomicU64) {
    for stream in listener.incoming().flatten() {
        // ORDER: as above. Whoever went away does not want to know.
        let _ = writeln!(&stream, "{}", done.load(Ordering::Relaxed));
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let addresses: Vec<SocketAddr> =
        std::env::args().skip(1).filter_map(|text| text.parse().ok()).collect();
    let [service, counter] = addresses[..] else {
        eprintln!("usage: peer-restate SERVICE_ADDRESS:PORT COUNT_ADDRESS:PORT");
        std::process::exit(2);
    };
    let done = Arc::new(AtomicU64::new(0));
    let endpoint = Endpoint::builder().bind(Bench { done: Arc::clone(&done) }).build();
    let listener = TcpListener::bind(counter)?;
    std::thread::spawn(move || tell(&listener, &done));
    HttpServer::new(endpoint).listen_and_serve(service).await;
    Ok(())
}
