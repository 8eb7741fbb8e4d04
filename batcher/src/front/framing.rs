//! Where requests begin and end in the bytes of an HTTP/1.1 connection, read strictly. The HTTP library forgives
//! what RFC 9112 allows to forgive (bare line feeds, `Content-Length` beside `Transfer-Encoding`, the same length
//! twice); somebody in front of us may read such bytes differently, and then one client's request hides inside
//! another's. Here they are faults. What is no fault here the library may still refuse; what it takes it has taken
//! with the same boundaries, which `super::strict` is tested for.

use memchr::memchr;

/// Longest line that says where a body or a chunk ends: longer ones are faults, however many reads they come in. Of
/// other lines only so much is looked at, for they need not be known.
const LINE_BYTES: usize = 256;

/// The end of a line.
const LINE_END_BYTES: usize = 2;

/// Lengths beyond are no lengths: sums of them would overflow.
const MAX_BODY_BYTES: u64 = i64::MAX as u64;

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
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
    /// The size of a chunk is no hexadecimal number or has too long a line, or its data does not end where it says.
    ChunkSize,
    /// It begins like HTTP/2, and is not.
    Preface,
}

/// What bytes turned out to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// Here ends the head of a request.
    Head,
    /// A piece of its body, without what frames it.
    Data(&'a [u8]),
    /// Here ends the request.
    End,
}

/// Follows one connection.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    /// The beginning of a line whose end has not come yet.
    line: Vec<u8>,
    /// How long that line is so far.
    line_bytes: usize,
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
    /// In the bytes that HTTP/2 begins with: so many lines of them have come.
    Preface(usize),
    /// HTTP/2.
    Opaque,
}

/// The lines that an HTTP/2 connection begins with.
const PREFACE: [&[u8]; 4] = [b"PRI * HTTP/2.0", b"", b"SM", b""];

/// A line without its end; of a long one only the beginning.
#[derive(Debug, Clone, Copy)]
struct Line<'a> {
    start: &'a [u8],
    is_long: bool,
}

impl Default for Framing {
    fn default() -> Self {
        Self {
            state: State::RequestLine,
            line: Vec::new(),
            line_bytes: 0,
            after_return: false,
            length: None,
            chunked: false,
            first: true,
        }
    }
}

impl Framing {
    /// Returns whether the connection speaks HTTP/2.
    #[allow(dead_code, reason = "asked by the comparison with hyper alone, in tests and under the fuzzer")]
    pub(super) fn is_opaque(&self) -> bool {
        self.state == State::Opaque
    }

    /// Whether a request's head has begun and not ended.
    pub(super) fn is_in_head(&self) -> bool {
        match self.state {
            State::Header | State::Preface(_) => true,
            State::RequestLine => self.line_bytes > 0,
            _ => false,
        }
    }

    /// Reads on. `see` is given each part that ends in these bytes, or fills them, with where it ends.
    ///
    /// # Errors
    /// The fault, and the position of the byte that completes it: what comes before may be passed on.
    pub(super) fn feed(
        &mut self,
        bytes: &[u8],
        mut see: impl FnMut(usize, Part<'_>),
    ) -> Result<(), (usize, Fault)> {
        let mut at = 0;
        while let Some(rest) = bytes.get(at..).filter(|rest| !rest.is_empty()) {
            match self.state {
                State::Opaque => return Ok(()),
                State::Body(left) | State::ChunkData(left) => {
                    let taken = left.min(rest.len() as u64);
                    let is_chunk = matches!(self.state, State::ChunkData(_));
                    self.state = match left - taken {
                        0 if is_chunk => State::ChunkEnd,
                        0 => State::RequestLine,
                        left if is_chunk => State::ChunkData(left),
                        left => State::Body(left),
                    };
                    at += taken as usize;
                    see(at, Part::Data(&rest[..taken as usize]));
                    if self.state == State::RequestLine {
                        see(at, Part::End);
                    }
                }
                _ => {
                    let room = self.longest_line().saturating_sub(self.line_bytes);
                    let within = &rest[..rest.len().min(room)];
                    let Some(end) = memchr(b'\n', within) else {
                        if rest.len() >= room {
                            return Err((at + room.saturating_sub(1), Fault::ChunkSize));
                        }
                        self.remember(rest);
                        return Ok(());
                    };
                    let ended = self.line(&rest[..end]);
                    self.line.clear();
                    (self.line_bytes, self.after_return) = (0, false);
                    let parts = ended.map_err(|fault| (at + end, fault))?;
                    at += end + 1;
                    parts.iter().for_each(|part| see(at, *part));
                }
            }
        }
        Ok(())
    }

    /// Most bytes that a line may have with its end, where only the line of a chunk can follow.
    fn longest_line(&self) -> usize {
        match self.state {
            State::ChunkSize => LINE_BYTES + LINE_END_BYTES,
            State::ChunkEnd => LINE_END_BYTES,
            _ => usize::MAX,
        }
    }

    fn remember(&mut self, part: &[u8]) {
        let room = LINE_BYTES.saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
        self.line_bytes = self.line_bytes.saturating_add(part.len());
        self.after_return = part.last().map_or(self.after_return, |&last| last == b'\r');
    }

    /// A line whose last bytes, before its line feed, are these.
    fn line(&mut self, last: &[u8]) -> Result<&'static [Part<'static>], Fault> {
        if self.line_bytes == 0 {
            let line = last.strip_suffix(b"\r").ok_or(Fault::BareLineFeed)?;
            return self.end_of_line(Line { start: line, is_long: line.len() > LINE_BYTES });
        }
        self.remember(last);
        if !self.after_return {
            return Err(Fault::BareLineFeed);
        }
        let bytes = self.line_bytes - 1;
        let mut line = std::mem::take(&mut self.line);
        line.truncate(bytes);
        let ended = self.end_of_line(Line { start: &line, is_long: bytes > LINE_BYTES });
        // Its memory serves the next line.
        self.line = line;
        ended
    }

    /// The parts that end with a line.
    fn end_of_line(&mut self, line: Line<'_>) -> Result<&'static [Part<'static>], Fault> {
        let is_empty = line.start.is_empty();
        match self.state {
            State::RequestLine => {
                if std::mem::take(&mut self.first) && line.start == PREFACE[0] {
                    self.state = State::Preface(1);
                } else if !is_empty {
                    (self.length, self.chunked) = (None, false);
                    self.state = State::Header;
                }
            }
            State::Preface(lines) => {
                if PREFACE.get(lines) != Some(&line.start) {
                    return Err(Fault::Preface);
                }
                let is_whole = lines + 1 == PREFACE.len();
                self.state = if is_whole { State::Opaque } else { State::Preface(lines + 1) };
            }
            State::Header if is_empty => {
                self.state = match (self.chunked, self.length) {
                    (true, Some(_)) => return Err(Fault::BothLengths),
                    (true, None) => State::ChunkSize,
                    (false, Some(length)) if length > 0 => State::Body(length),
                    (false, _) => State::RequestLine,
                };
                let has_body = self.state != State::RequestLine;
                return Ok(if has_body { &[Part::Head] } else { &[Part::Head, Part::End] });
            }
            State::Header => self.header(line)?,
            State::ChunkSize => {
                let digits =
                    line.start.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii_end();
                self.state = match chunk_size(digits).ok_or(Fault::ChunkSize)? {
                    0 => State::Trailer,
                    size => State::ChunkData(size),
                };
            }
            State::ChunkEnd if is_empty => self.state = State::ChunkSize,
            State::ChunkEnd => return Err(Fault::ChunkSize),
            State::Trailer if is_empty => {
                self.state = State::RequestLine;
                return Ok(&[Part::End]);
            }
            State::Trailer | State::Body(_) | State::ChunkData(_) | State::Opaque => {}
        }
        Ok(&[])
    }

    fn header(&mut self, line: Line<'_>) -> Result<(), Fault> {
        match line.start.first() {
            Some(b' ' | b'\t') => return Err(Fault::FoldedHeader),
            Some(b'c' | b'C' | b't' | b'T') => {}
            _ => return Ok(()),
        }
        let Some(colon) = memchr(b':', line.start) else { return Ok(()) };
        let (name, value) = (&line.start[..colon], line.start[colon + 1..].trim_ascii());
        if name.eq_ignore_ascii_case(b"content-length") {
            let number = std::str::from_utf8(value)
                .ok()
                .filter(|digits| digits.bytes().all(|digit| digit.is_ascii_digit()))
                .and_then(|digits| digits.parse().ok())
                .filter(|&length: &u64| length <= MAX_BODY_BYTES && !line.is_long);
            if number.is_none() || self.length.is_some() {
                return Err(Fault::ContentLength);
            }
            self.length = number;
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if self.chunked || line.is_long || !value.eq_ignore_ascii_case(b"chunked") {
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
mod tests;
