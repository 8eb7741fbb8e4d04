//! Key by which requests may share a batch.

use std::sync::Arc;

use crate::json::items;
use crate::v1::{Data, V1Request};
use crate::{Parameter, Parameters, RequestedOutput, Target, Tensor};

/// Everything that must be equal for two requests to share a batch: model, explicit version, the set of inputs (name,
/// datatype, all dimensions but 0, parameters), request parameters other than those that the batcher consumes, and the
/// selected outputs with their parameters. The client's wire format, the order of inputs, the id and the number of rows
/// are not part of it.
///
/// It is a canonical encoding of these, so that equality is exact and does not depend on a hash alone. It is cheap to clone.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MergeKey(Arc<[u8]>);

impl MergeKey {
    pub(crate) fn of(
        target: &Target,
        parameters: &Parameters,
        inputs: &[Tensor],
        outputs: &[RequestedOutput],
    ) -> Self {
        let mut writer = Writer::of(target, Family::V2);
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

    /// Creates the key of a V1 request that is not read as V2 tensors: model, version or label, whether it is by rows or by
    /// columns, names of the columns, all other fields as they were written (`signature_name`, …), and the structure of the
    /// first row.
    pub(crate) fn of_v1(target: &Target, request: &V1Request) -> Self {
        let mut writer = Writer::of(target, Family::V1);
        writer.optional(request.label.as_deref());
        match &request.data {
            Data::Rows(rows) => writer.column(0, "", rows),
            Data::Column(rows) => writer.column(1, "", rows),
            Data::Columns(columns) => {
                let mut columns: Vec<_> = columns.iter().collect();
                columns.sort_by(|(one, _), (other, _)| one.cmp(other));
                columns.into_iter().for_each(|(name, rows)| writer.column(2, name, rows));
            }
        }
        writer.count(request.fields.len());
        for (name, value) in &request.fields {
            writer.text(name);
            writer.bytes(value);
        }
        Self(writer.0.into())
    }
}

/// Family of keys: keys of different families are never equal.
#[derive(Clone, Copy)]
enum Family {
    V1 = 1,
    V2,
}

/// Writer of the canonical encoding: every part has a fixed length or is preceded by its length, so that different keys
/// have different encodings.
struct Writer(Vec<u8>);

impl Writer {
    fn of(target: &Target, family: Family) -> Self {
        let mut writer = Self(Vec::with_capacity(128));
        writer.0.push(family as u8);
        writer.text(&target.model);
        writer.optional(target.version.as_deref());
        writer
    }

    fn optional(&mut self, text: Option<&str>) {
        self.0.push(u8::from(text.is_some()));
        self.text(text.unwrap_or_default());
    }

    /// Writes a column of a V1 request: its kind, its name, and the structure of its first row.
    fn column(&mut self, kind: u8, name: &str, rows: &[u8]) {
        self.0.push(kind);
        self.text(name);
        let first = items::items(rows).next();
        self.value(first.map_or(&[][..], |first| &rows[first]));
    }

    /// Writes the structure of a JSON value: dimensions, names and kinds of its parts, without the scalars.
    fn value(&mut self, text: &[u8]) {
        match text.first() {
            Some(b'[') => {
                self.0.push(b'[');
                let mut level = items::items(text);
                let first = level.next();
                self.count(usize::from(first.is_some()) + level.count());
                self.value(first.map_or(&[][..], |first| &text[first]));
            }
            Some(b'{') => {
                self.0.push(b'{');
                let mut members: Vec<_> = items::members(text).collect();
                members.sort_by(|(one, _), (other, _)| text[one.clone()].cmp(&text[other.clone()]));
                self.count(members.len());
                for (name, value) in members {
                    self.bytes(&text[name]);
                    self.value(&text[value]);
                }
            }
            Some(b'-' | b'0'..=b'9' | b'N' | b'I') => self.0.push(b'0'),
            Some(b'f') => self.0.push(b't'),
            Some(&other) => self.0.push(other),
            None => self.0.push(0),
        }
    }

    fn count(&mut self, count: usize) {
        self.0.extend_from_slice(&(count as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.bytes(text.as_bytes());
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.count(bytes.len());
        self.0.extend_from_slice(bytes);
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
