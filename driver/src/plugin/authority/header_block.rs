//! `:authority` in a header block, which HPACK (RFC 7541) encodes. Pure.
//!
//! Only literal values are replaced. Later requests of the connection refer to the table entry that the first one
//! added, and get the replacement from there. It is shorter than the original, so the table never evicts an entry to
//! which the client still refers.

/// Index of `:authority` in the static table.
const AUTHORITY: usize = 1;

/// Replacement of every longer authority.
const REPLACEMENT: &[u8] = b"localhost";

/// Returns the block with the replacement; `None` if it has no authority to replace or cannot be parsed.
pub(super) fn with_authority(block: &[u8]) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(block.len());
    let mut is_replaced = false;
    let mut reader = Reader { block, at: 0 };
    while let Some(first) = block.get(reader.at) {
        let begin = reader.at;
        let (prefix_bits, is_literal) = match first {
            0x80.. => (7, false),     // indexed field
            0x40..0x80 => (6, true),  // literal that is added to the table
            0x20..0x40 => (5, false), // new size of the table
            _ => (4, true),           // literal that is not
        };
        let name = reader.integer(prefix_bits)?;
        if is_literal {
            if name == 0 {
                reader.string()?;
            }
            let value_at = reader.at;
            let value_bytes = reader.string()?;
            if name == AUTHORITY && value_bytes > REPLACEMENT.len() {
                out.extend_from_slice(&block[begin..value_at]);
                // Length of the replacement, without the bit for Huffman coding.
                out.extend(u8::try_from(REPLACEMENT.len()));
                out.extend_from_slice(REPLACEMENT);
                is_replaced = true;
                continue;
            }
        }
        out.extend_from_slice(&block[begin..reader.at]);
    }
    is_replaced.then_some(out)
}

struct Reader<'a> {
    block: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn byte(&mut self) -> Option<u8> {
        let byte = *self.block.get(self.at)?;
        self.at += 1;
        Some(byte)
    }

    /// Reads an integer that begins in the last `prefix_bits` bits of the current byte.
    fn integer(&mut self, prefix_bits: u32) -> Option<usize> {
        let most = (1usize << prefix_bits) - 1;
        let mut value = usize::from(self.byte()?) & most;
        if value < most {
            return Some(value);
        }
        for shift in (0..28).step_by(7) {
            let byte = self.byte()?;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Some(value);
            }
        }
        None
    }

    /// Skips a string and returns its encoded length. Huffman coding is only used where it is shorter, so the text
    /// itself is at least that long.
    fn string(&mut self) -> Option<usize> {
        let bytes = self.integer(7)?;
        self.at = self.at.checked_add(bytes).filter(|end| *end <= self.block.len())?;
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_authority_is_replaced_in_every_way_of_writing_it() {
        let path = b"%2Frun%2Fx.sock";
        let literal = |first: u8| [&[first, 15][..], path].concat();
        let localhost = |first: u8| [&[first, 9][..], b"localhost"].concat();
        // Literals that are added to the table, not added, and never added; :path (index 4) keeps its value.
        for first in [0x41, 0x01, 0x11] {
            let other = [&[0x44, 15][..], path].concat();
            let named = [&[0x40, 1, b'n', 15][..], path].concat();
            let around = |authority: Vec<u8>| {
                [&[0x3f, 0xe1, 0x1f, 0x83][..], &other, &authority, &named, &[0xbe, 0xff, 0x00]].concat()
            };
            assert_eq!(with_authority(&around(literal(first))), Some(around(localhost(first))));
        }
    }

    #[test]
    fn short_absent_and_indexed_authorities_are_left() {
        for block in [&[0x83, 0x86][..], &[0x41, 1, b'x'], &[0x81, 0xbe], &[]] {
            assert_eq!(with_authority(block), None);
        }
    }

    #[test]
    fn a_block_that_ends_too_soon_is_left() {
        let whole = [&[0x41, 15][..], b"%2Frun%2Fx.sock"].concat();
        for end in 0..whole.len() {
            assert_eq!(with_authority(&whole[..end]), None);
        }
        assert_eq!(with_authority(&[0x41, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
