use proptest::prelude::*;

use super::*;

fn fault(bytes: &[u8]) -> Option<Fault> {
    Framing::default().feed(bytes, |_, _| {}).err().map(|(_, fault)| fault)
}

#[test]
fn what_two_readers_may_read_differently_is_a_fault() {
    for (bytes, expected) in [
        (&b"GET / HTTP/1.1\nhost: x\r\n\r\n"[..], Fault::BareLineFeed),
        (b"GET / HTTP/1.1\r\nhost: x\n\r\n", Fault::BareLineFeed),
        (b"GET / HTTP/1.1\r\nhost: x\r\n\n", Fault::BareLineFeed),
        (b"GET / HTTP/1.1\r\nx: y\r\n z\r\n\r\n", Fault::FoldedHeader),
        (b"POST / HTTP/1.1\r\ncontent-length: 3\r\nContent-Length: 3\r\n\r\n", Fault::ContentLength),
        (b"POST / HTTP/1.1\r\ncontent-length: 3, 3\r\n\r\n", Fault::ContentLength),
        (b"POST / HTTP/1.1\r\ncontent-length: +3\r\n\r\n", Fault::ContentLength),
        (b"POST / HTTP/1.1\r\ncontent-length: \r\n\r\n", Fault::ContentLength),
        (b"POST / HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n", Fault::ContentLength),
        (b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\ncontent-length: 3\r\n\r\n", Fault::BothLengths),
        (b"POST / HTTP/1.1\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n", Fault::BothLengths),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: xchunked\r\n\r\n", Fault::TransferEncoding),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: gzip, chunked\r\n\r\n", Fault::TransferEncoding),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0x3\r\nabc\r\n", Fault::ChunkSize),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n-1\r\n", Fault::ChunkSize),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n11111111111111111\r\n", Fault::ChunkSize),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabcd\r\n", Fault::ChunkSize),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3\nabc\r\n", Fault::BareLineFeed),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n3;a\nabc\r\n", Fault::BareLineFeed),
        (b"POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n0\r\na: b\n\r\n", Fault::BareLineFeed),
        (b"PRI * HTTP/2.0\r\nhost: x\r\n\r\n", Fault::Preface),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\n", Fault::BareLineFeed),
        (b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", Fault::Preface),
    ] {
        assert_eq!(fault(bytes), Some(expected), "{}", String::from_utf8_lossy(bytes));
    }
}

#[test]
fn a_line_that_says_where_something_ends_is_short_or_a_fault() {
    let zeros = "0".repeat(300);
    let spaces = " ".repeat(300);
    for (bytes, expected) in [
        (format!("POST / HTTP/1.1\r\ncontent-length: {zeros}5\r\n\r\n"), Fault::ContentLength),
        (format!("POST / HTTP/1.1\r\ncontent-length:{spaces}5\r\n\r\n"), Fault::ContentLength),
        (format!("POST / HTTP/1.1\r\ntransfer-encoding:{spaces}chunked\r\n"), Fault::TransferEncoding),
        (format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked{spaces}\r\n"), Fault::TransferEncoding),
        (format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{zeros}5\r\n"), Fault::ChunkSize),
        (format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n{zeros}"), Fault::ChunkSize),
        (format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5;{zeros}"), Fault::ChunkSize),
        (format!("POST / HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n5{spaces}"), Fault::ChunkSize),
    ] {
        let (at, found) = Framing::default().feed(bytes.as_bytes(), |_, _| {}).unwrap_err();
        assert_eq!(found, expected, "{bytes}");
        for cut in 0..bytes.len() {
            let (fault, _) = in_pieces(bytes.as_bytes(), &[cut, cut * 7 % (bytes.len() + 1)]);
            assert_eq!(fault, Some((at, expected)), "{bytes} cut at {cut}");
        }
    }
    // Other lines may be long.
    let long = format!("POST /{zeros} HTTP/1.1\r\nx: {zeros}\r\ncontent-length: 1\r\n\r\nx");
    assert_eq!(fault(long.as_bytes()), None);
    let longest = format!("POST / HTTP/1.1\r\ncontent-length: {}1\r\n\r\nx", &zeros[..239]);
    assert_eq!(fault(longest.as_bytes()), None);
}

#[test]
fn http2_connections_are_not_read() {
    let mut framing = Framing::default();
    framing.feed(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\n\n\0", |_, _| {}).unwrap();
    assert!(framing.is_opaque());
    // Only a connection's first line makes it HTTP/2.
    assert_eq!(fault(b"GET / HTTP/1.1\r\n\r\nPRI * HTTP/2.0\r\n\n"), Some(Fault::BareLineFeed));
}

fn request() -> impl Strategy<Value = Vec<u8>> {
    let body = prop::collection::vec(any::<u8>(), 0..60);
    let known = body.clone().prop_map(|body| {
        let mut bytes =
            format!("POST /x HTTP/1.1\r\nhost: a\r\nContent-Length:  {} \r\n\r\n", body.len()).into_bytes();
        bytes.extend_from_slice(&body);
        bytes
    });
    let chunked = prop::collection::vec(body, 0..4).prop_map(|chunks| {
        let mut bytes = b"PUT /y HTTP/1.1\r\nTransfer-Encoding: Chunked\r\nx-y: z\r\n\r\n".to_vec();
        for chunk in chunks.iter().filter(|chunk| !chunk.is_empty()) {
            bytes.extend_from_slice(format!("{:X};name=value\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\nx-trailer: 1\r\n\r\n");
        bytes
    });
    let none = Just(b"\r\nGET / HTTP/1.1\r\ntoken: x\r\ncookie: y\r\n\r\n".to_vec());
    let long = (0_usize..256).prop_map(|padding| {
        let zeros = "0".repeat(padding);
        format!("POST /{zeros}{zeros} HTTP/1.1\r\nx: {zeros}{zeros}\r\ntransfer-encoding: chunked\r\n\r\n{zeros}1\r\nx\r\n{zeros}0\r\n\r\n")
            .into_bytes()
    });
    prop_oneof![known, chunked, none, long]
}

/// Feeds pieces that end at the cuts; the fault with its position in the whole.
fn in_pieces(bytes: &[u8], cuts: &[usize]) -> (Option<(usize, Fault)>, Framing) {
    let mut framing = Framing::default();
    let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % (bytes.len() + 1)).collect();
    ends.push(bytes.len());
    ends.sort_unstable();
    let mut start = 0;
    for end in ends {
        if let Err((at, fault)) = framing.feed(&bytes[start..end], |_, _| {}) {
            return (Some((start + at, fault)), framing);
        }
        start = end;
    }
    (None, framing)
}

proptest! {
    #[test]
    fn valid_requests_pass_however_they_are_cut(
        requests in prop::collection::vec(request(), 1..5),
        cuts in prop::collection::vec(any::<usize>(), 0..12),
    ) {
        let bytes = requests.concat();
        let (fault, framing) = in_pieces(&bytes, &cuts);
        prop_assert_eq!(fault, None);
        prop_assert_eq!(framing.state, State::RequestLine);
        prop_assert!(!framing.is_in_head());
    }

    #[test]
    fn cuts_change_no_verdict_and_nothing_panics(
        mut bytes in request(),
        change in prop::option::of((any::<usize>(), any::<u8>())),
        cuts in prop::collection::vec(any::<usize>(), 0..6),
    ) {
        if let Some((at, byte)) = change {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        let whole = Framing::default().feed(&bytes, |_, _| {}).err();
        prop_assert_eq!(in_pieces(&bytes, &cuts).0, whole);
    }
}
