//! Bodies of warm-up calls: from a folder, zeros in the shapes of the model's metadata, or recorded requests. They are
//! merged as clients' requests are, so that the model server sees the format that batches will have.

use std::path::Path;

use bytes::Bytes;
use sluice_protocol::{
    Api, BatchRows, Datatype, InferRequest, Limits, Merged, Target, WireFormat, merge, merge_padded,
    parse_binary, parse_json,
};

use super::discovery::{ModelMetadata, TensorMetadata};

/// Maximum elements of one input of zeros: 256 MiB of FP32.
const MAX_ELEMENTS: usize = 64 << 20;

/// Where the bodies of a warm-up come from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A file of the folder if there is one for this model and size, else zeros.
    Made {
        /// Metadata of the model, which describes its inputs.
        metadata: &'a ModelMetadata,
        /// Folder of warm-up bodies, if there is one.
        folder: Option<&'a Path>,
    },
    /// A request of live traffic; its last row is repeated to the size of the batch.
    Recorded(&'a InferRequest),
}

impl Source<'_> {
    /// Makes the body of a call with `rows` rows.
    ///
    /// # Errors
    /// Fails if the file cannot be read, or zeros cannot be made; then the message names the input and the reason.
    pub fn body(&self, model: &str, rows: u32, form: WireFormat) -> Result<Merged, String> {
        match *self {
            Self::Made { metadata, folder } => {
                if let Some(folder) = folder
                    && let Some(body) = read(folder, model, rows, form, metadata.inputs.is_empty())?
                {
                    return from_file(model, body, rows, form);
                }
                let request = zeros(model, metadata, rows, MAX_ELEMENTS)?;
                merge(&[&request], form).map_err(|error| error.reason)
            }
            Self::Recorded(request) => {
                merge_padded(&[request], form, rows as usize).map_err(|error| error.reason)
            }
        }
    }

    /// Returns the fewest rows that a body can have.
    pub fn least_rows(&self) -> u32 {
        match self {
            Self::Made { .. } => 1,
            Self::Recorded(request) => u32::try_from(request.rows).unwrap_or(u32::MAX),
        }
    }
}

/// Returns whether a request of zeros would have the same shape as this request.
pub fn has_shape_of_zeros(metadata: &ModelMetadata, request: &InferRequest) -> bool {
    zeros(&request.target.model, metadata, 1, MAX_ELEMENTS).is_ok_and(|zeros| zeros.key == request.key)
}

/// Reads `<model>.<rows>.json`, or `<model>.<rows>.v1.json` for a server that has only V1. A missing file is an error
/// only if `needed`, else `None`.
fn read(
    folder: &Path,
    model: &str,
    rows: u32,
    form: WireFormat,
    needed: bool,
) -> Result<Option<Bytes>, String> {
    // A name from a client must not lead out of the folder.
    if model.contains('/') {
        return Ok(None);
    }
    let ending = match form.protocol().api() {
        Api::V1 => "v1.json",
        Api::V2 => "json",
    };
    let path = folder.join(format!("{model}.{rows}.{ending}"));
    match std::fs::read(&path) {
        Ok(body) => Ok(Some(body.into())),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound && !needed => Ok(None),
        Err(error) => Err(format!("warm-up body {}: {error}", path.display())),
    }
}

/// Makes the body of a call from a file. A server that is sent JSON gets the file unchanged, so that fields which only
/// that server knows are kept.
fn from_file(model: &str, body: Bytes, rows: u32, form: WireFormat) -> Result<Merged, String> {
    let Some(format) = form.protocol().text_format() else {
        let target = Target { model: model.to_owned(), version: None };
        let request = parse_json(&target, body, &own_limits()).map_err(|error| error.to_string())?;
        return merge(&[&request], form).map_err(|error| error.reason);
    };
    Ok(Merged {
        format,
        body_bytes: body.len(),
        chunks: vec![body],
        header_length: None,
        content_type: "application/json",
        rows: BatchRows { requests: vec![rows as usize], padding: 0 },
    })
}

/// Returns the limits on the batcher's own bodies: unlike clients' bodies, they may have any number of tensors and
/// parameters.
pub(super) fn own_limits() -> Limits {
    Limits { tensors: usize::MAX, parameters: usize::MAX, ..Limits::default() }
}

/// Makes a request of zeros. A batch dimension gets `rows`, all other dimensions that may vary get 1.
fn zeros(
    model: &str,
    metadata: &ModelMetadata,
    rows: u32,
    limit_elements: usize,
) -> Result<InferRequest, String> {
    let mut inputs = Vec::with_capacity(metadata.inputs.len());
    let mut raw_bytes = 0;
    for input in &metadata.inputs {
        let shape = shape(input, rows);
        let size_bytes = match Datatype::from_name(&input.datatype) {
            // An empty string consists only of its length.
            Some(datatype) => datatype.size_bytes().unwrap_or(4),
            None => return Err(format!("input {:?}: unknown datatype {:?}", input.name, input.datatype)),
        };
        let bytes = shape
            .iter()
            .try_fold(1_usize, |product, &dim| product.checked_mul(usize::try_from(dim).ok()?))
            .filter(|&elements| elements <= limit_elements)
            .map(|elements| elements * size_bytes)
            .ok_or_else(|| format!("input {:?} of shape {shape:?} is too large to make", input.name))?;
        raw_bytes += bytes;
        inputs.push(serde_json::json!({
            "name": input.name, "datatype": input.datatype, "shape": shape,
            "parameters": { "binary_data_size": bytes },
        }));
    }
    let mut body = serde_json::json!({ "inputs": inputs }).to_string().into_bytes();
    let header_length = body.len();
    body.resize(header_length + raw_bytes, 0);
    let limits = Limits { body_bytes: body.len(), ..own_limits() };
    let target = Target { model: model.to_owned(), version: None };
    parse_binary(&target, header_length, body.into(), &limits).map_err(|error| error.to_string())
}

fn shape(input: &TensorMetadata, rows: u32) -> Vec<i64> {
    let dims = input.shape.iter().enumerate();
    dims.map(|(axis, &dim)| match dim {
        -1 if axis == 0 => i64::from(rows),
        ..0 => 1,
        _ => dim,
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::discovery::parse_metadata;
    use super::*;

    const METADATA: &[u8] = br#"{"inputs":[{"name":"id","datatype":"INT64","shape":[-1,1]},
        {"name":"ok","datatype":"BOOL","shape":[-1,2,-1]},{"name":"text","datatype":"BYTES","shape":[-1,1]}]}"#;
    const HALF: &[u8] = br#"{"inputs":[{"name":"x","datatype":"FP16","shape":[-1,3]}]}"#;

    fn body(metadata: &[u8], rows: u32, form: WireFormat) -> Result<Merged, String> {
        let metadata = parse_metadata(metadata).unwrap();
        Source::Made { metadata: &metadata, folder: None }.body("m", rows, form)
    }

    #[test]
    fn zeros_have_the_asked_rows_and_ones_for_other_free_dimensions() {
        let json = body(METADATA, 2, WireFormat::Json).unwrap();
        let json: serde_json::Value = serde_json::from_slice(&json.chunks.concat()).unwrap();
        assert_eq!(json["inputs"][0]["shape"], serde_json::json!([2, 1]));
        assert_eq!(json["inputs"][0]["data"], serde_json::json!([0, 0]));
        assert_eq!(json["inputs"][1]["shape"], serde_json::json!([2, 2, 1]));
        assert_eq!(json["inputs"][1]["data"], serde_json::json!([false, false, false, false]));
        assert_eq!(json["inputs"][2]["data"], serde_json::json!(["", ""]));
    }

    #[test]
    fn half_precision_is_made_where_the_server_reads_raw_tensors() {
        let raw = body(HALF, 2, WireFormat::Binary).unwrap();
        let header_length = raw.header_length.unwrap();
        assert_eq!(raw.body_bytes - header_length, 2 * 3 * 2);
        assert!(body(HALF, 2, WireFormat::Grpc).is_ok());
        assert!(body(HALF, 2, WireFormat::Json).unwrap_err().contains("FP16"));
    }

    #[test]
    fn inputs_that_cannot_be_made_are_named() {
        let metadata = parse_metadata(METADATA).unwrap();
        assert!(zeros("m", &metadata, 1000, 100).unwrap_err().contains("\"id\""));
        let unknown = METADATA.to_vec();
        let unknown = String::from_utf8(unknown).unwrap().replace("BOOL", "BOOLEAN");
        let metadata = parse_metadata(unknown.as_bytes()).unwrap();
        assert!(zeros("m", &metadata, 1, 100).unwrap_err().contains("\"ok\""));
    }

    #[test]
    fn a_file_of_the_folder_wins_and_is_sent_as_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let text = r#"{"inputs":[{"name":"id","shape":[1,1],"datatype":"INT64","data":[7]}],"its_own":1}"#;
        std::fs::write(folder.path().join("m.1.json"), text).unwrap();
        let metadata = parse_metadata(METADATA).unwrap();
        let source = Source::Made { metadata: &metadata, folder: Some(folder.path()) };
        let one = source.body("m", 1, WireFormat::Binary).unwrap();
        assert_eq!(one.chunks.concat(), text.as_bytes());
        let two = source.body("m", 2, WireFormat::Binary).unwrap();
        assert!(two.header_length.is_some(), "zeros where there is no file");
        let none = ModelMetadata::default();
        let source = Source::Made { metadata: &none, folder: Some(folder.path()) };
        let error = source.body("m", 3, WireFormat::Json).unwrap_err();
        assert!(error.contains("m.3.json"), "{error}");
    }

    #[test]
    fn a_recorded_request_is_repeated_to_any_larger_batch() {
        let target = Target { model: "m".into(), version: None };
        let text = r#"{"inputs":[{"name":"x","shape":[2,1],"datatype":"INT64","data":[7,9]}]}"#;
        let request = parse_json(&target, text.into(), &Limits::default()).unwrap();
        let source = Source::Recorded(&request);
        assert_eq!(source.least_rows(), 2);
        let body = source.body("m", 4, WireFormat::Json).unwrap().chunks.concat();
        let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(body["inputs"][0]["data"], serde_json::json!([7, 9, 9, 9]));
        assert!(!has_shape_of_zeros(&parse_metadata(METADATA).unwrap(), &request));
    }
}
