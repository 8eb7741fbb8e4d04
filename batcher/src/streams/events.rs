//! Parses server-sent events (WHATWG HTML, section 9.2) in the pieces of an answer: counts them, and reads the usage
//! that they report. Keeps only the current line, up to a limit.

use serde::Deserialize;

/// Maximum length of a line that is searched for usage; a longer one still counts as data of an event.
const MOST_LINE_BYTES: usize = 64 << 10;

/// Token counts that a server reports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens of the prompt.
    pub prompt_tokens: u64,
    /// Tokens that were generated.
    pub completion_tokens: u64,
}

/// Incremental parser of server-sent events.
#[derive(Debug, Default)]
pub struct Events {
    line: Vec<u8>,
    line_bytes: usize,
    /// Whether the current event has data.
    has_data: bool,
    /// Whether the last byte was a carriage return: a line feed after it belongs to the same line end.
    after_return: bool,
    usage: Option<Usage>,
    failed: bool,
}

impl Events {
    /// Parses a piece; returns the number of events with data that ended in it. The end mark `[DONE]` does not count.
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

    /// Returns the last usage that an event reported.
    pub fn usage(&self) -> Option<Usage> {
        self.usage
    }

    /// Returns whether an event reported an error.
    pub fn has_failed(&self) -> bool {
        self.failed
    }

    fn extend(&mut self, part: &[u8]) {
        self.line_bytes = self.line_bytes.saturating_add(part.len());
        let room = MOST_LINE_BYTES.saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    /// Ends the current line; returns whether it ended an event with data.
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

/// Returns the `usage` of a JSON document in OpenAI's format, at the top level or inside `response`.
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
    // Most events report no usage, so only those that may are parsed.
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
