//! merge, an echoing server, split: each client gets its own rows back, in its own wire format, bit for bit.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use sluice_protocol::{Datatype, WireFormat, merge_padded, split};

use crate::client::{Style, Values, Wishes, receive, receive_v1, request_with};
use crate::echo::echo;

/// A batch: its signature, and each client's style, id, rows and order of inputs.
#[derive(Debug, Clone)]
struct Case {
    upstream: WireFormat,
    clients: Vec<Client>,
    /// Batch size that the server takes.
    to_rows: usize,
}

#[derive(Debug, Clone)]
struct Client {
    style: Style,
    id: Option<String>,
    inputs: Vec<Values>,
    wishes: Wishes,
}

fn element(datatype: Datatype, text_only: bool) -> BoxedStrategy<Vec<u8>> {
    let bytes = |size: usize| prop::collection::vec(any::<u8>(), size).boxed();
    match datatype {
        Datatype::Bool => any::<bool>().prop_map(|value| vec![u8::from(value)]).boxed(),
        // Only one NaN, because JSON has no more.
        Datatype::Fp32 => prop_oneof![
            any::<f32>().prop_map(|value| if value.is_nan() { f32::NAN } else { value }),
            select(vec![
                f32::NAN,
                f32::INFINITY,
                f32::NEG_INFINITY,
                -0.0,
                0.1,
                f32::MIN_POSITIVE,
                f32::MAX,
                f32::from_bits(1),
                f32::from_bits(0x007f_ffff),
                f32::EPSILON
            ])
        ]
        .prop_map(|value| value.to_le_bytes().to_vec())
        .boxed(),
        Datatype::Int64 => {
            prop_oneof![any::<i64>(), select(vec![i64::MIN, i64::MAX, (1 << 53) + 1, -(1 << 53) - 1])]
                .prop_map(|value| value.to_le_bytes().to_vec())
                .boxed()
        }
        Datatype::Fp64 => prop_oneof![any::<f64>(), select(vec![-0.0, f64::from_bits(1), f64::INFINITY])]
            .prop_map(|value| if value.is_nan() { f64::NAN } else { value })
            .prop_map(|value| value.to_le_bytes().to_vec())
            .boxed(),
        Datatype::Bytes if text_only => {
            // Brackets, commas and quotes must not be taken for structure.
            "[a\"\\\\\\[\\],é\u{1}]{0,4}".prop_map(String::into_bytes).boxed()
        }
        Datatype::Bytes => prop::collection::vec(any::<u8>(), 0..5).boxed(),
        _ => bytes(datatype.size_bytes().unwrap()),
    }
}

fn cases() -> impl Strategy<Value = Case> {
    let input = (
        select(Datatype::ALL.to_vec()),
        prop::collection::vec(prop_oneof![1 => Just(0u64), 15 => 1u64..4], 0..3),
    );
    let clients = prop::collection::vec(
        (any::<Index>(), prop::option::of("[a-z\"]{1,4}"), 1u64..4, any::<bool>(), prop::option::of(0u64..9)),
        1..6,
    );
    // Outputs that all clients of the batch select, and a parameter that all give: both are part of the key.
    let common = (prop::collection::btree_set(0usize..3, 0..3), prop::option::of("[a-z]{1,3}"));
    (prop::collection::vec(input, 1..4), clients, 0usize..3, 0usize..20, common).prop_flat_map(
        |(signature, clients, upstream, to_rows, (selected, flavour))| {
            let selected: Vec<String> =
                selected.into_iter().filter(|at| *at < signature.len()).map(|at| format!("in{at}")).collect();
            // V1 has no selection and no parameters, and does not show the dimensions of empty tensors.
            let no_v1 = !selected.is_empty()
                || flavour.is_some()
                || signature.iter().any(|(_, dims)| dims.contains(&0));
            let raw_only =
                signature.iter().any(|(datatype, _)| matches!(datatype, Datatype::Fp16 | Datatype::Bf16));
            let styles: Vec<Style> = Style::ALL
                .into_iter()
                .filter(|style| !raw_only || style.is_raw_throughout())
                .filter(|style| !no_v1 || !style.is_v1())
                .collect();
            let upstream = match upstream {
                0 if !raw_only => WireFormat::Json,
                1 => WireFormat::Grpc,
                _ => WireFormat::Binary,
            };
            let clients: Vec<_> = clients
                .into_iter()
                .map(|(style, id, rows, reversed, timeout_us)| {
                    let style = *style.get(&styles);
                    let mut wishes =
                        Wishes { outputs: selected.clone(), timeout_us, flavour: flavour.clone() };
                    if reversed {
                        wishes.outputs.reverse();
                    }
                    let (id, wishes) = if style.is_v1() { (None, Wishes::default()) } else { (id, wishes) };
                    let inputs: Vec<_> = signature
                        .iter()
                        .enumerate()
                        .map(|(at, (datatype, dims))| {
                            let (datatype, dims) = (*datatype, dims.clone());
                            let count = (rows * dims.iter().product::<u64>()) as usize;
                            prop::collection::vec(element(datatype, !raw_only), count).prop_map(
                                move |elements| {
                                    let shape = std::iter::once(rows).chain(dims.iter().copied()).collect();
                                    Values { name: format!("in{at}"), datatype, shape, elements }
                                },
                            )
                        })
                        .collect();
                    inputs.prop_map(move |mut inputs| {
                        if reversed {
                            inputs.reverse();
                        }
                        Client { style, id: id.clone(), inputs, wishes: wishes.clone() }
                    })
                })
                .collect();
            clients.prop_map(move |clients| Case { upstream, clients, to_rows })
        },
    )
}

fn sorted(mut values: Vec<Values>) -> Vec<Values> {
    values.sort_by(|one, other| one.name.cmp(&other.name));
    values
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merge_echo_split_is_identity(case in cases()) {
        let requests: Vec<_> = case.clients.iter()
            .map(|client| request_with(client.style, client.id.as_deref(), &client.inputs, &client.wishes))
            .collect();
        let requests: Vec<_> = requests.iter().collect();
        for request in &requests {
            prop_assert_eq!(&request.key, &requests[0].key, "wire format, order, rows and id are not part of the key");
            prop_assert_eq!(request.alone, None);
        }
        let merged = merge_padded(&requests, case.upstream, case.to_rows).unwrap();
        let rows: Vec<_> = case.clients.iter().map(|client| client.inputs[0].shape[0] as usize).collect();
        prop_assert_eq!(&merged.rows.requests, &rows);
        prop_assert_eq!(merged.total_rows(), case.to_rows.max(rows.iter().sum()));
        let response = echo(&merged);
        for output in &response.outputs {
            prop_assert_eq!(output.rows(), Some(merged.total_rows() as u64), "this is what the server saw");
        }
        let answers = split(&response, &requests, &merged.rows).unwrap();
        prop_assert_eq!(answers.len(), case.clients.len());
        for ((answer, client), request) in answers.into_iter().zip(case.clients).zip(requests) {
            let answer = answer.unwrap();
            prop_assert_eq!(answer.format, request.format);
            if client.style.is_v1() {
                prop_assert_eq!(receive_v1(&answer, &client.inputs), client.inputs);
                continue;
            }
            let received = receive(&answer);
            let wanted: Vec<_> = client.inputs.into_iter()
                .filter(|input| client.wishes.outputs.is_empty() || client.wishes.outputs.contains(&input.name))
                .collect();
            prop_assert_eq!(received.served, "echo");
            prop_assert_eq!(received.id, client.id);
            prop_assert_eq!(received.model, "m");
            let all_raw = client.style.wants_raw() || answer.format == sluice_protocol::WireFormat::Grpc;
            prop_assert_eq!(received.raw_outputs, if all_raw { wanted.len() } else { 0 });
            prop_assert_eq!(sorted(received.outputs), sorted(wanted));
        }
    }
}
