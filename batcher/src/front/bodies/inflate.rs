//! Decoders of gzip, deflate and zstd that work in steps. Each step is bounded both by the bytes that it reads and by
//! those that it writes, because a body can consist of parts that decode to nothing and still cost time.

use std::io::{self, BufRead, ErrorKind, Read};

use flate2::bufread::{GzDecoder, ZlibDecoder};
use ruzstd::decoding::{BlockDecodingStrategy, FrameDecoder};

/// Maximum bytes that a step writes.
pub(super) const STEP_OUTPUT_BYTES: usize = 64 << 10;
/// Maximum bytes that a step of gzip or deflate reads. Headers of blocks without content are the most expensive: a few
/// hundred of them take about a millisecond.
const STEP_INPUT_BYTES: usize = 4 << 10;
/// Maximum blocks that a step of zstd reads, each of at most 128 KiB; it ends earlier once it has something to write.
const STEP_BLOCKS: usize = 32;
/// Maximum members of a gzip body. Each costs microseconds, even without content; compressors that write many members
/// (bgzip) put 64 KiB into each.
pub(super) const MAX_MEMBERS: usize = 16_384;
/// Maximum window of a zstd frame: RFC 9659 forbids HTTP senders larger ones.
const ZSTD_WINDOW_BYTES: u64 = 8 << 20;
/// Bytes that a decoder needs besides its window: tables, and the buffer of a step.
const SCRATCH_BYTES: usize = STEP_OUTPUT_BYTES + (64 << 10);

/// Content coding of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    /// RFC 1952.
    Gzip,
    /// RFC 1950 (zlib), which HTTP calls `deflate`.
    Deflate,
    /// RFC 8878.
    Zstd,
}

impl Coding {
    /// Returns the name in `Content-Encoding`.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    /// Parses the name of a coding, in any case; `None` where it is not supported.
    pub(super) fn parse(name: &str) -> Option<Self> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        [Self::Gzip, Self::Deflate, Self::Zstd]
            .into_iter()
            .find(|coding| is(coding.name()))
            .or_else(|| is("x-gzip").then_some(Self::Gzip))
    }
}

/// Result of a step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// The number of bytes that were written; 0 where what was read does not decode to anything, or not yet.
    Wrote(usize),
    /// The whole body is decoded.
    End,
}

/// Decoder of one body.
#[derive(Debug)]
pub(super) struct Decoder<'a>(Kind<'a>);

#[derive(Debug)]
enum Kind<'a> {
    Gzip { decoder: Box<GzDecoder<Sips<'a>>>, members: usize },
    Deflate(Box<ZlibDecoder<Sips<'a>>>),
    Zstd { decoder: Box<Zstd>, rest: &'a [u8] },
}

struct Zstd(FrameDecoder);

impl std::fmt::Debug for Zstd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Zstd").field("blocks", &self.0.blocks_decoded()).finish_non_exhaustive()
    }
}

impl<'a> Decoder<'a> {
    /// Returns the bytes of memory that decoding needs besides its output.
    ///
    /// # Errors
    /// Fails for a zstd body whose header is cut off or whose window is too large.
    pub(super) fn memory_bytes(coding: Coding, coded: &[u8]) -> Result<usize, String> {
        if coding != Coding::Zstd {
            return Ok(SCRATCH_BYTES);
        }
        let window = zstd_window(coded).ok_or("its header is cut off")?;
        if window > ZSTD_WINDOW_BYTES {
            return Err(format!("its window has {window} bytes, the most is {ZSTD_WINDOW_BYTES}"));
        }
        Ok(SCRATCH_BYTES + window as usize)
    }

    /// Creates a decoder at the beginning of `coded`.
    ///
    /// # Errors
    /// Fails where the body's header is not valid, and as [`Decoder::memory_bytes`] does.
    pub(super) fn new(coding: Coding, coded: &'a [u8]) -> Result<Self, String> {
        Self::memory_bytes(coding, coded)?;
        let sips = Sips { rest: coded, left: STEP_INPUT_BYTES };
        Ok(Self(match coding {
            Coding::Gzip => Kind::Gzip { decoder: Box::new(GzDecoder::new(sips)), members: 1 },
            Coding::Deflate => Kind::Deflate(Box::new(ZlibDecoder::new(sips))),
            Coding::Zstd => {
                let mut decoder = FrameDecoder::new();
                let mut rest = coded;
                decoder.init(&mut rest).map_err(|error| error.to_string())?;
                Kind::Zstd { decoder: Box::new(Zstd(decoder)), rest }
            }
        }))
    }

    /// Decodes the next part of the body into `out`.
    ///
    /// # Errors
    /// Fails where the body is not valid in its coding.
    pub(super) fn step(&mut self, out: &mut [u8]) -> Result<Step, String> {
        match &mut self.0 {
            Kind::Gzip { decoder, members } => {
                decoder.get_mut().left = STEP_INPUT_BYTES;
                let step = sip(decoder.as_mut(), out)?;
                let follows = decoder.get_ref().clone();
                if step != Step::End || follows.rest.is_empty() {
                    return Ok(step);
                }
                *members += 1;
                if *members > MAX_MEMBERS {
                    return Err(format!("it has more than {MAX_MEMBERS} members"));
                }
                decoder.reset(follows);
                Ok(Step::Wrote(0))
            }
            Kind::Deflate(decoder) => {
                decoder.get_mut().left = STEP_INPUT_BYTES;
                let step = sip(decoder.as_mut(), out)?;
                nothing_follows(step, decoder.get_ref().rest)
            }
            Kind::Zstd { decoder, rest } => {
                let decoder = &mut decoder.0;
                let mut blocks = 0;
                while decoder.can_collect() == 0 && !decoder.is_finished() && blocks < STEP_BLOCKS {
                    decoder
                        .decode_blocks(&mut *rest, BlockDecodingStrategy::UptoBlocks(1))
                        .map_err(|error| error.to_string())?;
                    blocks += 1;
                }
                if decoder.is_finished() && decoder.can_collect() == 0 {
                    return nothing_follows(Step::End, rest);
                }
                decoder.read(out).map(Step::Wrote).map_err(|error| error.to_string())
            }
        }
    }
}

fn nothing_follows(step: Step, rest: &[u8]) -> Result<Step, String> {
    if step == Step::End && !rest.is_empty() { Err("bytes follow its end".into()) } else { Ok(step) }
}

fn sip(decoder: &mut impl Read, out: &mut [u8]) -> Result<Step, String> {
    match decoder.read(out) {
        Ok(0) => Ok(Step::End),
        Ok(wrote) => Ok(Step::Wrote(wrote)),
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(Step::Wrote(0)),
        Err(error) => Err(error.to_string()),
    }
}

/// Input that blocks, as a socket does, once `left` bytes of it have been read.
#[derive(Debug, Clone)]
struct Sips<'a> {
    rest: &'a [u8],
    left: usize,
}

impl BufRead for Sips<'_> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.left == 0 && !self.rest.is_empty() {
            return Err(ErrorKind::WouldBlock.into());
        }
        Ok(&self.rest[..self.left.min(self.rest.len())])
    }

    fn consume(&mut self, bytes: usize) {
        self.rest = &self.rest[bytes..];
        self.left -= bytes;
    }
}

impl Read for Sips<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.fill_buf()?.read(out)?;
        self.consume(read);
        Ok(read)
    }
}

/// Reads the window's size from the header of a zstd frame (RFC 8878, section 3.1.1.1); a frame without a window needs
/// the size of its content. `None` where the header is cut off. Whether it is a frame at all is left to the decoder.
fn zstd_window(coded: &[u8]) -> Option<u64> {
    let descriptor = *coded.get(4)?;
    if descriptor & 0x20 == 0 {
        let window = *coded.get(5)?;
        let base = 1_u64 << (10 + (window >> 3));
        return Some(base + base / 8 * u64::from(window & 7));
    }
    let at = 5 + [0, 1, 2, 4][usize::from(descriptor & 3)];
    let size_bytes = 1_usize << (descriptor >> 6);
    let size = coded.get(at..at + size_bytes)?;
    let number = size.iter().rev().fold(0_u64, |number, &byte| number << 8 | u64::from(byte));
    Some(if size_bytes == 2 { number + 256 } else { number })
}

#[cfg(test)]
mod tests;
