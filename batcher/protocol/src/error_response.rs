//! An error in the form in which its client asked.

use bytes::Bytes;

use crate::WireFormat;
use crate::grpc::Code;

/// An error answer, ready to be sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ErrorResponse {
    /// REST: a status and the protocol's error object.
    Http {
        /// HTTP status.
        status: u16,
        /// `{"error": "…"}`; its `Content-Type` is `application/json`.
        body: Bytes,
    },
    /// gRPC: trailers only.
    Grpc {
        /// `grpc-status`.
        code: Code,
        /// `grpc-message`, percent-encoded.
        message: String,
    },
}

/// An error with HTTP status `status` for a client of the given form; gRPC clients get the corresponding code
/// ([`Code::from_http`]).
pub fn error_response(format: WireFormat, status: u16, message: &str) -> ErrorResponse {
    match format {
        WireFormat::Json | WireFormat::Binary | WireFormat::V1 => {
            ErrorResponse::Http { status, body: json_error(message) }
        }
        WireFormat::Grpc => ErrorResponse::Grpc {
            code: Code::from_http(status),
            message: crate::grpc::encode_message(message),
        },
    }
}

/// The protocol's error object: `{"error":"…"}`.
pub fn json_error(message: &str) -> Bytes {
    Bytes::from(serde_json::json!({ "error": message }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_speaks_its_clients_form() {
        assert_eq!(json_error("a \"b\""), r#"{"error":"a \"b\""}"#);
        assert_eq!(
            error_response(WireFormat::Grpc, 429, "full"),
            ErrorResponse::Grpc { code: Code::ResourceExhausted, message: "full".into() }
        );
    }
}
