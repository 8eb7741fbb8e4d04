//! merge, an echoing server, split: each client gets its own rows back, bit for bit, whatever wire formats share the batch.

#![no_main]

#[path = "../../protocol/tests/protocol/client.rs"]
#[allow(dead_code, unreachable_pub, unused_imports)]
mod client;
#[path = "../../protocol/tests/protocol/echo.rs"]
mod echo;

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use sluice_protocol::{Datatype, WireFormat, merge_padded, split};

use client::{Style, Values, receive, receive_v1, request};
use echo::echo;

#[derive(Debug)]
struct Batch {
    upstream: WireFormat,
    to_rows: usize,
    clients: Vec<Client>,
}

#[derive(Debug)]
struct Client {
    style: Style,
    inputs: Vec<Values>,
}

impl<'a> Arbitrary<'a> for Batch {
    fn arbitrary(bytes: &mut Unstructured<'a>) -> arbitrary::Result<Self> {
        let mut signature = Vec::new();
        for _ in 0..bytes.int_in_range(1..=3)? {
            let datatype = *bytes.choose(&Datatype::ALL)?;
            let rank = bytes.int_in_range(0..=2)?;
            let dims = (0..rank).map(|_| bytes.int_in_range(0..=3)).collect::<Result<Vec<u64>, _>>()?;
            signature.push((datatype, dims));
        }
        let raw_only =
            signature.iter().any(|(datatype, _)| matches!(datatype, Datatype::Fp16 | Datatype::Bf16));
        let no_v1 = signature.iter().any(|(_, dims)| dims.contains(&0));
        let allowed = |style: &Style| (!raw_only || style.is_raw_throughout()) && !(no_v1 && style.is_v1());
        let styles: Vec<Style> = Style::ALL.into_iter().filter(allowed).collect();
        let upstream = match bytes.int_in_range(0..=2)? {
            0 if !raw_only => WireFormat::Json,
            1 => WireFormat::Grpc,
            _ => WireFormat::Binary,
        };
        let mut clients = Vec::new();
        for _ in 0..bytes.int_in_range(1..=5)? {
            let style = *bytes.choose(&styles)?;
            let rows = bytes.int_in_range(1..=3)?;
            let mut inputs = Vec::new();
            for (at, (datatype, dims)) in signature.iter().enumerate() {
                let shape: Vec<u64> = std::iter::once(rows).chain(dims.iter().copied()).collect();
                let elements = (0..shape.iter().product()).map(|_| element(bytes, *datatype, raw_only));
                let elements = elements.collect::<Result<_, _>>()?;
                inputs.push(Values { name: format!("in{at}"), datatype: *datatype, shape, elements });
            }
            if bytes.arbitrary()? {
                inputs.reverse();
            }
            clients.push(Client { style, inputs });
        }
        Ok(Self { upstream, to_rows: bytes.int_in_range(0..=20)?, clients })
    }
}

fn element(bytes: &mut Unstructured<'_>, datatype: Datatype, raw_only: bool) -> arbitrary::Result<Vec<u8>> {
    Ok(match datatype {
        Datatype::Bool => vec![u8::from(bytes.arbitrary::<bool>()?)],
        // Only one NaN, because JSON has no more.
        Datatype::Fp32 => {
            let value: f32 = bytes.arbitrary()?;
            if value.is_nan() { f32::NAN } else { value }.to_le_bytes().into()
        }
        Datatype::Fp64 => {
            let value: f64 = bytes.arbitrary()?;
            if value.is_nan() { f64::NAN } else { value }.to_le_bytes().into()
        }
        Datatype::Bytes if raw_only => bytes.arbitrary::<[u8; 3]>()?.into(),
        // Test clients quote bare words, and would quote such words inside strings as well.
        Datatype::Bytes => {
            let text: String = bytes.arbitrary::<[char; 2]>()?.iter().collect();
            text.into_bytes()
        }
        _ => {
            let size = datatype.size_bytes().expect("only BYTES vary");
            bytes.bytes(size)?.into()
        }
    })
}

fuzz_target!(|batch: Batch| {
    let requests: Vec<_> =
        batch.clients.iter().map(|client| request(client.style, None, &client.inputs)).collect();
    let requests: Vec<_> = requests.iter().collect();
    for request in &requests {
        assert_eq!((&request.key, request.alone), (&requests[0].key, None));
    }
    let merged = merge_padded(&requests, batch.upstream, batch.to_rows).expect("equal keys may be merged");
    let answers = split(&echo(&merged), &requests, &merged.rows).expect("an echo has the batch's rows");
    for (answer, client) in answers.into_iter().zip(batch.clients) {
        let answer = answer.expect("the form can carry what it sent");
        if client.style.is_v1() {
            assert_eq!(receive_v1(&answer, &client.inputs), client.inputs);
            continue;
        }
        let mut outputs = receive(&answer).outputs;
        let mut inputs = client.inputs;
        outputs.sort_by(|one, other| one.name.cmp(&other.name));
        inputs.sort_by(|one, other| one.name.cmp(&other.name));
        assert_eq!(outputs, inputs);
    }
});
