//! Every sample is read by the very reader that the programs use.
#![cfg(feature = "crd")]

use std::path::Path;

use sluice_config::api::manifest;

#[test]
fn every_sample_is_accepted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("samples");
    let mut read = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|extension| extension == "yaml") {
            let documents = manifest::read(&path).unwrap_or_else(|error| panic!("{error}"));
            assert!(!documents.is_empty(), "{} has no document", path.display());
            read += 1;
        }
    }
    assert!(read > 0, "no samples found");
}
