//! A model's stream: any chunking gives the same events, the pieces of text are the text, and what
//! came of it can be sent back to the model.

use no_net::out::model::chunk::Assembly;
use no_net::out::model::messages::{self, Piece};
use no_net::out::model::sse::Parser;
use no_ops::sse::Reader;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;

/// Reads an input: the length of the chunks, then the stream.
pub(crate) fn check(data: &[u8]) {
    let Some((len, stream)) = data.split_first() else { return };
    let (at_once, rest_at_once) = events(stream, stream.len().max(1));
    let (by_chunks, rest) = events(stream, usize::from(*len).max(1));
    assert_eq!((&at_once, &rest_at_once), (&by_chunks, &rest), "chunks of {len}");
    as_our_client_reads(stream, &at_once);
    assemble(at_once.iter().chain(&rest));
    // A server that does not stream answers with one document.
    assemble(std::iter::once(&stream.to_vec()));
}

fn events(stream: &[u8], len: usize) -> (Vec<Vec<u8>>, Option<Vec<u8>>) {
    let (mut parser, mut events) = (Parser::default(), Vec::new());
    for chunk in stream.chunks(len) {
        parser.push(chunk, |event| events.push(event)).expect("short enough for any bound");
    }
    (events, parser.finish())
}

/// The client of `no task watch` is another reader; on plain text both agree.
fn as_our_client_reads(stream: &[u8], events: &[Vec<u8>]) {
    let Ok(text) = std::str::from_utf8(stream) else { return };
    if text.contains(['\r', '\u{feff}']) {
        return;
    }
    let mut reader = Reader::default();
    // What stands behind the last line end has not ended.
    let lines = text.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
    let read = lines.filter_map(|line| reader.line(line).expect("short enough"));
    let read: Vec<Vec<u8>> = read.map(|event| event.data.into_bytes()).collect();
    assert_eq!(read, events);
}

fn assemble<'e>(events: impl Iterator<Item = &'e Vec<u8>>) {
    let (mut assembly, mut said) = (Assembly::default(), String::new());
    for event in events.filter(|event| *event != b"[DONE]") {
        match assembly.push(event) {
            Ok(piece) => said.push_str(&piece),
            Err(_) => return,
        }
    }
    let Ok(answer) = assembly.answer("call") else { return };
    assert_eq!(answer.text.as_deref().unwrap_or_default(), said, "the pieces are the text");
    let ids: BTreeSet<_> = answer.tool_calls.iter().map(|call| &*call.id).collect();
    assert_eq!(ids.len(), answer.tool_calls.len(), "two calls of one id: {answer:?}");
    let arguments: Vec<String> =
        answer.tool_calls.iter().map(|call| call.arguments.to_string()).collect();

    // As it is kept, and then sent back.
    let kept: Arc<[u8]> = serde_json::to_vec(&answer).expect("it renders").into();
    let mut context = messages::begin(b"\"hello\"");
    let result: Arc<[u8]> = b"{}".as_slice().into();
    let results = answer
        .tool_calls
        .iter()
        .map(|call| Piece::Tool { call_id: call.id.clone(), result: Arc::clone(&result) });
    let pieces: Vec<Piece> = std::iter::once(Piece::Assistant(kept)).chain(results).collect();
    messages::append(&mut context, &pieces).expect("we wrote it");
    let context = format!("[{}]", String::from_utf8(context).expect("text"));
    let context: Vec<Value> = serde_json::from_str(&context).expect("JSON");
    assert_eq!(context.len(), 2 + arguments.len());
    for (i, arguments) in arguments.iter().enumerate() {
        let sent = &context[1]["tool_calls"][i]["function"]["arguments"];
        assert_eq!(sent, arguments.as_str());
    }
}
