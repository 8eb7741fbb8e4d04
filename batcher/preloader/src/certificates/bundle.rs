//! The webhook's own CA and the certificate that it signs, as the Secret stores them.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

const DAY_S: u64 = 24 * 3600;
const CA_LIFETIME_S: u64 = 3650 * DAY_S;
const LIFETIME_S: u64 = 90 * DAY_S;
/// Time before its end at which the CA is replaced.
const CA_MARGIN_S: u64 = 365 * DAY_S;
const MARGIN_S: u64 = 30 * DAY_S;
/// Time by which certificates are backdated, because clocks of other machines may be behind.
const BACKDATED_S: u64 = 3600;

const CA_CERTIFICATES: &str = "ca.crt";
const CA_KEY: &str = "ca.key";
const CERTIFICATE: &str = "tls.crt";
const KEY: &str = "tls.key";
const CA_ENDS: &str = "ca.not-after";
const ENDS: &str = "tls.not-after";

/// What must be created anew, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// Nothing for this number of seconds.
    In(u64),
    /// The serving certificate.
    Certificate,
    /// The CA, and with it the serving certificate.
    Everything,
}

/// A CA with its key, and a serving certificate of this CA with its key; all PEM.
#[derive(Clone, PartialEq, Eq)]
pub struct Bundle {
    /// Certificate of the CA, then that of its predecessor, whose serving certificates stay trusted.
    ca_certificates: String,
    ca_key: String,
    certificate: String,
    key: String,
    /// End of the CA's validity, in seconds since 1970.
    ca_not_after_s: u64,
    /// End of the serving certificate's validity, in seconds since 1970.
    not_after_s: u64,
}

impl Bundle {
    /// Creates a CA, and a certificate for these DNS names. The CA of `previous` stays trusted.
    ///
    /// # Errors
    /// When a name is not valid, or no key can be generated.
    pub fn new(names: &[String], now_s: u64, previous: Option<&Self>) -> Result<Self, rcgen::Error> {
        let ca_key = KeyPair::generate()?;
        let ca_not_after_s = now_s.saturating_add(CA_LIFETIME_S);
        let ca = authority(now_s, ca_not_after_s)?.self_signed(&ca_key)?;
        let before = previous.and_then(|previous| first_certificate(&previous.ca_certificates));
        let made = Self {
            ca_certificates: ca.pem() + before.unwrap_or_default(),
            ca_key: ca_key.serialize_pem(),
            certificate: String::new(),
            key: String::new(),
            ca_not_after_s,
            not_after_s: 0,
        };
        made.renewed(names, now_s)
    }

    /// Returns a bundle with the same CA and a new serving certificate.
    ///
    /// # Errors
    /// When a name or the CA's key is not valid.
    pub fn renewed(&self, names: &[String], now_s: u64) -> Result<Self, rcgen::Error> {
        let issuer = Issuer::new(authority(now_s, self.ca_not_after_s)?, KeyPair::from_pem(&self.ca_key)?);
        let key = KeyPair::generate()?;
        let not_after_s = now_s.saturating_add(LIFETIME_S).min(self.ca_not_after_s);
        let mut params = params(names, now_s, not_after_s)?;
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &issuer)?;
        Ok(Self { certificate: certificate.pem(), key: key.serialize_pem(), not_after_s, ..self.clone() })
    }

    /// Returns what must be created anew at this time.
    pub fn due(&self, now_s: u64) -> Due {
        let left = |not_after_s: u64, margin_s: u64| not_after_s.saturating_sub(margin_s).checked_sub(now_s);
        match (left(self.ca_not_after_s, CA_MARGIN_S), left(self.not_after_s, MARGIN_S)) {
            (None | Some(0), _) => Due::Everything,
            (_, None | Some(0)) => Due::Certificate,
            (Some(ca), Some(certificate)) => Due::In(ca.min(certificate)),
        }
    }

    /// Returns the CA certificates that the API server must trust, as PEM.
    pub fn ca_certificates(&self) -> &str {
        &self.ca_certificates
    }

    /// Returns the certificate and key that are served.
    ///
    /// # Errors
    /// When certificate and key cannot be read or do not belong together.
    pub fn certified_key(&self) -> Result<CertifiedKey, rustls::Error> {
        let general = |error: rustls::pki_types::pem::Error| rustls::Error::General(error.to_string());
        let chain: Vec<_> = CertificateDer::pem_slice_iter(self.certificate.as_bytes())
            .collect::<Result<_, _>>()
            .map_err(general)?;
        let key = PrivateKeyDer::from_pem_slice(self.key.as_bytes()).map_err(general)?;
        CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())
    }

    /// Returns the Secret `name` that stores the bundle.
    pub fn to_secret(&self, name: &str) -> Secret {
        let (ca_ends, ends) = (self.ca_not_after_s.to_string(), self.not_after_s.to_string());
        let data = [
            (CA_CERTIFICATES, &self.ca_certificates),
            (CA_KEY, &self.ca_key),
            (CERTIFICATE, &self.certificate),
            (KEY, &self.key),
            (CA_ENDS, &ca_ends),
            (ENDS, &ends),
        ];
        let data = data.map(|(key, value)| (key.to_owned(), ByteString(value.clone().into_bytes())));
        Secret {
            metadata: ObjectMeta {
                name: Some(name.to_owned()),
                labels: Some(BTreeMap::from([("app.kubernetes.io/part-of".to_owned(), "sluice".to_owned())])),
                ..ObjectMeta::default()
            },
            data: Some(data.into()),
            ..Secret::default()
        }
    }

    /// Reads the bundle that a Secret stores.
    ///
    /// # Errors
    /// Names the key that is missing or cannot be read.
    pub fn from_secret(secret: &Secret) -> Result<Self, String> {
        let text = |key: &str| {
            let value = secret.data.as_ref().and_then(|data| data.get(key));
            let value = value.ok_or_else(|| format!("data.{key} is missing"))?;
            String::from_utf8(value.0.clone()).map_err(|_| format!("data.{key} is not a text"))
        };
        let seconds = |key: &str| {
            text(key)?.parse().map_err(|_| format!("data.{key} is not a number of seconds since 1970"))
        };
        let bundle = Self {
            ca_certificates: text(CA_CERTIFICATES)?,
            ca_key: text(CA_KEY)?,
            certificate: text(CERTIFICATE)?,
            key: text(KEY)?,
            ca_not_after_s: seconds(CA_ENDS)?,
            not_after_s: seconds(ENDS)?,
        };
        KeyPair::from_pem(&bundle.ca_key).map_err(|error| format!("data.{CA_KEY}: {error}"))?;
        bundle.certified_key().map_err(|error| format!("data.{CERTIFICATE} and data.{KEY}: {error}"))?;
        Ok(bundle)
    }
}

impl std::fmt::Debug for Bundle {
    /// Leaves out the keys.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle").field("not_after_s", &self.not_after_s).finish_non_exhaustive()
    }
}

/// Returns the CA's own parameters. They are equal for every certificate that it signs, so they need not be read back.
fn authority(now_s: u64, not_after_s: u64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = params(&[], now_s, not_after_s)?;
    params.distinguished_name.push(DnType::CommonName, "sluice-preloader CA");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
    Ok(params)
}

fn params(names: &[String], now_s: u64, not_after_s: u64) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(names)?;
    params.distinguished_name = rcgen::DistinguishedName::new();
    if let Some(name) = names.first() {
        params.distinguished_name.push(DnType::CommonName, name.as_str());
    }
    let at = |seconds: u64| date_time_ymd(1970, 1, 1) + Duration::from_secs(seconds);
    params.not_before = at(now_s.saturating_sub(BACKDATED_S));
    params.not_after = at(not_after_s);
    Ok(params)
}

/// Returns the first certificate of a PEM text; `None` where the text has no certificate.
fn first_certificate(pem: &str) -> Option<&str> {
    const END: &str = "-----END CERTIFICATE-----\n";
    Some(&pem[..pem.find(END)? + END.len()])
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW_S: u64 = 1_800_000_000;

    fn names() -> Vec<String> {
        vec!["sluice-preloader".into(), "sluice-preloader.sluice-system.svc".into()]
    }

    #[test]
    fn what_is_stored_is_read_back() {
        let bundle = Bundle::new(&names(), NOW_S, None).unwrap();
        assert_eq!(Bundle::from_secret(&bundle.to_secret("tls")), Ok(bundle));
    }

    #[test]
    fn a_damaged_secret_is_told_by_its_key() {
        let bundle = Bundle::new(&names(), NOW_S, None).unwrap();
        for (key, told) in
            [(CERTIFICATE, "data.tls.crt"), (CA_KEY, "data.ca.key"), (ENDS, "data.tls.not-after")]
        {
            let mut secret = bundle.to_secret("tls");
            secret.data.as_mut().unwrap().insert(key.into(), ByteString(b"x".to_vec()));
            let problem = Bundle::from_secret(&secret).unwrap_err();
            assert!(problem.contains(told), "{problem}");
        }
        let mut mixed = bundle.to_secret("tls");
        let other = Bundle::new(&names(), NOW_S, None).unwrap().to_secret("tls").data.unwrap();
        mixed.data.as_mut().unwrap().insert(KEY.into(), other[KEY].clone());
        assert!(Bundle::from_secret(&mixed).unwrap_err().contains("tls.key"), "the key is another's");
    }

    #[test]
    fn a_certificate_is_renewed_before_it_ends_and_the_ca_much_earlier() {
        let bundle = Bundle::new(&names(), NOW_S, None).unwrap();
        assert_eq!(bundle.due(NOW_S), Due::In(60 * DAY_S));
        assert_eq!(bundle.due(NOW_S + 60 * DAY_S - 1), Due::In(1));
        assert_eq!(bundle.due(NOW_S + 60 * DAY_S), Due::Certificate);
        assert_eq!(bundle.due(NOW_S + 80 * 365 * DAY_S), Due::Everything);
        let renewed = bundle.renewed(&names(), NOW_S + 60 * DAY_S).unwrap();
        assert_eq!(renewed.ca_certificates(), bundle.ca_certificates());
        assert_eq!(renewed.due(NOW_S + 60 * DAY_S), Due::In(60 * DAY_S));
        renewed.certified_key().unwrap();
    }

    #[test]
    fn a_new_ca_leaves_its_predecessor_trusted_and_nobody_else() {
        let first = Bundle::new(&names(), NOW_S, None).unwrap();
        let second = Bundle::new(&names(), NOW_S, Some(&first)).unwrap();
        let third = Bundle::new(&names(), NOW_S, Some(&second)).unwrap();
        assert!(second.ca_certificates().ends_with(first.ca_certificates()));
        assert_eq!(third.ca_certificates().matches("BEGIN").count(), 2);
        assert!(!third.ca_certificates().contains(first.ca_certificates()));
    }
}
