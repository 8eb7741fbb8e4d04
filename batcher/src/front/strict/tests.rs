use proptest::prelude::*;
use proptest::sample::select;

use super::differential::{Outcome, Service, assert_agreement, serve};

/// Lines that requests begin with.
fn start_line() -> impl Strategy<Value = String> {
    let common = select(vec!["GET /a HTTP/1.1\r\n", "POST /b?c=d HTTP/1.1\r\n", "PUT /e HTTP/1.1\r\n"]);
    let odd = select(vec![
        "POST /f HTTP/1.0\r\n",
        "HEAD /g HTTP/1.1\r\n",
        "CONNECT a:1 HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "GET http://a/h HTTP/1.1\r\n",
        "\r\nGET /i HTTP/1.1\r\n",
        "\r\n\r\n\r\nGET /j HTTP/1.1\r\n",
        "\nGET /k HTTP/1.1\r\n",
        "\rGET /k HTTP/1.1\r\n",
        "GET /l HTTP/1.1\n",
        "GET /l HTTP/1.1 \r\n",
        "GET  /m HTTP/1.1\r\n",
        "GET /n HTTP/2.0\r\n",
        "GET /o\r\n",
        "PRI * HTTP/2.0\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\n\r\n",
    ]);
    let long = (0_usize..9000).prop_map(|bytes| format!("GET /{} HTTP/1.1\r\n", "a".repeat(bytes)));
    prop_oneof![12 => common.prop_map(String::from), 4 => odd.prop_map(String::from), 1 => long]
}

/// Lines of a header; the padding is up to twice as long as the longest line that the guard looks at.
fn field() -> impl Strategy<Value = String> {
    let common =
        select(vec!["host: a\r\n", "x: y\r\n", "content-length: 5\r\n", "transfer-encoding: chunked\r\n"]);
    let odd = select(vec![
        "Content-Length: 0005 \t\r\n",
        "content-length: 0\r\n",
        "content-length: +5\r\n",
        "content-length: 5, 5\r\n",
        "content-length: 0x5\r\n",
        "content-length: 5 5\r\n",
        "content-length:\x0b5\r\n",
        "content-length:\x0c5\r\n",
        "content-length : 5\r\n",
        "content-length\t: 5\r\n",
        " content-length: 5\r\n",
        "content-length: 5\n",
        "content-length: 5\r\r\n",
        "content-length:\r\n",
        "content-length:\r\n 5\r\n",
        "content-length: 18446744073709551615\r\n",
        "content-length: 18446744073709551617\r\n",
        "Transfer-Encoding:\tChunked\r\n",
        "transfer-encoding: gzip, chunked\r\n",
        "transfer-encoding: chunked, identity\r\n",
        "transfer-encoding: chunked,\r\n",
        "transfer-encoding: xchunked\r\n",
        "transfer-encoding: \"chunked\"\r\n",
        "transfer-encoding: chunked\n",
        "transfer-encoding: chunked\r\r\n",
        "transfer-encoding:\x0bchunked\r\n",
        "transfer-encoding:\r\n chunked\r\n",
        "transfer_encoding: chunked\r\n",
        "transfer-encodin\u{212a}: chunked\r\n",
        "connection: close\r\n",
        "connection: keep-alive\r\n",
        "expect: 100-continue\r\n",
        "upgrade: h2c\r\nconnection: upgrade\r\n",
        "trailer: x\r\n",
        " folded\r\n",
        "\tfolded\r\n",
        "x: a\rb\r\n",
        "x: a\0b\r\n",
        "x: \u{e9}\r\n",
        ": no name\r\n",
        "no colon\r\n",
        "x y: z\r\n",
        "\r",
    ]);
    let padded = (
        select(vec!["content-length", "transfer-encoding", "x"]),
        select(vec![" ", "0", "\t"]),
        0_usize..512,
        select(vec!["5", "chunked", ""]),
    )
        .prop_map(|(name, pad, length, value)| format!("{name}:{}{value}\r\n", pad.repeat(length)));
    let many = (90_usize..110).prop_map(|count| "x: y\r\n".repeat(count));
    prop_oneof![12 => common.prop_map(String::from), 8 => odd.prop_map(String::from), 4 => padded, 1 => many]
}

/// Pieces of bodies, framed or not, with hidden requests in them that must not be seen.
fn body() -> impl Strategy<Value = String> {
    let common =
        select(vec!["hello", "5\r\nhello\r\n", "0\r\n\r\n", "A;x=y\r\n0123456789\r\n", "0\r\nx: y\r\n\r\n"]);
    let odd = select(vec![
        "5 \t;ext=\"a\"\r\nhello\r\n",
        "5;a\nhello\r\n",
        "5;a\rb\r\nhello\r\n",
        "5\nhello\n",
        "5\x0b\r\nhello\r\n",
        "5\x0c\r\nhello\r\n",
        "5 5\r\nhello\r\n",
        "5\r\r\nhello\r\n",
        " 5\r\nhello\r\n",
        "5\r\nhello",
        "5\r\nhello\n",
        "5\r\nhello\r\r\n",
        "5\r\nhelloX\r\n",
        "0x5\r\nhello\r\n",
        "-5\r\nhello\r\n",
        "+5\r\nhello\r\n",
        "\r\n",
        ";\r\n",
        "00\r\n\r\n",
        "0;a\n\r\n",
        "0;a\r\n\r\n",
        "0\n\n",
        "0\r\n\n",
        "0\r\nx: y\n\r\n",
        "0\r\nx: y\n\n",
        "0\r\n\rx: y\r\n\r\n",
        "0\r\n x: y\r\n\r\n",
        "0\r\ncontent-length: 7\r\ntransfer-encoding: chunked\r\n\r\n",
        "ffffffffffffffff\r\n",
        "10000000000000005\r\nhello\r\n",
        "2b\r\nGET /hidden HTTP/1.1\r\nhost: hidden\r\nx: y\r\n\r\n\r\n",
    ]);
    let padded = (
        select(vec!["0", "5;", "5 ", "0;", "0"]),
        select(vec!["0", "a", " ", "\r", "\0"]),
        0_usize..512,
        select(vec!["\r\nhello\r\n", "5\r\nhello\r\n", "\r\n\r\n", "\n\r\n"]),
    )
        .prop_map(|(start, pad, length, end)| format!("{start}{}{end}", pad.repeat(length)));
    prop_oneof![10 => common.prop_map(String::from), 6 => odd.prop_map(String::from), 4 => padded]
}

fn message() -> impl Strategy<Value = String> {
    let end = prop_oneof![12 => Just("\r\n"), 1 => select(vec!["\n", "\r\r\n", "\n\n", ""])];
    let fields = prop::collection::vec(field(), 0..4);
    let bodies = prop::collection::vec(body(), 0..4);
    (start_line(), fields, end, bodies).prop_map(|(start, fields, end, bodies)| {
        format!("{start}{}{end}{}", fields.concat(), bodies.concat())
    })
}

fn pieces() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(prop_oneof![1_usize..4, 1_usize..30, 200_usize..400, Just(usize::MAX)], 1..5)
}

fn statuses(outcome: &Outcome) -> Vec<String> {
    let answers = String::from_utf8_lossy(&outcome.answers).into_owned();
    answers
        .split("HTTP/1.")
        .skip(1)
        .map(|answer| answer[2..5].to_owned())
        .filter(|status| status != "100")
        .collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, ..ProptestConfig::default() })]

    #[test]
    fn the_library_takes_nothing_but_what_the_guard_has_taken(
        messages in prop::collection::vec(message(), 1..4),
        change in prop::option::weighted(0.2, (any::<usize>(), any::<u8>())),
        pieces in pieces(),
        service in select(vec![Service::Reads, Service::Reads, Service::Ignores]),
    ) {
        let mut bytes = messages.concat().into_bytes();
        if let Some((at, byte)) = change {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        assert_agreement(&serve(&bytes, &pieces, service));
    }

    /// Shows that the property above does not hold only because the guard refuses everything.
    #[test]
    fn valid_requests_reach_the_service_whole(
        bodies in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..600), any::<bool>()), 1..5),
        pieces in pieces(),
    ) {
        let mut bytes = Vec::new();
        for (body, is_chunked) in &bodies {
            if *is_chunked {
                bytes.extend_from_slice(b"POST /x HTTP/1.1\r\nhost: a\r\nTransfer-Encoding: chunked\r\n\r\n");
                for chunk in body.chunks(200) {
                    bytes.extend_from_slice(format!("{:04x};a=b\r\n", chunk.len()).as_bytes());
                    bytes.extend_from_slice(chunk);
                    bytes.extend_from_slice(b"\r\n");
                }
                bytes.extend_from_slice(b"0\r\nx: y\r\n\r\n");
            } else {
                bytes.extend_from_slice(format!("POST /x HTTP/1.1\r\nhost: a\r\ncontent-length: {}\r\n\r\n", body.len()).as_bytes());
                bytes.extend_from_slice(body);
            }
        }
        let outcome = serve(&bytes, &pieces, Service::Reads);
        assert_agreement(&outcome);
        let seen: Vec<&[u8]> = outcome.library.iter().map(|seen| &seen.body[..]).collect();
        let sent: Vec<&[u8]> = bodies.iter().map(|(body, _)| &body[..]).collect();
        prop_assert_eq!(seen, sent);
        prop_assert_eq!(statuses(&outcome), vec!["200"; bodies.len()]);
    }
}

/// Each known attack, behind a good request, in each pair of reads and byte by byte.
#[test]
fn known_attacks_are_400_wherever_they_are_cut() {
    let zeros = "0".repeat(300);
    let chunked = "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n";
    let hidden = "GET /hidden HTTP/1.1\r\nhost: a\r\n\r\n";
    let attacks = [
        format!("{chunked}{zeros}\r\n\r\n{hidden}"),
        format!("{chunked}{zeros}22\r\n{hidden}\r\n0\r\n\r\n"),
        format!("{chunked}0;{zeros}\r\n\r\n"),
        format!("{chunked}0;a\n\r\n"),
        format!("{chunked}0\r\nx: y\n\r\n"),
        format!("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: {zeros}34\r\n\r\n{hidden}"),
        format!("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length:{}34\r\n\r\n{hidden}", " ".repeat(300)),
        format!(
            "POST /a HTTP/1.1\r\nhost: a\r\ntransfer-encoding:{}chunked\r\n\r\n0\r\n\r\n",
            " ".repeat(300)
        ),
        format!(
            "POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n{hidden}"
        ),
        format!("POST /a HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\ncontent-length: 0\r\n\r\n{hidden}"),
        "GET /a HTTP/1.1\nhost: a\r\n\r\n".to_owned(),
        "PRI * HTTP/2.0\r\nhost: a\r\n\r\n".to_owned(),
    ];
    let good = "GET /good HTTP/1.1\r\nhost: a\r\n\r\n";
    for attack in attacks {
        let bytes = format!("{good}{attack}{hidden}").into_bytes();
        for piece in (1..bytes.len()).chain([usize::MAX]) {
            let outcome = serve(&bytes, &[piece, usize::MAX], Service::Reads);
            assert_agreement(&outcome);
            assert_eq!(statuses(&outcome), ["200", "400"], "{attack:?} cut at {piece}: {outcome:#?}");
            assert!(outcome.fault.is_some() || attack.starts_with("PRI"), "{attack:?}");
        }
        assert_agreement(&serve(&bytes, &[1], Service::Reads));
    }
}
