//! gRPC status codes, their counterparts in HTTP, and the encoding of `grpc-message`.

use percent_encoding::{AsciiSet, CONTROLS, percent_decode, utf8_percent_encode};

/// A gRPC status code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u8)]
#[allow(missing_docs)] // The names are gRPC's own.
pub enum Code {
    Ok = 0,
    Cancelled = 1,
    Unknown = 2,
    InvalidArgument = 3,
    DeadlineExceeded = 4,
    NotFound = 5,
    AlreadyExists = 6,
    PermissionDenied = 7,
    ResourceExhausted = 8,
    FailedPrecondition = 9,
    Aborted = 10,
    OutOfRange = 11,
    Unimplemented = 12,
    Internal = 13,
    Unavailable = 14,
    DataLoss = 15,
    Unauthenticated = 16,
}

impl Code {
    const ALL: [Self; 17] = [
        Self::Ok,
        Self::Cancelled,
        Self::Unknown,
        Self::InvalidArgument,
        Self::DeadlineExceeded,
        Self::NotFound,
        Self::AlreadyExists,
        Self::PermissionDenied,
        Self::ResourceExhausted,
        Self::FailedPrecondition,
        Self::Aborted,
        Self::OutOfRange,
        Self::Unimplemented,
        Self::Internal,
        Self::Unavailable,
        Self::DataLoss,
        Self::Unauthenticated,
    ];

    /// Returns the number in `grpc-status`.
    pub fn number(self) -> u8 {
        self as u8
    }

    /// Reads `grpc-status`; anything but a known number is [`Code::Unknown`], as the specification asks.
    pub fn from_header(value: &[u8]) -> Self {
        std::str::from_utf8(value)
            .ok()
            .and_then(|text| text.parse::<usize>().ok())
            .and_then(|number| Self::ALL.get(number).copied())
            .unwrap_or(Self::Unknown)
    }

    /// Returns the code for an HTTP status, for a gRPC client whose request was answered over REST.
    /// The mapping is that of googleapis' `google.rpc.Code`, read backwards.
    pub fn from_http(status: u16) -> Self {
        match status {
            200..=299 => Self::Ok,
            400 | 422 => Self::InvalidArgument,
            401 => Self::Unauthenticated,
            403 => Self::PermissionDenied,
            404 => Self::NotFound,
            408 | 504 => Self::DeadlineExceeded,
            409 => Self::Aborted,
            413 | 429 => Self::ResourceExhausted,
            499 => Self::Cancelled,
            501 => Self::Unimplemented,
            502 | 503 => Self::Unavailable,
            500..=599 => Self::Internal,
            _ => Self::Unknown,
        }
    }

    /// Returns the HTTP status for a code, for a REST client whose request was answered over gRPC.
    pub fn to_http(self) -> u16 {
        match self {
            Self::Ok => 200,
            Self::InvalidArgument | Self::FailedPrecondition | Self::OutOfRange => 400,
            Self::Unauthenticated => 401,
            Self::PermissionDenied => 403,
            Self::NotFound => 404,
            Self::AlreadyExists | Self::Aborted => 409,
            Self::ResourceExhausted => 429,
            Self::Cancelled => 499,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
            Self::Unknown | Self::Internal | Self::DataLoss => 500,
        }
    }
}

/// Characters that are escaped in a `grpc-message`: `%` and all that are not printable ASCII.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

/// Percent-encodes a `grpc-message`.
pub fn encode_message(message: &str) -> String {
    utf8_percent_encode(message, ESCAPED).to_string()
}

/// Decodes a `grpc-message`. It never fails: an invalid escape stays as it is, and bytes that are not UTF-8 are replaced.
pub fn decode_message(value: &[u8]) -> String {
    percent_decode(value).decode_utf8_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_survive_percent_encoding() {
        let message = "50 % of é\nis 'x'";
        let encoded = encode_message(message);
        assert_eq!(encoded, "50 %25 of %C3%A9%0Ais 'x'");
        assert_eq!(decode_message(encoded.as_bytes()), message);
        assert_eq!(decode_message(b"a%zz%4"), "a%zz%4");
    }

    #[test]
    fn unknown_status_numbers_read_as_unknown() {
        assert_eq!(Code::from_header(b"14"), Code::Unavailable);
        assert_eq!(Code::from_header(b"17"), Code::Unknown);
        assert_eq!(Code::from_header(b"x"), Code::Unknown);
    }

    #[test]
    fn overload_and_client_errors_keep_their_meaning_across_http() {
        for code in
            [Code::InvalidArgument, Code::ResourceExhausted, Code::Unavailable, Code::DeadlineExceeded]
        {
            assert_eq!(Code::from_http(code.to_http()), code);
        }
    }
}
