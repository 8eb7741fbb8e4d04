//! Derives from a model's metadata the names, datatypes and shapes that V1 and raw binary requests leave out.

use sluice_protocol::{Datatype, ModelSignature, TensorSignature};

use super::discovery::{TensorMetadata, parse_metadata};

/// Returns the signature; `None` if the metadata is not valid, names no inputs or contains an unknown datatype.
pub fn signature_of(metadata: &[u8]) -> Option<ModelSignature> {
    let metadata = parse_metadata(metadata).ok()?;
    let tensors =
        |tensors: &[TensorMetadata]| tensors.iter().map(tensor).collect::<Option<Vec<TensorSignature>>>();
    let signature =
        ModelSignature { inputs: tensors(&metadata.inputs)?, outputs: tensors(&metadata.outputs)? };
    (!signature.inputs.is_empty()).then_some(signature)
}

fn tensor(metadata: &TensorMetadata) -> Option<TensorSignature> {
    Some(TensorSignature {
        name: metadata.name.clone(),
        datatype: Datatype::from_name(&metadata.datatype)?,
        shape: metadata.shape.iter().map(|dim| u64::try_from(*dim).ok()).collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_needs_inputs_of_known_datatypes() {
        let signature =
            signature_of(br#"{"inputs":[{"name":"x","datatype":"FP32","shape":[-1,3]}],"outputs":[]}"#);
        let x = TensorSignature { name: "x".into(), datatype: Datatype::Fp32, shape: vec![None, Some(3)] };
        assert_eq!(signature, Some(ModelSignature { inputs: vec![x], outputs: vec![] }));
        for nothing in [
            &br#"{"name":"m"}"#[..],
            br#"{"inputs":[{"name":"x","datatype":"INT128","shape":[-1]}]}"#,
            b"<html>",
        ] {
            assert_eq!(signature_of(nothing), None);
        }
    }
}
