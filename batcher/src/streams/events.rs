//! Server-sent events (WHATWG HTML, section 9.2) in the pieces of an answer: how many there were, and what the last ones
//! said of tokens. Nothing is kept but the line under way, up to a bound.

use serde::Deserialize;

/// Longest line that is looked into; a longer one counts as an event all the same.
const MOST_LINE_BYTES: usize = 64 << 10;

/// Tokens as a server counts them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Of the prompt.
    pub prompt_tokens: u64,
    /// That were generated.
    pub completion_tokens: u64,
}

/// Reads events out of pieces.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    line_bytes: usize,
    /// The event under way has data.
    has_data: bool,
    /// The last byte was a carriage return: a line feed after it belongs to it.
    after_return: bool,
    usage: Option<Usage>,
    failed: bool,
}

impl Events {
    /// Takes in a piece; how many events with data ended in it. The end mark `[DONE]` is none.
    pub fn push(&mut self, piece: &[u8]) -> usize {
        let mut ended = 0;
        let mut rest = piece;
        while let Some(at) = memchr::memchr2(b'\n', b'\r', rest) {
            let (line, end) = (&rest[..at], rest[at]);
            rest = &rest[at + 1..];
            if std::mem::take(&mut self.after_return) && end == b'\n' && line.is_empty() {
                continue;
            }
            self.after_return = end == b'\r';
            self.extend(line);
            ended += usize::from(self.end_line());
        }
        if !rest.is_empty() {
            self.after_return = false;
            self.extend(rest);
        }
        ended
    }

    /// What the events have said of tokens, the last word.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// An event has told of an error.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    fn extend(&mut self, part: &[u8]) {
        self.line_bytes = self.line_bytes.saturating_add(part.len());
        let room = MOST_LINE_BYTES.saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    /// Whether an event with data ended with this line.
    fn end_line(&mut self) -> bool {
        let bytes = std::mem::take(&mut self.line_bytes);
        if bytes == 0 {
            return std::mem::take(&mut self.has_data);
        }
        if let Some(data) = self.line.strip_prefix(b"data:") {
            let data = data.trim_ascii();
            if data != b"[DONE]" {
                self.has_data = true;
                if bytes <= MOST_LINE_BYTES {
                    self.usage = usage(data).or(self.usage);
                }
                self.failed |= data.starts_with(b"{\"error\"");
            }
        }
        self.line.clear();
        false
    }
}

/// What a JSON document says of tokens: OpenAI's `usage`, also as its responses have it.
pub fn usage(document: &[u8]) -> Option<Usage> {
    #[derive(Deserialize)]
    struct Counts {
        #[serde(alias = "input_tokens")]
        prompt_tokens: Option<u64>,
        #[serde(alias = "output_tokens")]
        completion_tokens: Option<u64>,
    }
    #[derive(Deserialize)]
    struct Response {
        usage: Option<Counts>,
    }
    #[derive(Deserialize)]
    struct Document {
        usage: Option<Counts>,
        response: Option<Response>,
    }
    // Most events tell none: parsing is for those that may.
    memchr::memmem::find(document, b"\"usage\"")?;
    let document: Document = serde_json::from_slice(document).ok()?;
    let counts = document.usage.or_else(|| document.response?.usage)?;
    Some(Usage {
        prompt_tokens: counts.prompt_tokens.unwrap_or(0),
        completion_tokens: counts.completion_tokens.unwrap_or(0),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const STREAM: &str = ": ping\n\ndata: {\"a\":1}\n\ndata: {\"b\":\ndata: 2}\n\nevent: x\r\ndata: 3\r\n\r\n\
        data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7}}\n\ndata: [DONE]\n\n";

    #[test]
    fn events_are_counted_wherever_the_pieces_end() {
        for size in 1..STREAM.len() {
            let mut events = Events::default();
            let ended: usize = STREAM.as_bytes().chunks(size).map(|piece| events.push(piece)).sum();
            assert_eq!(ended, 4, "pieces of {size}");
            let usage = Usage { prompt_tokens: 5, completion_tokens: 7 };
            assert_eq!(events.usage(), Some(usage), "pieces of {size}");
            assert!(!events.has_failed());
        }
    }

    #[test]
    fn the_usage_of_a_response_is_found_too() {
        let mut events = Events::default();
        events.push(b"data: {\"type\":\"response.completed\",\"response\":{\"usage\":{\"input_tokens\":1,\"output_tokens\":2}}}\n\n");
        assert_eq!(events.usage(), Some(Usage { prompt_tokens: 1, completion_tokens: 2 }));
    }

    #[test]
    fn memory_is_bounded_and_a_long_line_is_an_event() {
        let mut events = Events::default();
        assert_eq!(events.push(b"data: "), 0);
        for _ in 0..1000 {
            assert_eq!(events.push(&[b'x'; 4096]), 0);
        }
        assert!(events.line.capacity() <= 2 * MOST_LINE_BYTES);
        assert_eq!(events.push(b"\n\n"), 1);
        assert_eq!(events.push(b"data: {\"error\":{}}\n\n"), 1);
        assert!(events.has_failed());
    }
}
