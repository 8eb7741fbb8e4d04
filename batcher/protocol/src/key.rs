//! With which other requests a request may share a batch.

use std::sync::Arc;

use crate::{Parameter, Parameters, RequestedOutput, Target, Tensor};

/// What must be equal for two requests to share a batch: model, explicit version, the set of inputs (name,
/// datatype, all dimensions but 0, parameters), request parameters other than those that we consume, and the
/// selected outputs with their parameters. The client's form, the order of inputs, the id and the number of rows
/// are not part of it.
///
/// Cheap to clone; a canonical text of the above, so that equality is exact and never rests on a hash alone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MergeKey(Arc<[u8]>);

impl MergeKey {
    pub(crate) fn of(
        target: &Target,
        parameters: &Parameters,
        inputs: &[Tensor],
        outputs: &[RequestedOutput],
    ) -> Self {
        let mut writer = Writer(Vec::with_capacity(128));
        writer.text(&target.model);
        writer.0.push(u8::from(target.version.is_some()));
        writer.text(target.version.as_deref().unwrap_or_default());
        writer.parameters(parameters);

        let mut inputs: Vec<&Tensor> = inputs.iter().collect();
        inputs.sort_by(|one, other| one.name.cmp(&other.name));
        writer.count(inputs.len());
        for input in inputs {
            writer.text(&input.name);
            writer.0.push(input.datatype as u8);
            writer.count(input.shape.len());
            for dimension in input.shape.iter().skip(1) {
                writer.0.extend_from_slice(&dimension.to_le_bytes());
            }
            writer.parameters(&input.parameters);
        }

        let mut outputs: Vec<&RequestedOutput> = outputs.iter().collect();
        outputs.sort_by(|one, other| one.name.cmp(&other.name));
        writer.count(outputs.len());
        for output in outputs {
            writer.text(&output.name);
            writer.parameters(&output.parameters);
        }
        Self(writer.0.into())
    }
}

/// Writes the canonical form: every part has a fixed length or its length before it, so that no two keys read alike.
struct Writer(Vec<u8>);

impl Writer {
    fn count(&mut self, count: usize) {
        self.0.extend_from_slice(&(count as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.0.extend_from_slice(text.as_bytes());
    }

    fn parameters(&mut self, parameters: &Parameters) {
        self.count(parameters.len());
        for (name, value) in parameters {
            self.text(name);
            let (kind, bits) = match value {
                Parameter::Bool(value) => (0, u64::from(*value)),
                Parameter::Int(value) => (1, value.cast_unsigned()),
                Parameter::Uint(value) => (2, *value),
                Parameter::Double(value) => (3, value.to_bits()),
                Parameter::Text(text) => (4, text.len() as u64),
            };
            self.0.push(kind);
            self.0.extend_from_slice(&bits.to_le_bytes());
            if let Parameter::Text(text) = value {
                self.0.extend_from_slice(text.as_bytes());
            }
        }
    }
}
