//! Compressed request bodies: decoded step by step, so that a small body that stands for a huge one stops at the
//! limits, and so that others are served between two steps.

use std::io::Read;

use bytes::{BufMut, Bytes, BytesMut};
use flate2::bufread::{MultiGzDecoder, ZlibDecoder};
use http::{HeaderMap, HeaderValue, Response, header};
use ruzstd::decoding::StreamingDecoder;
use sluice_protocol::Form;
use sluice_protocol::grpc::{Code, PREFIX_BYTES, frame_prefix};

use super::Front;
use super::answer::{failed, grpc_status};
use super::body::FrontBody;
use super::receive::{ReceiveError, Received};
use crate::queue::Failure;

/// Bytes that are decoded at a time.
const STEP_BYTES: usize = 64 << 10;
/// Largest window of a zstd frame: RFC 9659 wants no more of an HTTP client.
const ZSTD_WINDOW_BYTES: u64 = 8 << 20;
/// What is understood, for those who sent something else.
const CODINGS: HeaderValue = HeaderValue::from_static("gzip, deflate, zstd");
const GRPC_CODINGS: HeaderValue = HeaderValue::from_static("identity,gzip,deflate");

/// Why a body was not decoded.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// It is coded in a way that is not known here.
    #[error("the body has the coding {0:?}; there are gzip, deflate and zstd")]
    UnknownCoding(String),
    /// It is not what its header says.
    #[error("the body is no valid {coding}: {reason}")]
    Invalid {
        /// As what it was sent.
        coding: &'static str,
        /// Why it is none.
        reason: String,
    },
    /// Decoded, it is beyond a limit.
    #[error("decoded: {0}")]
    Limit(#[from] ReceiveError),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Coding {
    Gzip,
    Deflate,
    Zstd,
}

impl Coding {
    fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Deflate => "deflate",
            Self::Zstd => "zstd",
        }
    }

    fn parse(name: &str) -> Option<Self> {
        let is = |other: &str| name.eq_ignore_ascii_case(other);
        [Self::Gzip, Self::Deflate, Self::Zstd]
            .into_iter()
            .find(|coding| is(coding.name()))
            .or_else(|| is("x-gzip").then_some(Self::Gzip))
    }
}

impl Front {
    /// A REST body as it was before its `Content-Encoding`, which is removed from the headers.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub(super) async fn decode(
        &self,
        headers: &mut HeaderMap,
        received: Received,
    ) -> Result<Received, DecodeError> {
        if !headers.contains_key(header::CONTENT_ENCODING) {
            return Ok(received);
        }
        let Some(coding) = content_coding(headers)? else { return Ok(received) };
        headers.remove(header::CONTENT_ENCODING);
        self.decode_as(coding, received, BytesMut::new()).await
    }

    /// The body of a gRPC call whose message may be compressed, as one whose message is not.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub(super) async fn decode_grpc(
        &self,
        headers: &HeaderMap,
        received: Received,
    ) -> Result<Received, DecodeError> {
        if received.0.first() != Some(&1) || received.0.len() < PREFIX_BYTES {
            return Ok(received);
        }
        let name = headers.get("grpc-encoding").and_then(|value| value.to_str().ok()).unwrap_or("identity");
        let coding = match Coding::parse(name) {
            Some(coding @ (Coding::Gzip | Coding::Deflate)) => coding,
            _ => return Err(DecodeError::UnknownCoding(name.chars().take(64).collect())),
        };
        let (body, share) = received;
        let declared = u32::from_be_bytes([body[1], body[2], body[3], body[4]]) as usize;
        if declared != body.len() - PREFIX_BYTES {
            let reason = "the message's length is not that of the body".to_owned();
            return Err(DecodeError::Invalid { coding: coding.name(), reason });
        }
        let room = BytesMut::from(&[0; PREFIX_BYTES][..]);
        let (decoded, share) = self.decode_as(coding, (body.slice(PREFIX_BYTES..), share), room).await?;
        let mut decoded = decoded.try_into_mut().unwrap_or_else(|shared| BytesMut::from(&shared[..]));
        let prefix = frame_prefix(decoded.len() - PREFIX_BYTES)
            .map_err(|error| DecodeError::Invalid { coding: coding.name(), reason: error.to_string() })?;
        decoded[..PREFIX_BYTES].copy_from_slice(&prefix);
        Ok((decoded.freeze(), share))
    }

    async fn decode_as(
        &self,
        coding: Coding,
        (coded, mut share): Received,
        mut decoded: BytesMut,
    ) -> Result<Received, DecodeError> {
        let limit_bytes = self.settings.now().max_body_bytes;
        let invalid = |reason: String| DecodeError::Invalid { coding: coding.name(), reason };
        let mut decoder = Decoder::new(coding, &coded).map_err(invalid)?;
        let mut step = vec![0; STEP_BYTES];
        loop {
            let read = decoder.read(&mut step).map_err(|error| invalid(error.to_string()))?;
            if read == 0 {
                break;
            }
            if decoded.len() + read > limit_bytes {
                return Err(ReceiveError::TooLarge { limit_bytes }.into());
            }
            if !share.grow(read) {
                return Err(ReceiveError::NoMemory { limit_bytes: self.bytes.limit() }.into());
            }
            decoded.put_slice(&step[..read]);
            tokio::task::yield_now().await;
        }
        if decoder.has_rest() {
            return Err(invalid("bytes follow its end".into()));
        }
        Ok((decoded.freeze(), share))
    }
}

/// The one coding of a body; `None` where it is identity.
fn content_coding(headers: &HeaderMap) -> Result<Option<Coding>, DecodeError> {
    let unknown = |name: &str| DecodeError::UnknownCoding(name.chars().take(64).collect());
    let mut found = None;
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let names = value.to_str().map_err(|_| unknown(&String::from_utf8_lossy(value.as_bytes())))?;
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name.eq_ignore_ascii_case("identity") {
                continue;
            }
            // Two codings after each other serve nobody but those who look for trouble.
            if found.is_some() {
                return Err(unknown(names));
            }
            found = Some(Coding::parse(name).ok_or_else(|| unknown(name))?);
        }
    }
    Ok(found)
}

enum Decoder<'a> {
    Gzip(MultiGzDecoder<&'a [u8]>),
    Deflate(ZlibDecoder<&'a [u8]>),
    Zstd(Box<StreamingDecoder<&'a [u8], ruzstd::decoding::FrameDecoder>>),
}

impl<'a> Decoder<'a> {
    fn new(coding: Coding, coded: &'a Bytes) -> Result<Self, String> {
        Ok(match coding {
            Coding::Gzip => Self::Gzip(MultiGzDecoder::new(coded)),
            Coding::Deflate => Self::Deflate(ZlibDecoder::new(coded)),
            Coding::Zstd => {
                // Its memory is reserved before the first byte is decoded.
                let window = zstd_window(coded).ok_or("its header is cut off")?;
                if window > ZSTD_WINDOW_BYTES {
                    return Err(format!("its window has {window} bytes, the most is {ZSTD_WINDOW_BYTES}"));
                }
                let decoder = StreamingDecoder::new(&coded[..]).map_err(|error| error.to_string())?;
                Self::Zstd(Box::new(decoder))
            }
        })
    }

    fn read(&mut self, step: &mut [u8]) -> std::io::Result<usize> {
        match self {
            Self::Gzip(decoder) => decoder.read(step),
            Self::Deflate(decoder) => decoder.read(step),
            Self::Zstd(decoder) => decoder.read(step),
        }
    }

    /// Whether bytes follow what was decoded. (After gzip they are another member, or an error.)
    fn has_rest(&self) -> bool {
        match self {
            Self::Gzip(_) => false,
            Self::Deflate(decoder) => !decoder.get_ref().is_empty(),
            Self::Zstd(decoder) => !decoder.get_ref().is_empty(),
        }
    }
}

/// The window of a zstd frame by its header (RFC 8878, section 3.1.1.1); without a window of its own a frame has
/// its content's size. `None`: too short. What is no frame at all is left to the decoder.
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

/// The answer to a client whose body was not decoded.
pub fn undecoded(form: Form, error: &DecodeError, retry_after_ms: u64) -> (Response<FrontBody>, Failure) {
    let failure = match error {
        DecodeError::UnknownCoding(_) => Failure::new(415, error.to_string()),
        DecodeError::Invalid { .. } => Failure::new(400, error.to_string()),
        DecodeError::Limit(limit) => limit.failure(|| retry_after_ms),
    };
    let response = match (form, error) {
        (Form::Grpc, DecodeError::UnknownCoding(name)) => {
            let message = format!("messages with grpc-encoding {name:?} are not understood here");
            let mut response = grpc_status(Code::Unimplemented, &message);
            response.headers_mut().insert("grpc-accept-encoding", GRPC_CODINGS);
            response
        }
        (_, DecodeError::UnknownCoding(_)) => {
            let mut response = failed(form, &failure);
            response.headers_mut().insert(header::ACCEPT_ENCODING, CODINGS);
            response
        }
        _ => failed(form, &failure),
    };
    (response, failure)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn coding(values: &[&str]) -> Result<Option<Coding>, String> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(header::CONTENT_ENCODING, HeaderValue::from_str(value).unwrap());
        }
        content_coding(&headers).map_err(|error| error.to_string())
    }

    #[test]
    fn one_coding_is_understood_and_several_are_not() {
        assert_eq!(coding(&["GZIP"]), Ok(Some(Coding::Gzip)));
        assert_eq!(coding(&["x-gzip", "identity"]), Ok(Some(Coding::Gzip)));
        assert_eq!(coding(&["identity"]), Ok(None));
        assert!(coding(&["br"]).unwrap_err().contains("\"br\""));
        assert!(coding(&["gzip, gzip"]).is_err());
        assert!(coding(&["gzip", "zstd"]).is_err());
    }

    #[test]
    fn a_zstd_window_is_known_before_anything_is_decoded() {
        let magic = [0x28, 0xb5, 0x2f, 0xfd];
        let frame = |rest: &[u8]| zstd_window(&[&magic[..], rest].concat());
        assert_eq!(frame(&[0x00, 0x00]), Some(1024));
        assert_eq!(frame(&[0x00, 0x6f]), Some((8 << 20) / 8 * 15), "2^23 and seven eighths of it");
        assert_eq!(frame(&[0x20, 200]), Some(200));
        assert_eq!(frame(&[0x60, 0xff, 0xff]), Some(65_535 + 256));
        assert_eq!(frame(&[0xa3, 9, 9, 9, 9, 0, 0, 0, 0x40]), Some(0x4000_0000));
        assert_eq!(frame(&[0x60, 1]), None);
        assert_eq!(frame(&[]), None);
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_are_an_error_or_end(bytes in prop::collection::vec(any::<u8>(), 0..300), zstd: bool) {
            let mut coded = bytes;
            if zstd {
                coded.splice(0..0, [0x28, 0xb5, 0x2f, 0xfd]);
            }
            let coded = Bytes::from(coded);
            for coding in [Coding::Gzip, Coding::Deflate, Coding::Zstd] {
                let Ok(mut decoder) = Decoder::new(coding, &coded) else { continue };
                let mut step = [0; 4096];
                for _ in 0..10_000 {
                    if !matches!(decoder.read(&mut step), Ok(1..)) {
                        break;
                    }
                }
            }
        }
    }
}
