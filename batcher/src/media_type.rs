//! Media types of bodies, as `Content-Type` names them: compared as a whole, without regard to case and parameters.

use http::{HeaderMap, header};

/// Prefix of the media types of gRPC and of those that look like them.
const GRPC: &[u8] = b"application/grpc";

/// Kind of a body with regard to gRPC.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Grpc {
    /// Not gRPC.
    No,
    /// `application/grpc` or `application/grpc+proto`: messages that can be read here.
    Proto,
    /// `application/grpc+…`: messages in another coding, which the model server may know.
    OtherCoding,
    /// A type with the same beginning that is not gRPC: gRPC-Web, or an unknown type.
    Lookalike,
}

/// Returns whether a body is gRPC. A body without a type is not.
pub fn grpc(headers: &HeaderMap) -> Grpc {
    let essence = essence(headers);
    let Some((start, rest)) = essence.split_at_checked(GRPC.len()) else { return Grpc::No };
    if !start.eq_ignore_ascii_case(GRPC) {
        return Grpc::No;
    }
    match rest {
        [] => Grpc::Proto,
        [b'+', coding @ ..] if coding.eq_ignore_ascii_case(b"proto") => Grpc::Proto,
        [b'+', _, ..] => Grpc::OtherCoding,
        _ => Grpc::Lookalike,
    }
}

/// Returns whether a body has this media type.
pub fn is(headers: &HeaderMap, media_type: &str) -> bool {
    essence(headers).eq_ignore_ascii_case(media_type.as_bytes())
}

/// Returns the media type without its parameters; empty where the header names none.
fn essence(headers: &HeaderMap) -> &[u8] {
    let value = headers.get(header::CONTENT_TYPE).map_or(&b""[..], |value| value.as_bytes());
    value.split(|&byte| byte == b';').next().unwrap_or_default().trim_ascii()
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn of(value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))])
    }

    #[test]
    fn grpc_is_told_from_what_only_begins_so() {
        for (value, expected) in [
            ("application/grpc", Grpc::Proto),
            ("application/grpc+proto", Grpc::Proto),
            ("Application/gRPC+PROTO ; charset=x", Grpc::Proto),
            ("application/grpc;application/json", Grpc::Proto),
            ("application/grpc+json", Grpc::OtherCoding),
            ("application/grpc+", Grpc::Lookalike),
            ("application/grpcfoo", Grpc::Lookalike),
            ("application/grpc-web", Grpc::Lookalike),
            ("application/grpc-web+proto", Grpc::Lookalike),
            ("application/GRPC-web-text", Grpc::Lookalike),
            ("application/grp", Grpc::No),
            ("text/plain; application/grpc", Grpc::No),
            ("", Grpc::No),
        ] {
            assert_eq!(grpc(&of(value)), expected, "{value:?}");
        }
        assert_eq!(grpc(&HeaderMap::new()), Grpc::No);
    }

    #[test]
    fn a_type_is_compared_whole() {
        for (value, expected) in [
            ("application/json", true),
            ("APPLICATION/JSON;charset=utf-8", true),
            ("application/jsonlines", false),
            ("application/json-seq", false),
        ] {
            assert_eq!(is(&of(value), "application/json"), expected, "{value:?}");
        }
    }
}
