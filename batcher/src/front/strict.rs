//! Makes the HTTP library strict: it reads only bytes in which [`Framing`] has found no fault; in place of faulty bytes it
//! reads a sequence that it refuses in any state.

use tokio::io::ReadBuf;

use super::framing::{Fault, Framing, Part};

/// Bytes that make the HTTP library answer 400 and close the connection, after the responses to earlier requests: a
/// carriage return followed by a NUL is valid neither in a head nor between chunks. The end of a head follows, because
/// the library may wait for it.
const INVALID: &[u8] = b"\r\0\r\n\r\n";

/// Filter between a connection's bytes and the library.
#[derive(Debug, Default)]
pub(super) struct Strict {
    framing: Framing,
    /// Set once a fault was found: the rest of the bytes that the library reads in place of the connection's.
    poison: Option<&'static [u8]>,
}

impl Strict {
    /// Returns whether a request's head has begun and not ended.
    pub(super) fn is_in_head(&self) -> bool {
        self.poison.is_none() && self.framing.is_in_head()
    }

    /// Returns whether the connection speaks HTTP/2.
    #[allow(dead_code, reason = "asked by the comparison with hyper alone, in tests and under the fuzzer")]
    pub(super) fn is_opaque(&self) -> bool {
        self.framing.is_opaque()
    }

    /// Returns whether a fault was found, so that nothing more is to be read from the connection; to be called before each
    /// read. Then `buf` has been given what the library is to read instead, which is empty at its end.
    pub(super) fn is_over(&mut self, buf: &mut ReadBuf<'_>) -> bool {
        let Some(poison) = self.poison else { return false };
        self.give(poison, buf);
        true
    }

    /// Parses what was read into `buf` behind its first `before` bytes, and replaces everything from a fault on. Calls `see`
    /// with each part of a request and the position of its end.
    ///
    /// # Errors
    /// Returns the fault.
    pub(super) fn inspect(
        &mut self,
        buf: &mut ReadBuf<'_>,
        before: usize,
        see: impl FnMut(usize, Part<'_>),
    ) -> Result<(), Fault> {
        let Err((at, fault)) = self.framing.feed(&buf.filled()[before..], see) else { return Ok(()) };
        buf.set_filled(before + at);
        self.give(INVALID, buf);
        Err(fault)
    }

    fn give(&mut self, poison: &'static [u8], buf: &mut ReadBuf<'_>) {
        let (given, rest) = poison.split_at(poison.len().min(buf.remaining()));
        buf.put_slice(given);
        self.poison = Some(rest);
    }
}

#[cfg(test)]
mod differential;
#[cfg(test)]
mod tests;
