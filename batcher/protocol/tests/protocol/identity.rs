//! merge, an echoing server, split: each client has its own rows back, in its own form, bit for bit.

use proptest::prelude::*;
use proptest::sample::{Index, select};
use sluice_protocol::{Datatype, UpstreamForm, merge_padded, split};

use crate::client::{Style, Values, receive, request};
use crate::echo::echo;

/// A batch: its signature, and each client's style, id, rows and order of inputs.
#[derive(Debug, Clone)]
struct Case {
    upstream: UpstreamForm,
    clients: Vec<Client>,
    /// The size that the server takes.
    to_rows: usize,
}

#[derive(Debug, Clone)]
struct Client {
    style: Style,
    id: Option<String>,
    inputs: Vec<Values>,
}

fn element(datatype: Datatype, text_only: bool) -> BoxedStrategy<Vec<u8>> {
    let bytes = |size: usize| prop::collection::vec(any::<u8>(), size).boxed();
    match datatype {
        Datatype::Bool => any::<bool>().prop_map(|value| vec![u8::from(value)]).boxed(),
        // One NaN: JSON does not tell them apart.
        Datatype::Fp32 => prop_oneof![
            any::<f32>().prop_map(|value| if value.is_nan() { f32::NAN } else { value }),
            select(vec![f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, f32::MIN_POSITIVE, 0.1])
        ]
        .prop_map(|value| value.to_le_bytes().to_vec())
        .boxed(),
        Datatype::Fp64 => any::<f64>()
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
        (any::<Index>(), prop::option::of("[a-z\"]{1,4}"), 1u64..4, any::<bool>()),
        1..6,
    );
    (prop::collection::vec(input, 1..4), clients, 0usize..3, 0usize..20).prop_flat_map(
        |(signature, clients, upstream, to_rows)| {
            let raw_only = signature.iter().any(|(datatype, _)| !datatype.has_json_form());
            let styles: Vec<Style> =
                Style::ALL.into_iter().filter(|style| !raw_only || style.is_raw_throughout()).collect();
            let upstream = match upstream {
                0 if !raw_only => UpstreamForm::Json,
                1 => UpstreamForm::Grpc,
                _ => UpstreamForm::Binary,
            };
            let clients: Vec<_> = clients
                .into_iter()
                .map(|(style, id, rows, reversed)| {
                    let style = *style.get(&styles);
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
                        Client { style, id: id.clone(), inputs }
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
    #![proptest_config(ProptestConfig { cases: 500, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn merge_echo_split_is_identity(case in cases()) {
        let requests: Vec<_> = case.clients.iter()
            .map(|client| request(client.style, client.id.as_deref(), &client.inputs))
            .collect();
        let requests: Vec<_> = requests.iter().collect();
        for request in &requests {
            prop_assert_eq!(&request.key, &requests[0].key, "form, order, rows and id are not part of the key");
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
            prop_assert_eq!(answer.form, request.form);
            let received = receive(&answer);
            prop_assert_eq!(received.id, client.id);
            prop_assert_eq!(received.model, "m");
            let all_raw = client.style.wants_raw() || answer.form == sluice_protocol::Form::Grpc;
            prop_assert_eq!(received.raw_outputs, if all_raw { client.inputs.len() } else { 0 });
            prop_assert_eq!(sorted(received.outputs), sorted(client.inputs));
        }
    }
}
