//! Decoding of compressed request bodies in small steps, so that a small body that expands to a huge one is stopped at
//! the limits, and so that other requests are served between two steps.

use bytes::{BufMut, BytesMut};
use http::{HeaderMap, Response, header};
use sluice_protocol::WireFormat;
use sluice_protocol::grpc::{PREFIX_BYTES, frame_prefix};
use tokio::sync::Semaphore;

use super::Bodies;
use super::inflate::{Coding, Decoder, STEP_OUTPUT_BYTES, Step};
use super::receive::{ReceiveError, Received};
use crate::failure::Failure;
use crate::front::body::FrontBody;
use crate::front::transport::{failed, unknown_coding};
use crate::queue::bytes::QueuedBytes;
use crate::retry_after::RetryAfter;

/// Bodies of more coded bytes than this take turns: after each step of one of them, other tasks run.
const LARGE_BYTES: usize = 64 << 10;

/// Reason for which a body was not decoded.
#[derive(Debug, thiserror::Error)]
pub(in crate::front) enum DecodeError {
    /// The coding is not supported.
    #[error("the content coding {0:?} is not supported; use gzip, deflate or zstd")]
    UnknownCoding(String),
    /// The body is not valid in its coding.
    #[error("the body is not valid {coding}: {reason}")]
    Invalid {
        /// Name of the coding.
        coding: &'static str,
        /// What is wrong with the body.
        reason: String,
    },
    /// The decoded body exceeds a limit.
    #[error("decoded: {0}")]
    Limit(#[from] ReceiveError),
}

impl Bodies {
    /// Decodes a REST body by its `Content-Encoding`, which is removed from the headers.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub(in crate::front) async fn decode(
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

    /// Decodes the message of a gRPC call where it is compressed; returns a body with an uncompressed message.
    ///
    /// # Errors
    /// See [`DecodeError`].
    pub(in crate::front) async fn decode_grpc(
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
        (coded, share): Received,
        decoded: BytesMut,
    ) -> Result<Received, DecodeError> {
        let limit_bytes = self.settings.now().limits.max_body_bytes;
        let memory_bytes = Decoder::memory_bytes(coding, &coded)
            .map_err(|reason| DecodeError::Invalid { coding: coding.name(), reason })?;
        let memory = self.memory.take(memory_bytes);
        let _memory = memory.ok_or(ReceiveError::NoMemory { limit_bytes: self.memory.limit() })?;
        let turns = (coded.len() > LARGE_BYTES).then_some(&self.decoding);
        in_steps(coding, &coded, decoded, share, limit_bytes, turns).await
    }
}

/// Decodes a body and yields to other tasks after each step. `turns` has one permit: however many bodies are decoded at
/// a time, only one of them takes a step before the sockets are polled again.
async fn in_steps(
    coding: Coding,
    coded: &[u8],
    mut decoded: BytesMut,
    mut share: QueuedBytes,
    limit_bytes: usize,
    turns: Option<&Semaphore>,
) -> Result<Received, DecodeError> {
    let invalid = |reason: String| DecodeError::Invalid { coding: coding.name(), reason };
    let mut decoder = Decoder::new(coding, coded).map_err(invalid)?;
    let mut step = vec![0; STEP_OUTPUT_BYTES];
    loop {
        let _turn = match turns {
            Some(turns) => turns.acquire().await.ok(),
            None => None,
        };
        let Step::Wrote(wrote) = decoder.step(&mut step).map_err(invalid)? else { break };
        if decoded.len() + wrote > limit_bytes {
            return Err(ReceiveError::TooLarge { limit_bytes }.into());
        }
        if !share.grow(wrote) {
            return Err(ReceiveError::NoMemory { limit_bytes: share.limit() }.into());
        }
        decoded.put_slice(&step[..wrote]);
        // The permit is held while other tasks run, so that the next body takes its step after the sockets were polled.
        tokio::task::yield_now().await;
    }
    Ok((decoded.freeze(), share))
}

/// Returns the only coding of a body; `None` where it is `identity`.
fn content_coding(headers: &HeaderMap) -> Result<Option<Coding>, DecodeError> {
    let unknown = |name: &str| DecodeError::UnknownCoding(name.chars().take(64).collect());
    let mut found = None;
    for value in headers.get_all(header::CONTENT_ENCODING) {
        let names = value.to_str().map_err(|_| unknown(&String::from_utf8_lossy(value.as_bytes())))?;
        for name in names.split(',').map(str::trim).filter(|name| !name.is_empty()) {
            if name.eq_ignore_ascii_case("identity") {
                continue;
            }
            // No honest client applies two codings one after the other.
            if found.is_some() {
                return Err(unknown(names));
            }
            found = Some(Coding::parse(name).ok_or_else(|| unknown(name))?);
        }
    }
    Ok(found)
}

/// Returns the response to a client whose body was not decoded, and the failure that it reports.
pub(in crate::front) fn undecoded(
    format: WireFormat,
    error: &DecodeError,
    retry_after: RetryAfter,
) -> (Response<FrontBody>, Failure) {
    let failure = match error {
        DecodeError::UnknownCoding(_) => Failure::new(415, error.to_string()),
        DecodeError::Invalid { .. } => Failure::new(400, error.to_string()),
        DecodeError::Limit(limit) => limit.failure(|| retry_after),
    };
    let response = match error {
        DecodeError::UnknownCoding(coding) => unknown_coding(format, coding, &failure),
        DecodeError::Invalid { .. } | DecodeError::Limit(_) => failed(format, &failure),
    };
    (response, failure)
}

#[cfg(test)]
mod tests {
    use std::future::Future;

    use bytes::Bytes;
    use http::HeaderValue;

    use super::*;
    use crate::queue::bytes::ByteBudget;

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

    /// Decodes a body and counts how often another task runs meanwhile.
    async fn turns_of_others(coding: Coding, coded: &[u8]) -> (usize, Result<Bytes, String>) {
        let done = std::cell::Cell::new(false);
        let others = async {
            let mut turns = 0;
            while !done.get() {
                turns += 1;
                tokio::task::yield_now().await;
            }
            turns
        };
        let share = ByteBudget::new(1 << 30).empty(None);
        let decoding = async {
            let decoded = in_steps(coding, coded, BytesMut::new(), share, 64 << 20, None).await;
            done.set(true);
            decoded.map(|(decoded, _)| decoded).map_err(|error| error.to_string())
        };
        tokio::join!(others, decoding)
    }

    #[tokio::test]
    async fn others_are_served_while_much_stands_for_nothing() {
        // Blocks without content: a stored one of deflate has 5 bytes, a raw one of zstd 3.
        let deflate = [&[0x78, 0x9c][..], &[0, 0, 0, 0xff, 0xff].repeat(200_000)].concat();
        let (turns, decoded) = turns_of_others(Coding::Deflate, &deflate).await;
        assert!(decoded.unwrap_err().contains("deflate"), "it has no end");
        assert!(turns >= 200, "{turns} turns for a million bytes");
        let zstd = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 0][..], &[0, 0, 0].repeat(100_000), &[1, 0, 0]].concat();
        let (turns, decoded) = turns_of_others(Coding::Zstd, &zstd).await;
        assert_eq!(decoded, Ok(Bytes::new()));
        assert!(turns >= 3000, "{turns} turns for 100,000 blocks");
    }

    #[tokio::test]
    async fn only_one_large_body_takes_a_step_before_others_are_served() {
        let deflate = [&[0x78, 0x9c][..], &[0, 0, 0, 0xff, 0xff].repeat(20_000)].concat();
        let turns = Semaphore::new(1);
        let budget = ByteBudget::new(1 << 30);
        let one = async || {
            in_steps(Coding::Deflate, &deflate, BytesMut::new(), budget.empty(None), 1 << 20, Some(&turns))
                .await
        };
        let mut all = std::pin::pin!(futures::future::join_all((0..10).map(|_| one())));
        // 10 bodies of 25 steps each, one of which is taken each time that all are looked at.
        let mut looks = 0;
        std::future::poll_fn(|cx| {
            looks += 1;
            all.as_mut().poll(cx)
        })
        .await;
        assert!(looks >= 200, "{looks}");
    }
}
