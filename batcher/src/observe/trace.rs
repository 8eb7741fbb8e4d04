//! Reads and writes `traceparent` headers (W3C Trace Context, section 3.2).

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};

/// Ids of a span and of its trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SpanContext {
    /// Id of the trace; not 0.
    pub trace_id: u128,
    /// Id of the span; not 0.
    pub span_id: u64,
    /// Whether the trace is recorded.
    pub sampled: bool,
}

impl SpanContext {
    /// Parses a `traceparent`. `None` if it is not valid; a new trace begins then, as the standard demands.
    pub fn parse(value: &str) -> Option<Self> {
        let bytes = value.as_bytes();
        let dashes = [2, 35, 52].iter().all(|&at| bytes.get(at) == Some(&b'-'));
        let lower = |part: &str| part.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let part = |from, to| value.get(from..to).filter(|part| lower(part));
        let version = part(0, 2)?;
        // Later versions may add to the end.
        let long_enough = bytes.len() == 55 || (version != "00" && bytes.get(55) == Some(&b'-'));
        if !dashes || version == "ff" || !long_enough {
            return None;
        }
        let trace_id = u128::from_str_radix(part(3, 35)?, 16).ok()?;
        let span_id = u64::from_str_radix(part(36, 52)?, 16).ok()?;
        let flags = u8::from_str_radix(part(53, 55)?, 16).ok()?;
        (trace_id != 0 && span_id != 0).then_some(Self { trace_id, span_id, sampled: flags & 1 == 1 })
    }

    /// Creates the context of the first span of a new trace.
    pub fn root(sampled: bool) -> Self {
        let trace_id = u128::from(random()) << 64 | u128::from(random());
        Self { trace_id, span_id: random(), sampled }
    }

    /// Creates the context of a child of this span.
    pub fn child(self) -> Self {
        Self { span_id: random(), ..self }
    }
}

impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace_id, self.span_id, u8::from(self.sampled))
    }
}

/// Returns a random number that is not 0, from the standard library's hash keys, which differ from call to call. Not
/// for secrets.
pub fn random() -> u64 {
    RandomState::new().build_hasher().finish().max(1)
}

/// Returns true at random, for this share (0 to 1) of calls.
pub fn is_drawn(share: f64) -> bool {
    share >= 1.0 || (random() >> 11) as f64 / (1_u64 << 53) as f64 <= share && share > 0.0
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn only_valid_parents_are_believed() {
        let valid = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context = SpanContext::parse(valid).unwrap();
        assert!(context.sampled);
        assert_eq!(context.to_string(), valid);
        assert!(SpanContext::parse("01-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-new").is_some());
        for invalid in [
            "",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-0",
            "00_0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333é-1",
        ] {
            assert_eq!(SpanContext::parse(invalid), None, "{invalid}");
        }
    }

    #[test]
    fn a_share_is_drawn() {
        assert!((0..100).all(|_| is_drawn(1.0)) && !(0..100).any(|_| is_drawn(0.0)));
        let drawn = (0..10_000).filter(|_| is_drawn(0.5)).count();
        assert!((4000..6000).contains(&drawn), "{drawn}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read_back(trace_id in 1_u128.., span_id in 1_u64.., sampled: bool) {
            let context = SpanContext { trace_id, span_id, sampled };
            prop_assert_eq!(SpanContext::parse(&context.to_string()), Some(context));
        }

        #[test]
        fn arbitrary_text_never_panics(text in "\\PC{0,70}") {
            let _ = SpanContext::parse(&text);
        }
    }
}
