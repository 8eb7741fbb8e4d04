//! Stores recorded requests in the folder of warm-up bodies, so that later processes can warm with them too.
//!
//! A file is a V2 binary body; its name is `<model>.<shape>.<header length>.recorded`, where `<shape>` is a digest of
//! the request's merge key: replicas that share a folder write one file per shape.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::{Path, PathBuf};

use sluice_process::atomic_file::write_atomic;
use sluice_protocol::{InferRequest, Target, WireFormat, merge, parse_binary};

use super::warm_body::own_limits;

/// Maximum number of files per model.
const MAX_FILES: usize = 8;
/// Suffix of the files' names.
const ENDING: &str = ".recorded";

/// Writes one request, unless the folder has enough files of its model. Skips a V1 request that is not read as V2
/// tensors: it has no V2 binary form, so only this process remembers it.
///
/// # Errors
/// Fails if the request has no binary form, or the folder cannot be written.
pub fn write(folder: &Path, model: &str, request: &InferRequest) -> Result<(), String> {
    if request.v1.is_some() {
        return Ok(());
    }
    let mut hasher = DefaultHasher::new();
    request.key.hash(&mut hasher);
    let shape = format!("{:016x}", hasher.finish());
    let there = files(folder, model)?;
    let same = |path: &PathBuf| parts(path, model).is_some_and(|(other, _)| other == shape);
    if there.len() >= MAX_FILES && !there.iter().any(same) {
        return Ok(());
    }
    let body = as_binary(request)?;
    let header_length = body.header_length.unwrap_or(0);
    let path = folder.join(format!("{model}.{shape}.{header_length}{ENDING}"));
    write_atomic(&path, &body.chunks.concat()).map_err(|error| format!("{}: {error}", path.display()))?;
    for old in there.iter().filter(|old| same(old) && **old != path) {
        let _ = std::fs::remove_file(old);
    }
    Ok(())
}

/// Converts a request to the V2 binary format, whatever format the client used.
fn as_binary(request: &InferRequest) -> Result<sluice_protocol::Merged, String> {
    let raw = InferRequest { id: None, binary_data_output: true, is_verbatim: false, ..request.clone() };
    merge(&[&raw], WireFormat::Binary).map_err(|error| error.reason)
}

/// Reads the recorded requests of a model. Files that cannot be read are skipped, because they must not make a warm-up
/// fail.
pub fn read(folder: &Path, model: &str) -> Vec<InferRequest> {
    let target = Target { model: model.to_owned(), version: None };
    let paths = files(folder, model).unwrap_or_default();
    let read = |path: &PathBuf| {
        let (_, header_length) = parts(path, model)?;
        let body = std::fs::read(path).ok()?;
        parse_binary(&target, header_length, body.into(), &own_limits()).ok()
    };
    paths.iter().take(MAX_FILES).filter_map(read).filter(|request| request.alone.is_none()).collect()
}

fn files(folder: &Path, model: &str) -> Result<Vec<PathBuf>, String> {
    // A name from a client must not lead out of the folder.
    if model.contains('/') {
        return Err(format!("model {model:?} cannot be part of a file name"));
    }
    let entries = std::fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files: Vec<PathBuf> = entries.filter_map(|entry| Some(entry.ok()?.path())).collect();
    files.retain(|path| parts(path, model).is_some());
    files.sort();
    Ok(files)
}

/// Parses the name of a file: returns shape and header length, or `None` if it is not a file of this model.
fn parts(path: &Path, model: &str) -> Option<(String, usize)> {
    let name = path.file_name()?.to_str()?;
    let rest = name.strip_prefix(model)?.strip_prefix('.')?.strip_suffix(ENDING)?;
    let (shape, header_length) = rest.split_once('.')?;
    let is_digest = shape.len() == 16 && shape.bytes().all(|byte| byte.is_ascii_hexdigit());
    Some((shape.to_owned(), header_length.parse().ok().filter(|_| is_digest)?))
}

#[cfg(test)]
mod tests {
    use sluice_protocol::parse_json;

    use sluice_protocol::Limits;

    use super::*;

    fn request(width: usize, value: f32) -> InferRequest {
        let target = Target { model: "m".into(), version: None };
        let data = vec![value; width];
        let body = serde_json::json!({"id": "secret", "inputs": [{"name": "x", "datatype": "FP32", "shape": [1, width], "data": data}]});
        parse_json(&target, body.to_string().into(), &Limits::default()).unwrap()
    }

    #[test]
    fn what_was_written_is_read_again_without_the_clients_id() {
        let folder = tempfile::tempdir().unwrap();
        write(folder.path(), "m", &request(3, 1.5)).unwrap();
        let read = read(folder.path(), "m");
        assert_eq!(read.len(), 1);
        assert_eq!((read[0].rows, &read[0].inputs[0].shape[..], &read[0].id), (1, &[1, 3][..], &None));
        assert!(super::read(folder.path(), "other").is_empty());
    }

    #[test]
    fn one_file_per_shape_and_not_too_many() {
        let folder = tempfile::tempdir().unwrap();
        for value in [0.5, 1.5] {
            write(folder.path(), "m", &request(3, value)).unwrap();
        }
        assert_eq!(files(folder.path(), "m").unwrap().len(), 1);
        for width in 1..20 {
            write(folder.path(), "m", &request(width, 0.0)).unwrap();
        }
        assert_eq!(files(folder.path(), "m").unwrap().len(), MAX_FILES);
    }

    #[test]
    fn files_that_are_not_ours_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        for name in [
            "m.1.json",
            "m.0123456789abcdef.x.recorded",
            "m.short.9.recorded",
            "mm.0123456789abcdef.9.recorded",
        ] {
            std::fs::write(folder.path().join(name), "{}").unwrap();
        }
        std::fs::write(folder.path().join("m.0123456789abcdef.2.recorded"), "{}").unwrap();
        assert_eq!(files(folder.path(), "m").unwrap().len(), 1);
        assert!(read(folder.path(), "m").is_empty(), "no inputs: not to be merged");
        assert!(write(folder.path(), "../m", &request(1, 0.0)).is_err());
    }
}
