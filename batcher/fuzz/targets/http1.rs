//! Compares the guard of HTTP/1 connections with the HTTP library behind it: whatever bytes arrive, in whatever pieces, the
//! library accepts only requests that the guard has let pass, with the same target, header, body and end.
//!
//! The first byte of an input encodes the number of pieces and whether bodies are read; a byte for the size of each piece
//! follows, then the bytes of the connection. Among these, bytes from 0x80 to 0xfe are replaced by fragments that the fuzzer
//! would hardly find, and the byte behind 0xff is taken literally.

#![no_main]

/// The only files of the batcher that are built here, under the names that they have in its crate.
#[path = "../../src/front"]
#[allow(dead_code)]
mod front {
    #[path = "strict/differential.rs"]
    pub(crate) mod differential;
    mod framing;
    mod strict;
}

use libfuzzer_sys::fuzz_target;

use front::differential::{Service, assert_agreement, serve};

/// Maximum bytes of a connection: more find nothing new.
const MOST_BYTES: usize = 32 << 10;

const FRAGMENTS: [&str; 42] = [
    "GET / HTTP/1.1\r\n",
    "POST /a HTTP/1.1\r\n",
    "POST /b HTTP/1.0\r\n",
    "CONNECT a:1 HTTP/1.1\r\n",
    "OPTIONS * HTTP/1.1\r\n",
    "GET http://a/b HTTP/1.1\r\n",
    "PRI * HTTP/2.0\r\n",
    "\r\nSM\r\n\r\n",
    "host: a\r\n",
    "content-length:",
    "Content-Length: 5\r\n",
    "transfer-encoding:",
    "Transfer-Encoding: chunked\r\n",
    "chunked",
    "gzip, ",
    "identity",
    "connection: close\r\n",
    "connection: keep-alive\r\n",
    "connection: upgrade\r\n",
    "upgrade: h2c\r\n",
    "expect: 100-continue\r\n",
    "trailer: x\r\n",
    "x: y\r\n",
    "\r\n",
    "\r\n\r\n",
    "\n\r\n",
    "\r\r\n",
    "5\r\nhello\r\n",
    "5;a=b\r\nhello\r\n",
    "0\r\n\r\n",
    "0\r\nx: y\r\n\r\n",
    "0;a",
    "ffffffffffffffff",
    "00000000000000000000000000000000",
    "                                ",
    "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
    "ZEROS",
    "SPACES",
    "LETTERS",
    "18446744073709551615",
    "\x0b",
    "\0",
];

/// Returns the bytes of the connection that an input encodes.
fn unfold(input: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut input = input.iter();
    while let Some(&byte) = input.next() {
        match byte {
            ..0x80 => bytes.push(byte),
            0xff => bytes.extend(input.next()),
            _ => match FRAGMENTS[usize::from(byte & 0x7f) % FRAGMENTS.len()] {
                // Longer than any line that the guard looks at.
                "ZEROS" => bytes.extend_from_slice(&[b'0'; 300]),
                "SPACES" => bytes.extend_from_slice(&[b' '; 300]),
                "LETTERS" => bytes.extend_from_slice(&[b'a'; 3000]),
                fragment => bytes.extend_from_slice(fragment.as_bytes()),
            },
        }
        if bytes.len() > MOST_BYTES {
            break;
        }
    }
    bytes
}

/// Returns the size of a piece: 1 to 128 bytes, then multiples of 128 bytes, and 0xff for no limit.
fn size(byte: u8) -> usize {
    match byte {
        ..0x80 => usize::from(byte) + 1,
        0xff => usize::MAX,
        _ => usize::from(byte - 0x7f) * 128,
    }
}

fuzz_target!(|input: &[u8]| {
    let Some((&first, rest)) = input.split_first() else { return };
    let service = if first & 1 == 0 { Service::Reads } else { Service::Ignores };
    let pieces = usize::from(first >> 1 & 7).min(rest.len());
    let (pieces, rest) = rest.split_at(pieces);
    let pieces: Vec<usize> = pieces.iter().copied().map(size).collect();
    assert_agreement(&serve(&unfold(rest), &pieces, service));
});
