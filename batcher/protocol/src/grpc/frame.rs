//! The 5-byte prefix before each gRPC message: a compression flag and a big-endian length.

use bytes::{Buf, Bytes, BytesMut};
use thiserror::Error;

use super::Code;

/// Number of bytes of the prefix.
pub const PREFIX_BYTES: usize = 5;

/// Returns the prefix of an uncompressed message of `message_bytes` bytes.
///
/// # Errors
/// Returns [`FrameError::TooLarge`] for a message of 4 GiB or more.
pub fn frame_prefix(message_bytes: usize) -> Result<[u8; PREFIX_BYTES], FrameError> {
    let length = u32::try_from(message_bytes)
        .map_err(|_| FrameError::TooLarge { bytes: message_bytes, limit: u32::MAX as usize })?;
    let [a, b, c, d] = length.to_be_bytes();
    Ok([0, a, b, c, d])
}

/// Takes the next whole message off `buffer`, without copying it; `None` where more bytes are needed.
///
/// # Errors
/// Returns [`FrameError::Compressed`], [`FrameError::BadFlag`] or [`FrameError::TooLarge`] as soon as the prefix is there.
pub fn next_message(buffer: &mut BytesMut, limit: usize) -> Result<Option<Bytes>, FrameError> {
    let Some(prefix) = buffer.first_chunk::<PREFIX_BYTES>() else { return Ok(None) };
    let bytes = message_length(prefix, limit)?;
    if buffer.len() - PREFIX_BYTES < bytes {
        return Ok(None);
    }
    buffer.advance(PREFIX_BYTES);
    Ok(Some(buffer.split_to(bytes).freeze()))
}

/// Returns the message of a unary call's whole body, without copying it.
///
/// # Errors
/// Fails where the message is compressed, too large, cut off, or followed by more bytes.
pub fn decode_unary(mut body: Bytes, limit: usize) -> Result<Bytes, FrameError> {
    let prefix = body.first_chunk::<PREFIX_BYTES>().ok_or(FrameError::CutOff)?;
    let bytes = message_length(prefix, limit)?;
    body.advance(PREFIX_BYTES);
    match body.len().cmp(&bytes) {
        std::cmp::Ordering::Less => Err(FrameError::CutOff),
        std::cmp::Ordering::Equal => Ok(body),
        std::cmp::Ordering::Greater => Err(FrameError::TrailingBytes),
    }
}

fn message_length(prefix: &[u8; PREFIX_BYTES], limit: usize) -> Result<usize, FrameError> {
    let [flag, a, b, c, d] = *prefix;
    let bytes = u32::from_be_bytes([a, b, c, d]) as usize;
    match flag {
        0 if bytes > limit => Err(FrameError::TooLarge { bytes, limit }),
        0 => Ok(bytes),
        1 => Err(FrameError::Compressed),
        other => Err(FrameError::BadFlag(other)),
    }
}

/// A body that is not one framed message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FrameError {
    /// The message is compressed, which is not supported.
    #[error("compressed gRPC messages are not supported; send them with grpc-encoding: identity")]
    Compressed,
    /// The compression flag is neither 0 nor 1.
    #[error("the gRPC message prefix has flag {0}, which is neither 0 nor 1")]
    BadFlag(u8),
    /// The message is longer than the limit.
    #[error("the gRPC message has {bytes} bytes, the limit is {limit}")]
    TooLarge {
        /// Bytes of the message.
        bytes: usize,
        /// Maximum bytes of a message.
        limit: usize,
    },
    /// The body ends before the message does.
    #[error("the gRPC message is cut off")]
    CutOff,
    /// Bytes follow the only message of a unary call.
    #[error("bytes follow the gRPC message of a unary call")]
    TrailingBytes,
}

impl FrameError {
    /// Returns the gRPC status to answer with.
    pub fn code(&self) -> Code {
        match self {
            Self::Compressed => Code::Unimplemented,
            Self::TooLarge { .. } => Code::ResourceExhausted,
            Self::BadFlag(_) | Self::CutOff | Self::TrailingBytes => Code::Internal,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_are_taken_off_a_stream_one_by_one() {
        let mut buffer = BytesMut::new();
        for message in [&b"abc"[..], b""] {
            buffer.extend_from_slice(&frame_prefix(message.len()).unwrap());
            buffer.extend_from_slice(message);
        }
        buffer.extend_from_slice(&[0, 0, 0]);
        assert_eq!(next_message(&mut buffer, 10).unwrap().unwrap(), "abc");
        assert_eq!(next_message(&mut buffer, 10).unwrap().unwrap(), "");
        assert_eq!(next_message(&mut buffer, 10).unwrap(), None);
    }

    #[test]
    fn a_unary_body_must_be_exactly_one_plain_message() {
        let unary = |bytes: &'static [u8]| decode_unary(Bytes::from_static(bytes), 4);
        assert_eq!(unary(b"\0\0\0\0\x02hi").unwrap(), "hi");
        assert_eq!(unary(b"\x01\0\0\0\x02hi").unwrap_err().code(), Code::Unimplemented);
        assert_eq!(unary(b"\x02\0\0\0\x02hi"), Err(FrameError::BadFlag(2)));
        assert_eq!(unary(b"\0\0\0\0\x02h"), Err(FrameError::CutOff));
        assert_eq!(unary(b"\0\0"), Err(FrameError::CutOff));
        assert_eq!(unary(b"\0\0\0\0\x02hix"), Err(FrameError::TrailingBytes));
        assert_eq!(unary(b"\0\xff\0\0\0hi").unwrap_err().code(), Code::ResourceExhausted);
    }
}
