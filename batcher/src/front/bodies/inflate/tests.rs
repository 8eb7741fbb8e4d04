use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;
use proptest::prelude::*;

use super::*;

fn gzip(plain: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(plain).unwrap();
    encoder.finish().unwrap()
}

/// Decodes a body; returns its content and the number of steps.
fn decode(coding: Coding, coded: &[u8]) -> Result<(Vec<u8>, usize), String> {
    let mut decoder = Decoder::new(coding, coded)?;
    let mut out = vec![0; STEP_OUTPUT_BYTES];
    let (mut decoded, mut steps) = (Vec::new(), 0);
    while let Step::Wrote(wrote) = decoder.step(&mut out)? {
        decoded.extend_from_slice(&out[..wrote]);
        steps += 1;
    }
    Ok((decoded, steps))
}

#[test]
fn members_follow_each_other_and_their_number_is_bounded() {
    assert_eq!(decode(Coding::Gzip, &[gzip(b"a"), gzip(b""), gzip(b"bc")].concat()).unwrap().0, b"abc");
    let empty = gzip(b"").repeat(MAX_MEMBERS);
    let (decoded, steps) = decode(Coding::Gzip, &empty).unwrap();
    assert!(decoded.is_empty() && steps + 1 >= MAX_MEMBERS, "{steps}");
    let error = decode(Coding::Gzip, &gzip(b"").repeat(MAX_MEMBERS + 1)).unwrap_err();
    assert!(error.contains("members"), "{error}");
    assert!(decode(Coding::Gzip, &[gzip(b"a"), b"rubbish".to_vec()].concat()).is_err());
}

#[test]
fn a_step_reads_no_more_than_it_may() {
    // A gzip member whose name has 60 KiB.
    let named = flate2::GzBuilder::new().filename(vec![b'n'; 60_000]).write(Vec::new(), Compression::fast());
    let (decoded, steps) = decode(Coding::Gzip, &named.finish().unwrap()).unwrap();
    assert!(decoded.is_empty() && steps + 2 >= 60_000 / STEP_INPUT_BYTES, "{steps}");
    // Data that cannot be compressed takes as many steps as sips.
    let noise: Vec<u8> = (0..100_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let coded = gzip(&noise);
    let (decoded, steps) = decode(Coding::Gzip, &coded).unwrap();
    assert_eq!(decoded, noise);
    assert!(steps + 2 >= coded.len() / STEP_INPUT_BYTES, "{steps}");
}

#[test]
fn a_zstd_block_that_stands_for_more_than_a_block_may_is_refused() {
    // 0x7f00 literals, all x, and as many sequences: each copies one and repeats it 65,539 times, 2 GiB in all.
    let sequences = 0x7f00_usize;
    let mut block =
        vec![0x0d | (sequences as u8 & 0xf) << 4, (sequences >> 4) as u8, (sequences >> 12) as u8, b'x'];
    // Their number, three codes for all of them (length of literals 1, offset 0, length of the match 52), 16 bits each.
    block.extend([0xff, 0, 0, 0b0101_0100, 1, 0, 52]);
    block.extend(vec![0; sequences * 2]);
    block.push(1);
    let header = (block.len() as u32) << 3 | 2 << 1 | 1;
    let frame = [&[0x28, 0xb5, 0x2f, 0xfd, 0, 0x38][..], &header.to_le_bytes()[..3], &block].concat();
    assert!(frame.len() < 70_000);
    let mut decoder = Decoder::new(Coding::Zstd, &frame).unwrap();
    let error = decoder.step(&mut vec![0; STEP_OUTPUT_BYTES]).unwrap_err();
    assert!(error.contains("TooManyBytesGenerated"), "{error}");
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
        for coding in [Coding::Gzip, Coding::Deflate, Coding::Zstd] {
            let Ok(mut decoder) = Decoder::new(coding, &coded) else { continue };
            let mut step = [0; 4096];
            for _ in 0..10_000 {
                if !matches!(decoder.step(&mut step), Ok(Step::Wrote(_))) {
                    break;
                }
            }
        }
    }
}
