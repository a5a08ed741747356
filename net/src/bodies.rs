//! Reads request bodies: each within its bounds, and all that are under way within one, so that
//! many slow clients cannot fill the memory.

use crate::body::InBody;
use crate::problem::{Code, Problem};
use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Body;
use std::cell::Cell;
use std::time::Duration;

/// Largest body, in bytes.
pub const BODY_BYTES_MAX: usize = 4 * 1024 * 1024;
/// Longest time that a body may take, in ms.
pub const BODY_MS_MAX: u64 = 30_000;
/// Bytes that have come of bodies that are not complete, in one net core.
pub const BODIES_BYTES_MAX: usize = 128 * 1024 * 1024;

/// The bodies that one net core is reading.
#[derive(Debug)]
pub struct Bodies {
    /// Bytes that may still come.
    left: Cell<usize>,
}

impl Default for Bodies {
    fn default() -> Bodies {
        Bodies { left: Cell::new(BODIES_BYTES_MAX) }
    }
}

/// Bytes of one body; given back when it is complete or abandoned.
struct Held<'b> {
    bodies: &'b Bodies,
    bytes: usize,
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.bodies.left.set(self.bodies.left.get() + self.bytes);
    }
}

impl Held<'_> {
    fn add(&mut self, bytes: usize) -> Result<(), Problem> {
        let left = self.bodies.left.get().checked_sub(bytes);
        let left = left.ok_or_else(|| {
            Problem::new(Code::QueueFull, "too many bodies are on their way; try again")
        })?;
        self.bodies.left.set(left);
        self.bytes += bytes;
        Ok(())
    }
}

impl Bodies {
    /// Reads a whole body, within [`BODY_BYTES_MAX`], [`BODY_MS_MAX`] and what is left for all.
    ///
    /// # Errors
    /// 413 when it is too large, 408 when it is too slow, 400 when it breaks off, 503 when too much
    /// is under way.
    pub async fn read(&self, body: &mut InBody) -> Result<Bytes, Problem> {
        if (BODY_BYTES_MAX as u64) < body.size_hint().lower() {
            return Err(too_large());
        }
        let all = self.collect(body);
        match tokio::time::timeout(Duration::from_millis(BODY_MS_MAX), all).await {
            Ok(read) => read,
            Err(_) => Err(Problem::new(Code::RequestTimeout, "a body must come within 30 s")),
        }
    }

    async fn collect(&self, body: &mut InBody) -> Result<Bytes, Problem> {
        let mut held = Held { bodies: self, bytes: 0 };
        // Most bodies come in one piece, which is given on as it is.
        let (mut first, mut all) = (Bytes::new(), BytesMut::new());
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Problem::new(Code::BadRequest, "the body broke off"))?;
            let Ok(data) = frame.into_data() else { continue };
            if BODY_BYTES_MAX - held.bytes < data.len() {
                return Err(too_large());
            }
            held.add(data.len())?;
            if held.bytes == data.len() {
                first = data;
                continue;
            }
            if all.is_empty() {
                all.extend_from_slice(&first);
            }
            all.extend_from_slice(&data);
        }
        Ok(if all.is_empty() { first } else { all.freeze() })
    }
}

fn too_large() -> Problem {
    Problem::new(Code::TooLarge, "a body has at most 4 MiB")
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn read(bodies: &Bodies, bytes: Vec<u8>) -> Result<usize, Code> {
        let mut body = InBody::Given(Some(bytes.into()));
        bodies.read(&mut body).await.map(|read| read.len()).map_err(|problem| problem.code)
    }

    #[tokio::test]
    async fn one_body_has_a_bound() {
        let bodies = Bodies::default();
        assert_eq!(read(&bodies, vec![b'x'; BODY_BYTES_MAX]).await, Ok(BODY_BYTES_MAX));
        assert_eq!(read(&bodies, vec![b'x'; BODY_BYTES_MAX + 1]).await, Err(Code::TooLarge));
        assert_eq!(read(&bodies, Vec::new()).await, Ok(0));
    }

    #[tokio::test]
    async fn all_together_have_one_and_give_back_what_they_held() {
        let bodies = Bodies { left: Cell::new(10) };
        assert_eq!(read(&bodies, vec![b'x'; 10]).await, Ok(10));
        let mut other = Held { bodies: &bodies, bytes: 0 };
        other.add(6).expect("there is room");
        assert_eq!(read(&bodies, vec![b'x'; 5]).await, Err(Code::QueueFull));
        assert_eq!(read(&bodies, vec![b'x'; 4]).await, Ok(4));
        drop(other);
        assert_eq!(bodies.left.get(), 10);
    }
}
