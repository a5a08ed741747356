//! glommio, which has io_uring alone.

use super::parse;
use futures_lite::{AsyncReadExt as _, AsyncWriteExt as _};
use glommio::net::{TcpListener, TcpStream};
use glommio::{LocalExecutorBuilder, Placement};
use std::io;
use std::net::SocketAddr;

fn refused(why: glommio::GlommioError<()>) -> io::Error {
    io::Error::other(why.to_string())
}

pub(super) fn serve(listening: fn(SocketAddr)) -> io::Result<()> {
    // The thread is on its core already.
    let executor = LocalExecutorBuilder::new(Placement::Unbound).make().map_err(refused)?;
    executor.run(async {
        let listener = TcpListener::bind("127.0.0.1:0").map_err(refused)?;
        listening(listener.local_addr().map_err(refused)?);
        loop {
            let stream = listener.accept().await.map_err(refused)?;
            stream.set_nodelay(true).map_err(refused)?;
            glommio::spawn_local(async {
                // A client that goes in the middle of something is of no interest.
                let _ = connection(stream).await;
            })
            .detach();
        }
    })
}

async fn connection(mut stream: TcpStream) -> io::Result<()> {
    let (mut pending, mut out) = (Vec::new(), Vec::new());
    let mut read = vec![0; 16 * 1_024];
    loop {
        let len = stream.read(&mut read).await?;
        if len == 0 {
            return Ok(());
        }
        pending.extend_from_slice(&read[..len]);
        if parse::answer(&mut pending, &mut out).is_none() {
            return Ok(());
        }
        stream.write_all(&out).await?;
        out.clear();
    }
}
