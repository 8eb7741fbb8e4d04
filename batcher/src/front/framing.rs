//! Strict parser of where requests begin and end in the bytes of an HTTP/1.1 connection. The HTTP library tolerates
//! what RFC 9112 allows to tolerate (bare line feeds, `Content-Length` beside `Transfer-Encoding`, the same length
//! twice). A proxy in front of the batcher may read such bytes differently, and then one client's request hides inside
//! another's. Here such bytes are faults. The library may still refuse bytes that are no fault here; what it accepts has
//! the same boundaries as here, which is tested in `super::strict`.

use memchr::memchr;

/// Maximum bytes of a line that determines where a body or a chunk ends: a longer line is a fault, however many reads it
/// comes in. Of other lines only the first bytes up to this length are kept.
const LINE_BYTES: usize = 256;

/// Bytes of the end of a line, CR LF.
const LINE_END_BYTES: usize = 2;

/// Maximum length that is accepted: sums of larger ones would overflow.
const MAX_BODY_BYTES: u64 = i64::MAX as u64;

/// Fault in the bytes of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A line ends in a line feed alone.
    BareLineFeed,
    /// A header is continued on the next line.
    FoldedHeader,
    /// `Content-Length` is not a number, or occurs twice.
    ContentLength,
    /// `Transfer-Encoding` is not `chunked` alone.
    TransferEncoding,
    /// A request has both `Content-Length` and `Transfer-Encoding`.
    BothLengths,
    /// The size of a chunk is not a hexadecimal number or is on too long a line, or the chunk's data does not end where the
    /// size says.
    ChunkSize,
    /// The connection begins like HTTP/2 but is not.
    Preface,
}

/// Part of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part<'a> {
    /// The end of a request's head.
    Head,
    /// A piece of the body, without chunk sizes and line ends.
    Data(&'a [u8]),
    /// The end of a request.
    End,
}

/// Parser of one connection.
#[derive(Debug)]
pub(super) struct Framing {
    state: State,
    /// The beginning of a line whose end has not arrived yet.
    line: Vec<u8>,
    /// Bytes of that line so far.
    line_bytes: usize,
    /// Whether the last byte of that line was a carriage return.
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
    /// Before the end of the line behind a chunk's data.
    ChunkEnd,
    Trailer,
    /// In the bytes that HTTP/2 begins with; with the number of their lines that have arrived.
    Preface(usize),
    /// The connection speaks HTTP/2, which is not parsed here.
    Opaque,
}

/// The lines that an HTTP/2 connection begins with.
const PREFACE: [&[u8]; 4] = [b"PRI * HTTP/2.0", b"", b"SM", b""];

/// A line without its line end; of a long line only the beginning.
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

    /// Returns whether a request's head has begun and not ended.
    pub(super) fn is_in_head(&self) -> bool {
        match self.state {
            State::Header | State::Preface(_) => true,
            State::RequestLine => self.line_bytes > 0,
            _ => false,
        }
    }

    /// Parses more bytes. Calls `see` with each part that these bytes end or fill, and the position of its end.
    ///
    /// # Errors
    /// Returns the fault and the position of the byte that completes it: the bytes before may be passed on.
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

    /// Returns the maximum bytes of the next line with its line end, which is limited only where the line of a chunk
    /// follows.
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

    /// Parses a line that ends with the bytes `last` and a line feed; returns the parts that end with it.
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
        // The next line uses the same memory.
        self.line = line;
        ended
    }

    /// Moves on behind a whole line; returns the parts that end with it.
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
