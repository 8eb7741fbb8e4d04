//! Certificate authority, certificates and kubeconfigs of a cluster. They are removed with it.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{Context, Result};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, SanType,
};
use serde_json::{Value, json};

use crate::addresses::{KUBERNETES_SERVICE, NODE, api_server};
use crate::node::components::NODE_NAME;
use crate::workdir::Workdir;

/// Subject of a certificate: file name, common name, organisation (which the API server reads as a group).
struct Subject {
    file: &'static str,
    name: String,
    group: Option<&'static str>,
    dns_names: Vec<String>,
    addresses: Vec<&'static str>,
}

/// Users with a kubeconfig.
const USERS: [&str; 5] = ["admin", "controller-manager", "scheduler", "proxy", "kubelet"];

/// Writes all keys, certificates and kubeconfigs.
///
/// # Errors
/// Names the file that could not be written.
pub(crate) fn write(workdir: &Workdir) -> Result<()> {
    let folder = workdir.path("pki");
    fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
    let authority = authority()?;
    write_private(&folder.join("ca.crt"), &authority.1)?;
    write_private(&folder.join("ca.key"), &authority.0.key().serialize_pem())?;
    for subject in subjects() {
        let (certificate, key) = issue(&authority.0, &subject)?;
        write_private(&folder.join(format!("{}.crt", subject.file)), &certificate)?;
        write_private(&folder.join(format!("{}.key", subject.file)), &key)?;
    }
    // Key that signs the tokens of service accounts.
    let accounts = KeyPair::generate()?;
    write_private(&folder.join("accounts.key"), &accounts.serialize_pem())?;
    write_private(&folder.join("accounts.pub"), &accounts.public_key_pem())?;
    for user in USERS {
        let config = serde_json::to_string_pretty(&kubeconfig(workdir, user))?;
        write_private(&workdir.path(&format!("etc/{user}.kubeconfig")), &config)?;
    }
    Ok(())
}

fn subjects() -> Vec<Subject> {
    let client = |file, name: &str, group| Subject {
        file,
        name: name.to_owned(),
        group,
        dns_names: Vec::new(),
        addresses: Vec::new(),
    };
    let services = ["kubernetes", "kubernetes.default", "kubernetes.default.svc", "localhost"];
    vec![
        Subject {
            dns_names: services.map(ToOwned::to_owned).to_vec(),
            addresses: vec!["127.0.0.1", NODE, KUBERNETES_SERVICE],
            ..client("apiserver", "kube-apiserver", None)
        },
        Subject {
            dns_names: vec![NODE_NAME.to_owned()],
            addresses: vec![NODE],
            ..client("kubelet", &format!("system:node:{NODE_NAME}"), Some("system:nodes"))
        },
        client("admin", "admin", Some("system:masters")),
        client("apiserver-to-kubelet", "kube-apiserver-kubelet-client", Some("system:masters")),
        client("controller-manager", "system:kube-controller-manager", None),
        client("scheduler", "system:kube-scheduler", None),
        client("proxy", "system:kube-proxy", None),
    ]
}

/// Certificate authority with its certificate.
fn authority() -> Result<(Issuer<'static, KeyPair>, String)> {
    let mut parameters = CertificateParams::new(Vec::new())?;
    parameters.distinguished_name.push(DnType::CommonName, "sluice-testbed");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    let key = KeyPair::generate()?;
    let certificate = parameters.self_signed(&key)?.pem();
    Ok((Issuer::new(parameters, key), certificate))
}

fn issue(authority: &Issuer<'_, KeyPair>, subject: &Subject) -> Result<(String, String)> {
    let mut parameters = CertificateParams::new(subject.dns_names.clone())?;
    for address in &subject.addresses {
        let address: Ipv4Addr = address.parse()?;
        parameters.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(address)));
    }
    parameters.distinguished_name.push(DnType::CommonName, &subject.name);
    if let Some(group) = subject.group {
        parameters.distinguished_name.push(DnType::OrganizationName, group);
    }
    parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    parameters.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    parameters.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate()?;
    let certificate = parameters.signed_by(&key, authority)?;
    Ok((certificate.pem(), key.serialize_pem()))
}

fn kubeconfig(workdir: &Workdir, user: &str) -> Value {
    let name = format!("sluice-{}", workdir.name());
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": name, "cluster": {
            "server": api_server(),
            "certificate-authority": workdir.path("pki/ca.crt"),
        }}],
        "users": [{ "name": user, "user": {
            "client-certificate": workdir.path(&format!("pki/{user}.crt")),
            "client-key": workdir.path(&format!("pki/{user}.key")),
        }}],
        "contexts": [{ "name": name, "context": { "cluster": name, "user": user } }],
        "current-context": name,
    })
}

fn write_private(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text)
        .and_then(|()| fs::set_permissions(path, fs::Permissions::from_mode(0o600)))
        .with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_user_has_a_certificate_and_a_kubeconfig_that_names_it() {
        let folder = tempfile::tempdir().unwrap();
        fs::create_dir(folder.path().join("etc")).unwrap();
        let workdir = Workdir::at(&"pki".parse().unwrap(), folder.path());
        write(&workdir).unwrap();
        for user in USERS {
            let config = fs::read(workdir.path(&format!("etc/{user}.kubeconfig"))).unwrap();
            let config: Value = serde_json::from_slice(&config).unwrap();
            assert_eq!(config["clusters"][0]["cluster"]["server"], "https://198.18.0.1:6443");
            let certificate = config["users"][0]["user"]["client-certificate"].as_str().unwrap();
            assert!(fs::read_to_string(certificate).unwrap().starts_with("-----BEGIN CERTIFICATE-----"));
        }
        assert!(fs::read_to_string(workdir.path("pki/accounts.pub")).unwrap().contains("BEGIN PUBLIC KEY"));
        let mode = fs::metadata(workdir.path("pki/ca.key")).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
    }
}
