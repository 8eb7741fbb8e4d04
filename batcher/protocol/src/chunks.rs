//! A body as a list of chunks for a vectored write.

use bytes::Bytes;

/// Bytes below which a piece is copied behind the piece before it: one more entry in a vectored write costs more than the
/// copy.
const COPY_BELOW_BYTES: usize = 512;

/// Builder of a list of chunks: large pieces are shared, and the text between them is written into new chunks.
#[derive(Debug, Default)]
pub(crate) struct Chunks {
    done: Vec<Bytes>,
    done_bytes: usize,
    /// The chunk of text that is being written.
    pub(crate) open: Vec<u8>,
}

impl Chunks {
    /// Creates a list of one piece, which is shared however small it is.
    pub(crate) fn whole(piece: &Bytes) -> Self {
        Self { done: vec![piece.clone()], done_bytes: piece.len(), open: Vec::new() }
    }

    /// Appends a copy of the bytes.
    pub(crate) fn copy(&mut self, bytes: &[u8]) {
        self.open.extend_from_slice(bytes);
    }

    /// Appends a piece without copying it, unless it is small.
    pub(crate) fn share(&mut self, piece: &Bytes) {
        if piece.len() < COPY_BELOW_BYTES {
            self.copy(piece);
        } else {
            self.close();
            self.done_bytes += piece.len();
            self.done.push(piece.clone());
        }
    }

    /// Returns the number of bytes so far.
    pub(crate) fn bytes(&self) -> usize {
        self.done_bytes + self.open.len()
    }

    /// Returns the chunks and the sum of their lengths.
    pub(crate) fn finish(mut self) -> (Vec<Bytes>, usize) {
        self.close();
        (self.done, self.done_bytes)
    }

    fn close(&mut self) {
        if !self.open.is_empty() {
            self.done_bytes += self.open.len();
            self.done.push(Bytes::from(std::mem::take(&mut self.open)));
        }
    }
}
