//! The least that is HTTP: whole heads without a body, one fixed answer each. For runtimes that
//! bring no HTTP of their own; less than hyper does, which is to their advantage.

use super::BODY;

/// Headers that are looked at, as in hyper.
const HEADERS_MAX: usize = 100;

/// Takes every whole request off the front of `input` and puts its answer into `out`. `None` when
/// what stands there is no HTTP.
pub(super) fn answer(input: &mut Vec<u8>, out: &mut Vec<u8>) -> Option<()> {
    let mut taken = 0;
    loop {
        let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
        let mut request = httparse::Request::new(&mut headers);
        match request.parse(&input[taken..]) {
            Ok(httparse::Status::Complete(len)) => taken += len,
            Ok(httparse::Status::Partial) => break,
            Err(_) => return None,
        }
        out.extend_from_slice(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n");
        out.extend_from_slice(b"content-length: 53\r\n\r\n");
        out.extend_from_slice(BODY.as_bytes());
    }
    input.drain(..taken);
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_requests_are_answered_and_the_rest_waits() {
        let mut input = b"GET /a HTTP/1.1\r\nhost: x\r\n\r\nGET /b HTTP/1.1\r\n\r\nGET /c".to_vec();
        let mut out = Vec::new();
        answer(&mut input, &mut out).expect("HTTP");
        let text = String::from_utf8(out).expect("text");
        assert_eq!(text.matches("HTTP/1.1 200 OK\r\n").count(), 2);
        assert_eq!(text.matches(BODY).count(), 2);
        assert_eq!(input, b"GET /c");
        assert_eq!(answer(&mut b"\x01\x02\r\n\r\n".to_vec(), &mut Vec::new()), None);
    }
}
