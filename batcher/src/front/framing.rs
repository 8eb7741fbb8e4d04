//! Where requests begin and end in the bytes of an HTTP/1.1 connection, read strictly. The HTTP library forgives
//! what RFC 9112 allows to forgive (bare line feeds, `Content-Length` beside `Transfer-Encoding`, the same length
//! twice); somebody in front of us may read such bytes differently, and then one client's request hides inside
//! another's. Here they are faults.

use memchr::memchr;

/// Longest part of a line that is looked at: no valid length, coding or chunk size is longer.
const LINE_BYTES: usize = 256;

/// Lengths beyond are no lengths: sums of them would overflow.
const MAX_BODY_BYTES: u64 = i64::MAX as u64;

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// A line ends in a line feed alone.
    BareLineFeed,
    /// A header is continued on the next line.
    FoldedHeader,
    /// `Content-Length` is no number, or is there twice.
    ContentLength,
    /// `Transfer-Encoding` is not `chunked` alone.
    TransferEncoding,
    /// Both.
    BothLengths,
    /// The size of a chunk is no hexadecimal number, or its data does not end where it says.
    ChunkSize,
}

/// Follows one connection.
#[derive(Debug)]
pub struct Framing {
    state: State,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// The last byte of it was a carriage return.
    after_return: bool,
    length: Option<u64>,
    chunked: bool,
    first: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before a request, or in its first line.
    RequestLine,
    Header,
    Body(u64),
    ChunkSize,
    ChunkData(u64),
    /// The line end behind a chunk.
    ChunkEnd,
    Trailer,
    /// HTTP/2, or whatever the connection was upgraded to.
    Opaque,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            state: State::RequestLine,
            line: Vec::new(),
            after_return: false,
            length: None,
            chunked: false,
            first: true,
        }
    }
}

impl Framing {
    /// From here on the bytes are not HTTP/1.1.
    pub fn set_opaque(&mut self) {
        self.state = State::Opaque;
    }

    /// Whether the connection speaks HTTP/2 (or was upgraded).
    pub fn is_opaque(&self) -> bool {
        self.state == State::Opaque
    }

    /// Whether a request's head has begun and not ended.
    pub fn is_in_head(&self) -> bool {
        self.state == State::Header || (self.state == State::RequestLine && !self.line.is_empty())
    }

    /// Reads on.
    ///
    /// # Errors
    /// The fault, and the position of the byte that completes it: what comes before may be passed on.
    pub fn feed(&mut self, bytes: &[u8]) -> Result<(), (usize, Fault)> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self.state {
                State::Opaque => return Ok(()),
                State::Body(left) => {
                    let taken = left.min(rest.len() as u64);
                    self.state = if taken == left { State::RequestLine } else { State::Body(left - taken) };
                    at += taken as usize;
                }
                State::ChunkData(left) => {
                    let taken = left.min(rest.len() as u64);
                    self.state = if taken == left { State::ChunkEnd } else { State::ChunkData(left - taken) };
                    at += taken as usize;
                }
                _ => {
                    let Some(end) = memchr(b'\n', rest) else {
                        self.remember(rest);
                        return Ok(());
                    };
                    let last = end.checked_sub(1).map_or(self.after_return, |last| rest[last] == b'\r');
                    let fault = if !last {
                        Err(Fault::BareLineFeed)
                    } else if self.line.is_empty() && !self.after_return {
                        self.end_of_line(&rest[..end - 1])
                    } else {
                        self.remember(&rest[..end]);
                        let mut line = std::mem::take(&mut self.line);
                        if line.last() == Some(&b'\r') {
                            line.pop();
                        }
                        self.end_of_line(&line)
                    };
                    self.line.clear();
                    self.after_return = false;
                    if let Err(fault) = fault {
                        return Err((at + end, fault));
                    }
                    at += end + 1;
                }
            }
        }
        Ok(())
    }

    fn remember(&mut self, part: &[u8]) {
        let room = LINE_BYTES.saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        self.after_return = part.last() == Some(&b'\r');
    }

    /// A line without its end; of a very long one only the beginning.
    fn end_of_line(&mut self, line: &[u8]) -> Result<(), Fault> {
        match self.state {
            State::RequestLine => {
                if std::mem::take(&mut self.first) && line == b"PRI * HTTP/2.0" {
                    self.state = State::Opaque;
                } else if !line.is_empty() {
                    (self.length, self.chunked) = (None, false);
                    self.state = State::Header;
                }
            }
            State::Header if line.is_empty() => {
                self.state = match (self.chunked, self.length) {
                    (true, Some(_)) => return Err(Fault::BothLengths),
                    (true, None) => State::ChunkSize,
                    (false, Some(length)) if length > 0 => State::Body(length),
                    (false, _) => State::RequestLine,
                };
            }
            State::Header => self.header(line)?,
            State::ChunkSize => {
                let digits = line.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
                self.state = match chunk_size(digits).ok_or(Fault::ChunkSize)? {
                    0 => State::Trailer,
                    size => State::ChunkData(size),
                };
            }
            State::ChunkEnd if line.is_empty() => self.state = State::ChunkSize,
            State::ChunkEnd => return Err(Fault::ChunkSize),
            State::Trailer if line.is_empty() => self.state = State::RequestLine,
            State::Trailer | State::Body(_) | State::ChunkData(_) | State::Opaque => {}
        }
        Ok(())
    }

    fn header(&mut self, line: &[u8]) -> Result<(), Fault> {
        match line.first() {
            Some(b' ' | b'\t') => return Err(Fault::FoldedHeader),
            Some(b'c' | b'C' | b't' | b'T') => {}
            _ => return Ok(()),
        }
        let Some(colon) = memchr(b':', line) else { return Ok(()) };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let number = std::str::from_utf8(value)
                .ok()
                .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|&length: &u64| length <= MAX_BODY_BYTES);
            if number.is_none() || self.length.is_some() {
                return Err(Fault::ContentLength);
            }
            self.length = number;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err(Fault::TransferEncoding);
            }
            self.chunked = true;
        }
        Ok(())
    }
}

fn chunk_size(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_hexdigit) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fault(bytes: &[u8]) -> Option<Fault> {
        Framing::default().feed(bytes).err().map(|(_, fault)| fault)
    }

    #[test]
    fn what_two_readers_may_read_differently_is_a_fault() {
        for (bytes, expected) in [
            (&b"GET / HTTP/1.1\nhost: x\r\n\r\n"[..], Fault::BareLineFeed),
            (b"GET / HTTP/1.1\r\nhost: x\n\r\n", Fault::BareLineFeed),
            (b"GET / HTTP/1.1\r\nhost: x\r\n\n", Fault::BareLineFeed),
            (b"GET / HTTP/1.1\r\nx: y\r\n z\r\n\r\n", Fault::FoldedHeader),
            (b"POST / HTTP/1.1\r\ncontent-length: 3\r\nContent-Length: 3\r\n\r\n", Fault::ContentLength),
            (b"POST / HTTP/1.1\r\ncontent-length: 3, 3\r\n\r\n", Fault::ContentLength),
            (b"POST / HTTP/1.1\r\ncontent-length: +3\r\n\r\n", Fault::ContentLength),
            (b"POST / HTTP/1.1\r\ncontent-length: \r\n\r\n", Fault::ContentLength),
            (b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n", Fault::ContentLength),
            (
                b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ncontent-length: 3\r\n\r\n",
                Fault::BothLengths,
            ),
            (
                b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n",
                Fault::BothLengths,
            ),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: xchunked\r\n\r\n", Fault::TransferEncoding),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n", Fault::TransferEncoding),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0x3\r\nabc\r\n", Fault::ChunkSize),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n", Fault::ChunkSize),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n11111111111111111\r\n", Fault::ChunkSize),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n", Fault::ChunkSize),
            (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\nabc\r\n", Fault::BareLineFeed),
        ] {
            assert_eq!(fault(bytes), Some(expected), "{}", String::from_utf8_lossy(bytes));
        }
    }

    #[test]
    fn http2_and_upgraded_connections_are_not_read() {
        let mut framing = Framing::default();
        framing.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\n\n\0").unwrap();
        assert!(framing.is_opaque());
        // Only a connection's first line makes it HTTP/2.
        assert_eq!(fault(b"GET / HTTP/1.1\r\n\r\nPRI * HTTP/2.0\r\n\n"), Some(Fault::BareLineFeed));
    }

    fn request() -> impl Strategy<Value = Vec<u8>> {
        let body = prop::collection::vec(any::<u8>(), 0..60);
        let known = body.clone().prop_map(|body| {
            let mut bytes =
                format!("POST /x HTTP/1.1\r\nhost: a\r\nContent-Length:  {} \r\n\r\n", body.len())
                    .into_bytes();
            bytes.extend_from_slice(&body);
            bytes
        });
        let chunked = prop::collection::vec(body, 0..4).prop_map(|chunks| {
            let mut bytes = b"PUT /y HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nx-y: z\r\n\r\n".to_vec();
            for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
                bytes.extend_from_slice(format!("{:X};name=value\r\n", chunk.len()).as_bytes());
                bytes.extend_from_slice(chunk);
                bytes.extend_from_slice(b"\r\n");
            }
            bytes.extend_from_slice(b"0\r\nx-trailer: 1\r\n\r\n");
            bytes
        });
        let none = Just(b"\r\nGET / HTTP/1.1\r\ntoken: x\r\ncookie: y\r\n\r\n".to_vec());
        prop_oneof![known, chunked, none]
    }

    /// Feeds pieces that end at the cuts; the fault with its position in the whole.
    fn in_pieces(bytes: &[u8], cuts: &[usize]) -> (Option<(usize, Fault)>, Framing) {
        let mut framing = Framing::default();
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
        ends.push(bytes.len());
        ends.sort_unstable();
        let mut start = 0;
        for end in ends {
            if let Err((at, fault)) = framing.feed(&bytes[start..end]) {
                return (Some((start + at, fault)), framing);
            }
            start = end;
        }
        (None, framing)
    }

    proptest! {
        #[test]
        fn valid_requests_pass_however_they_are_cut(
            requests in prop::collection::vec(request(), 1..5),
            cuts in prop::collection::vec(any::<usize>(), 0..12),
        ) {
            let bytes = requests.concat();
            let (fault, framing) = in_pieces(&bytes, &cuts);
            prop_assert_eq!(fault, None);
            prop_assert_eq!(framing.state, State::RequestLine);
            prop_assert!(!framing.is_in_head());
        }

        #[test]
        fn cuts_change_no_verdict_and_nothing_panics(
            mut bytes in request(),
            change in prop::option::of((any::<usize>(), any::<u8>())),
            cuts in prop::collection::vec(any::<usize>(), 0..6),
        ) {
            if let Some((at, byte)) = change {
                let at = at % bytes.len();
                bytes[at] = byte;
            }
            let whole = Framing::default().feed(&bytes).err();
            prop_assert_eq!(in_pieces(&bytes, &cuts).0, whole);
        }
    }
}
