//! monoio, on epoll or on io_uring.

use super::parse;
use monoio::io::{AsyncReadRent, AsyncWriteRentExt};
use monoio::net::{TcpListener, TcpStream};
use monoio::{IoUringDriver, LegacyDriver, RuntimeBuilder};
use std::io;
use std::net::SocketAddr;

pub(super) fn serve_epoll(listening: fn(SocketAddr)) -> io::Result<()> {
    RuntimeBuilder::<LegacyDriver>::new().build()?.block_on(serve(listening))
}

pub(super) fn serve_uring(listening: fn(SocketAddr)) -> io::Result<()> {
    RuntimeBuilder::<IoUringDriver>::new().build()?.block_on(serve(listening))
}

async fn serve(listening: fn(SocketAddr)) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    listening(listener.local_addr()?);
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        monoio::spawn(async {
            // A client that goes in the middle of something is of no interest.
            let _ = connection(stream).await;
        });
    }
}

async fn connection(mut stream: TcpStream) -> io::Result<()> {
    let mut pending = Vec::new();
    let (mut read, mut out) = (Vec::with_capacity(16 * 1_024), Vec::new());
    loop {
        let (len, buffer) = stream.read(read).await;
        read = buffer;
        if len? == 0 {
            return Ok(());
        }
        pending.extend_from_slice(&read);
        read.clear();
        if parse::answer(&mut pending, &mut out).is_none() {
            return Ok(());
        }
        let (written, buffer) = stream.write_all(out).await;
        out = buffer;
        out.clear();
        written?;
    }
}
