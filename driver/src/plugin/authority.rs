//! Accepts requests with any `:authority`, because the HTTP/2 server would refuse the kubelet's.
//!
//! The kubelet's gRPC client sends the percent-encoded path of the socket as `:authority`, which is not valid in HTTP
//! and has no meaning on a Unix socket. The server refuses such a request before any of our code sees it. So this
//! module edits the incoming bytes: it replaces a long `:authority` by `localhost` and passes everything else
//! unchanged.

mod header_block;

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tonic::transport::server::Connected;

use header_block::with_authority;

/// Length of the client's preface: `PRI * HTTP/2.0` and so on.
const PREFACE_BYTES: usize = 24;

const FRAME_HEADER_BYTES: usize = 9;

/// Maximum payload of a frame. The server refuses larger ones, because it has not announced that it accepts them.
const MAX_FRAME_BYTES: usize = 16_384;

const TYPE_HEADERS: u8 = 1;
const FLAG_END_HEADERS: u8 = 0x4;
const FLAG_PADDED: u8 = 0x8;
const FLAG_PRIORITY: u8 = 0x20;
const PRIORITY_BYTES: usize = 5;

/// Maximum bytes of one read.
const CHUNK_BYTES: usize = 4096;

/// Editor of the bytes from one client to the server.
#[derive(Debug)]
struct Inbound {
    /// Number of bytes that pass before the next frame begins.
    pass: usize,
    /// Bytes received so far of a frame's header, or of a complete HEADERS frame.
    frame: Vec<u8>,
}

impl Inbound {
    fn new() -> Self {
        Self { pass: PREFACE_BYTES, frame: Vec::new() }
    }

    /// Takes received bytes and appends the bytes for the server to `out`.
    fn push(&mut self, mut bytes: &[u8], out: &mut Vec<u8>) {
        while !bytes.is_empty() {
            if self.pass > 0 {
                let (now, rest) = bytes.split_at(self.pass.min(bytes.len()));
                out.extend_from_slice(now);
                (self.pass, bytes) = (self.pass - now.len(), rest);
                continue;
            }
            let missing = self.wanted_bytes() - self.frame.len();
            let (now, rest) = bytes.split_at(missing.min(bytes.len()));
            self.frame.extend_from_slice(now);
            bytes = rest;
            if self.frame.len() == self.wanted_bytes() {
                if self.frame.len() == FRAME_HEADER_BYTES {
                    self.pass = payload_bytes(&self.frame);
                }
                out.extend(localized(&std::mem::take(&mut self.frame)));
            }
        }
    }

    /// Returns how many bytes of the frame are held back: its header, or all of it if it contains a complete header
    /// block.
    fn wanted_bytes(&self) -> usize {
        if self.frame.len() < FRAME_HEADER_BYTES {
            return FRAME_HEADER_BYTES;
        }
        let payload = payload_bytes(&self.frame);
        // A block that continues in further frames is larger than any kubelet's, and passes unchanged.
        let is_whole = self.frame[3] == TYPE_HEADERS && self.frame[4] & FLAG_END_HEADERS != 0;
        if is_whole && payload <= MAX_FRAME_BYTES { FRAME_HEADER_BYTES + payload } else { FRAME_HEADER_BYTES }
    }
}

/// Returns the length of the payload according to the header of the frame.
fn payload_bytes(frame: &[u8]) -> usize {
    usize::from(frame[0]) << 16 | usize::from(frame[1]) << 8 | usize::from(frame[2])
}

/// Returns a HEADERS frame with its `:authority` replaced; any other frame, and one that cannot be parsed, unchanged.
fn localized(frame: &[u8]) -> Vec<u8> {
    replaced(frame).unwrap_or_else(|| frame.to_vec())
}

fn replaced(frame: &[u8]) -> Option<Vec<u8>> {
    let (header, payload) = frame.split_at_checked(FRAME_HEADER_BYTES)?;
    let flags = header[4];
    let is_padded = flags & FLAG_PADDED != 0;
    let padding = if is_padded { usize::from(*payload.first()?) } else { 0 };
    let priority = if flags & FLAG_PRIORITY != 0 { PRIORITY_BYTES } else { 0 };
    let begin = usize::from(is_padded) + priority;
    let end = payload.len().checked_sub(padding)?;
    let block = with_authority(payload.get(begin..end)?)?;
    let length = u32::try_from(begin + block.len() + padding).ok()?.to_be_bytes();
    Some([&length[1..], &header[3..], &payload[..begin], &block, &payload[end..]].concat())
}

/// Connection whose client may send any authority.
#[derive(Debug)]
pub(crate) struct AnyAuthority<S> {
    stream: S,
    inbound: Inbound,
    /// Bytes for the server. Those before `given` are already read.
    out: Vec<u8>,
    given: usize,
}

impl<S> AnyAuthority<S> {
    /// Wraps a connection from which nothing was read yet.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, inbound: Inbound::new(), out: Vec::new(), given: 0 }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for AnyAuthority<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        while this.given == this.out.len() {
            this.out.clear();
            this.given = 0;
            let mut chunk = [0; CHUNK_BYTES];
            let mut chunk = ReadBuf::new(&mut chunk);
            ready!(Pin::new(&mut this.stream).poll_read(cx, &mut chunk))?;
            if chunk.filled().is_empty() {
                return Poll::Ready(Ok(()));
            }
            this.inbound.push(chunk.filled(), &mut this.out);
        }
        let now = (this.out.len() - this.given).min(buf.remaining());
        buf.put_slice(&this.out[this.given..this.given + now]);
        this.given += now;
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for AnyAuthority<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

impl<S: Connected> Connected for AnyAuthority<S> {
    type ConnectInfo = S::ConnectInfo;

    fn connect_info(&self) -> Self::ConnectInfo {
        self.stream.connect_info()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// Encodes `:method POST` and a literal authority.
    fn block(authority: &str) -> Vec<u8> {
        let length = u8::try_from(authority.len()).unwrap();
        [&[0x83, 0x41, length], authority.as_bytes()].concat()
    }

    #[test]
    fn headers_are_replaced_and_all_else_passes_however_the_bytes_are_cut() {
        let settings = frame(4, 0, &[0; 6]);
        let data = frame(0, 1, &[TYPE_HEADERS; 40]);
        let path = "%2Fvar%2Flib%2Fkubelet%2Fplugins_registry%2Fx.sock";
        let padded = |block: Vec<u8>| [&[3, 0, 0, 0, 0, 9][..], &block, &[0; 3]].concat();
        let stream = |authority: &str| {
            [
                PREFACE,
                &settings,
                &frame(TYPE_HEADERS, FLAG_END_HEADERS, &block(authority)),
                &data,
                &frame(
                    TYPE_HEADERS,
                    FLAG_END_HEADERS | FLAG_PADDED | FLAG_PRIORITY,
                    &padded(block(authority)),
                ),
                &data,
            ]
            .concat()
        };
        let sent = stream(path);
        for cut in 1..sent.len() {
            let (mut inbound, mut out) = (Inbound::new(), Vec::new());
            for chunk in sent.chunks(cut) {
                inbound.push(chunk, &mut out);
            }
            assert_eq!(out, stream("localhost"), "chunks of {cut}");
        }
    }

    #[test]
    fn what_is_no_whole_header_block_passes_as_it_is() {
        let frames = [
            frame(TYPE_HEADERS, 0, &block("%2Fa%2Flong%2Fpath")),
            frame(TYPE_HEADERS, FLAG_END_HEADERS, &[0x41, 0x7f]),
            frame(TYPE_HEADERS, FLAG_END_HEADERS | FLAG_PADDED, &[200, 0x83]),
            frame(TYPE_HEADERS, FLAG_END_HEADERS | FLAG_PADDED, &[]),
            frame(TYPE_HEADERS, FLAG_END_HEADERS, &vec![0x83; MAX_FRAME_BYTES + 1]),
        ];
        let sent = [PREFACE, &frames.concat()].concat();
        let (mut inbound, mut out) = (Inbound::new(), Vec::new());
        inbound.push(&sent, &mut out);
        assert_eq!(out, sent);
    }
}
