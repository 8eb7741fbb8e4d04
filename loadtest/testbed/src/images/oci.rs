//! OCI image as one tar file: layout, index, manifest, configuration, one layer. The same entries give the same bytes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use anyhow::{Context, Result};
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};
use tar::{Builder, EntryType, Header};

/// One image.
#[derive(Debug, Clone)]
pub(crate) struct Image {
    pub reference: String,
    /// Path of the program that the image runs.
    pub entrypoint: String,
    /// Its files.
    pub entries: Vec<Entry>,
}

/// A file, a folder or a link of an image.
#[derive(Debug, Clone)]
pub(crate) struct Entry {
    path: String,
    mode: u32,
    content: Content,
}

#[derive(Debug, Clone)]
enum Content {
    Folder,
    Bytes(Vec<u8>),
    /// A file of this machine. It is read when the image is written, because an image may have thousands.
    File(PathBuf),
    Link(PathBuf),
}

impl Entry {
    /// An executable file.
    pub(crate) fn program(path: &str, content: Vec<u8>) -> Self {
        Self { path: path.to_owned(), mode: 0o755, content: Content::Bytes(content) }
    }

    /// A folder.
    pub(crate) fn folder(path: &str, mode: u32) -> Self {
        Self { path: path.to_owned(), mode, content: Content::Folder }
    }

    /// A file of this machine, with its time: compiled Python is good only for a source of the time that it names.
    pub(crate) fn file(path: &str, mode: u32, file: PathBuf) -> Self {
        Self { path: path.to_owned(), mode, content: Content::File(file) }
    }

    /// A symbolic link.
    pub(crate) fn link(path: &str, target: PathBuf) -> Self {
        Self { path: path.to_owned(), mode: 0o777, content: Content::Link(target) }
    }
}

impl Image {
    /// Writes the image in the form that `ctr images import` reads.
    ///
    /// # Errors
    /// When a path does not fit into a tar file, or a file cannot be read.
    pub(crate) fn tar(&self) -> Result<Vec<u8>> {
        let layer = layer(&self.entries)?;
        let configuration = serde_json::to_vec(&json!({
            "architecture": architecture(),
            "os": "linux",
            "config": { "Entrypoint": [self.entrypoint], "Env": ["PATH=/usr/local/bin"] },
            "rootfs": { "type": "layers", "diff_ids": [sha256(&layer)] },
        }))?;
        let manifest = serde_json::to_vec(&json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": descriptor("application/vnd.oci.image.config.v1+json", &configuration),
            "layers": [descriptor("application/vnd.oci.image.layer.v1.tar", &layer)],
        }))?;
        let mut described = descriptor("application/vnd.oci.image.manifest.v1+json", &manifest);
        described["annotations"] = json!({ "io.containerd.image.name": self.reference });
        let index = serde_json::to_vec(&json!({ "schemaVersion": 2, "manifests": [described] }))?;

        let mut tar = Builder::new(Vec::new());
        append(&mut tar, "oci-layout", 0o644, br#"{"imageLayoutVersion":"1.0.0"}"#, 0)?;
        append(&mut tar, "index.json", 0o644, &index, 0)?;
        for blob in [&layer, &configuration, &manifest] {
            append(&mut tar, &format!("blobs/{}", sha256(blob).replace(':', "/")), 0o644, blob, 0)?;
        }
        Ok(tar.into_inner()?)
    }
}

fn layer(entries: &[Entry]) -> Result<Vec<u8>> {
    let mut tar = Builder::new(Vec::new());
    let mut folders = BTreeSet::new();
    for entry in entries {
        let above: Vec<&Path> = Path::new(&entry.path).ancestors().skip(1).collect();
        for folder in above.into_iter().rev().filter(|folder| !folder.as_os_str().is_empty()) {
            if folders.insert(folder.to_owned()) {
                append_folder(&mut tar, &folder.display().to_string(), 0o755)?;
            }
        }
        match &entry.content {
            Content::Folder => append_folder(&mut tar, &entry.path, entry.mode)?,
            Content::Bytes(content) => append(&mut tar, &entry.path, entry.mode, content, 0)?,
            Content::File(file) => {
                let said = || file.display().to_string();
                let changed = std::fs::metadata(file).and_then(|metadata| metadata.modified());
                let changed = changed.with_context(said)?.duration_since(UNIX_EPOCH).unwrap_or_default();
                let content = std::fs::read(file).with_context(said)?;
                append(&mut tar, &entry.path, entry.mode, &content, changed.as_secs())?;
            }
            Content::Link(target) => {
                let mut header = header(EntryType::Symlink, entry.mode);
                header.set_size(0);
                tar.append_link(&mut header, &entry.path, target)?;
            }
        }
    }
    Ok(tar.into_inner()?)
}

fn append(tar: &mut Builder<Vec<u8>>, path: &str, mode: u32, content: &[u8], changed_s: u64) -> Result<()> {
    let mut header = header(EntryType::Regular, mode);
    header.set_mtime(changed_s);
    header.set_size(content.len() as u64);
    tar.append_data(&mut header, path, content)?;
    Ok(())
}

fn append_folder(tar: &mut Builder<Vec<u8>>, path: &str, mode: u32) -> Result<()> {
    let mut header = header(EntryType::Directory, mode);
    header.set_size(0);
    tar.append_data(&mut header, path, std::io::empty())?;
    Ok(())
}

fn header(kind: EntryType, mode: u32) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(mode);
    header.set_entry_type(kind);
    header
}

fn descriptor(media_type: &str, blob: &[u8]) -> Value {
    json!({ "mediaType": media_type, "digest": sha256(blob), "size": blob.len() })
}

fn sha256(bytes: &[u8]) -> String {
    let hex: String = digest(&SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256:{hex}")
}

/// Returns the name of the architecture in OCI.
fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::io::Read;

    fn unpack(tar: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut files = BTreeMap::new();
        for entry in tar::Archive::new(tar).entries().unwrap() {
            let mut entry = entry.unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(entry.path().unwrap().display().to_string(), content);
        }
        files
    }

    fn image() -> Image {
        Image {
            reference: "sluice.dev/x:1".into(),
            entrypoint: "/usr/local/bin/x".into(),
            entries: vec![
                Entry::folder("tmp", 0o1777),
                Entry::program("usr/local/bin/x", b"program".to_vec()),
                Entry::program("usr/local/lib/y.so", b"library".to_vec()),
            ],
        }
    }

    #[test]
    fn every_digest_leads_to_its_blob_down_to_the_programs() {
        let files = unpack(&image().tar().unwrap());
        let blob = |descriptor: &Value| {
            let digest = descriptor["digest"].as_str().unwrap();
            let content = &files[&format!("blobs/{}", digest.replace(':', "/"))];
            assert_eq!(sha256(content), digest);
            assert_eq!(descriptor["size"], content.len());
            content
        };
        let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
        assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "sluice.dev/x:1");
        let manifest: Value = serde_json::from_slice(blob(&index["manifests"][0])).unwrap();
        let configuration: Value = serde_json::from_slice(blob(&manifest["config"])).unwrap();
        assert_eq!(configuration["config"]["Entrypoint"][0], "/usr/local/bin/x");
        assert_eq!(configuration["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        let layer = unpack(blob(&manifest["layers"][0]));
        assert_eq!(layer["usr/local/bin/x"], b"program");
        let paths: Vec<&str> = layer.keys().map(|path| path.trim_end_matches('/')).collect();
        assert_eq!(
            paths,
            [
                "tmp",
                "usr",
                "usr/local",
                "usr/local/bin",
                "usr/local/bin/x",
                "usr/local/lib",
                "usr/local/lib/y.so"
            ]
        );
    }

    #[test]
    fn files_of_this_machine_keep_their_time_and_links_their_target() {
        let folder = tempfile::tempdir().unwrap();
        let source = folder.path().join("module.py");
        std::fs::write(&source, "x = 1").unwrap();
        let changed = UNIX_EPOCH + std::time::Duration::from_secs(1_700_000_000);
        std::fs::File::options().write(true).open(&source).unwrap().set_modified(changed).unwrap();
        let entries =
            [Entry::file("lib/module.py", 0o644, source), Entry::link("bin/python", "../lib/python3".into())];
        let layer = layer(&entries).unwrap();
        let mut archive = tar::Archive::new(&layer[..]);
        let found: Vec<_> = archive.entries().unwrap().map(Result::unwrap).collect();
        let of = |name: &str| {
            let is_it = |entry: &&tar::Entry<'_, _>| entry.path().unwrap() == Path::new(name);
            found.iter().find(is_it).unwrap()
        };
        assert_eq!(of("lib/module.py").header().mtime().unwrap(), 1_700_000_000);
        assert_eq!(of("bin/python").link_name().unwrap().unwrap(), Path::new("../lib/python3"));
    }

    #[test]
    fn the_same_files_make_the_same_image() {
        assert_eq!(image().tar().unwrap(), image().tar().unwrap());
    }
}
