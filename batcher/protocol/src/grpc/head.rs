//! Reads the first fields of a message before the whole message has arrived.

use prost::Message;
use prost::bytes::Buf;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

use super::InferParameter;
use crate::parameters::from_grpc;
use crate::{Parameters, SequenceStep};

/// The first fields of a request of the service. Field 1 names the model in all requests about one model, and field 2 names
/// it in requests that change settings; field 4 of `ModelInferRequest` is its parameters.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MessageHead {
    /// Field 1 as a string.
    pub first: Option<String>,
    /// Field 2 as a string.
    pub second: Option<String>,
    /// Whether field 1 is there, of whatever type.
    pub has_first: bool,
    parameters: Parameters,
}

/// An entry of the map of parameters.
#[derive(Clone, PartialEq, Message)]
struct Entry {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<InferParameter>,
}

impl MessageHead {
    /// Reads the fields that are complete in `message`, which may be cut off anywhere. Bytes that are not a message read as one
    /// without fields.
    pub fn read(message: &[u8]) -> Self {
        let mut head = Self::default();
        let mut rest = message;
        while rest.has_remaining() && head.read_field(&mut rest).is_some() {}
        head
    }

    /// Returns the step of a sequence that the parameters describe; `None` where they describe none.
    pub fn sequence_step(&self) -> Option<SequenceStep> {
        SequenceStep::of(&self.parameters)
    }

    fn read_field(&mut self, rest: &mut &[u8]) -> Option<()> {
        let (number, wire_type) = decode_key(rest).ok()?;
        self.has_first |= number == 1;
        if wire_type != WireType::LengthDelimited {
            return skip_field(wire_type, number, rest, DecodeContext::default()).ok();
        }
        let length = usize::try_from(decode_varint(rest).ok()?).ok()?;
        let (value, after) = rest.split_at_checked(length)?;
        *rest = after;
        let text = || std::str::from_utf8(value).ok().map(str::to_owned);
        match number {
            1 => self.first = text(),
            2 => self.second = text(),
            4 => {
                if let Ok(Entry { key, value: Some(value) }) = Entry::decode(value) {
                    self.parameters.extend(from_grpc([(key, value)].into()));
                }
            }
            _ => {}
        }
        Some(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::SequenceId;
    use crate::grpc::{ModelInferRequest, infer_parameter::ParameterChoice};

    #[test]
    fn the_model_and_the_step_are_read_of_a_message_that_is_cut_off_in_its_tensors() {
        let parameter = |choice| InferParameter { parameter_choice: Some(choice) };
        let request = ModelInferRequest {
            model_name: "m".into(),
            model_version: "2".into(),
            parameters: [
                ("sequence_id".to_owned(), parameter(ParameterChoice::Int64Param(5))),
                ("sequence_start".to_owned(), parameter(ParameterChoice::BoolParam(true))),
            ]
            .into(),
            raw_input_contents: vec![vec![7; 1000].into()],
            ..Default::default()
        };
        let encoded = request.encode_to_vec();
        for cut in [encoded.len(), encoded.len() - 900] {
            let head = MessageHead::read(&encoded[..cut]);
            assert_eq!((head.first.as_deref(), head.second.as_deref()), (Some("m"), Some("2")));
            let step = head.sequence_step().unwrap();
            assert_eq!((step.id, step.starts, step.ends), (SequenceId::Number(5), true, false));
        }
        for cut in 0..encoded.len() {
            MessageHead::read(&encoded[..cut]);
        }
    }

    #[test]
    fn what_is_no_message_says_nothing() {
        for bytes in [&[][..], &[0xff; 20], &[0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f, 1], &[0x0a, 1, 0xff]] {
            let head = MessageHead::read(bytes);
            assert_eq!((head.first.as_deref(), head.sequence_step()), (None, None), "{bytes:?}");
        }
    }
}
