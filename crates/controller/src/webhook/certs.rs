//! The certificates of the webhook: an authority that all replicas share, and the leaf of each. Without a clock.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use std::collections::BTreeMap;
use std::sync::Arc;

/// For how long an authority is good. Short enough that its rotation is no theory.
const AUTHORITY_LIFE: SignedDuration = SignedDuration::from_hours(24 * 365 * 5);
/// For how long a leaf is good; it is replaced when two thirds have passed.
const LEAF_LIFE: SignedDuration = SignedDuration::from_hours(24 * 90);
/// Clocks of nodes differ: a certificate is good from a little before it was made.
const SKEW: SignedDuration = SignedDuration::from_hours(1);

/// Annotation on the Secret: until when the authority is good, RFC 3339.
const NOT_AFTER: &str = "openelb.io/ca-not-after";
/// Keys of the Secret: those that OpenELB had (compat §9.1), and the authority's private key.
const CA: &str = "ca";
const CA_KEY: &str = "ca.key";
const LEAF_CERT: &str = "cert";
const LEAF_KEY: &str = "key";

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum CertError {
    /// It could not be made.
    #[error("a certificate could not be made: {0}")]
    Make(#[from] rcgen::Error),
    /// It cannot be served.
    #[error("a certificate cannot be served: {0}")]
    Serve(#[from] rustls::Error),
    /// It is not PEM.
    #[error("a certificate is not in PEM: {0}")]
    Pem(#[from] rustls::pki_types::pem::Error),
    /// It is in files that cannot be read.
    #[error("{0}")]
    File(String),
}

/// The authority that signs every replica's leaf.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    /// What clients must trust: its certificate, then those of authorities before it that may still have leaves.
    pub bundle: String,
    key: String,
    not_after: Timestamp,
}

/// A leaf that can be served.
#[derive(Debug, Clone)]
pub struct Leaf {
    /// Its certificate and key, as the TLS server takes them.
    pub certified: Arc<CertifiedKey>,
    cert_pem: String,
    key_pem: String,
    renew_at: Timestamp,
}

impl Authority {
    /// A new one. What clients trusted before goes on to be trusted, so that leaves in use stay good.
    pub fn make(now: Timestamp, before: Option<&Authority>) -> Result<Authority, CertError> {
        let key = KeyPair::generate()?;
        let not_after = now + AUTHORITY_LIFE;
        let mut params = authority_params();
        (params.not_before, params.not_after) = (date(now - SKEW), date(not_after));
        let own = params.self_signed(&key)?.pem();
        let first_of_before = before.and_then(|b| b.bundle.split_inclusive("-----END CERTIFICATE-----").next());
        let bundle = format!("{own}{}", first_of_before.map(|b| format!("{}\n", b.trim())).unwrap_or_default());
        Ok(Authority { bundle, key: key.serialize_pem(), not_after })
    }

    /// Reads it from the Secret. `None` when it is not there or not whole: OpenELB's own Secret has no key of the
    /// authority, so it must be made anew.
    pub fn read(secret: &Secret) -> Option<Authority> {
        let text = |key: &str| String::from_utf8(secret.data.as_ref()?.get(key)?.0.clone()).ok();
        let (bundle, key) = (text(CA)?, text(CA_KEY)?);
        let not_after = secret.metadata.annotations.as_ref()?.get(NOT_AFTER)?.parse().ok()?;
        let certificate = CertificateDer::from_pem_slice(bundle.as_bytes()).ok()?;
        let pair = KeyPair::from_pem(&key).ok()?;
        // A certificate holds its public key as it is: so one sees whether both belong together.
        let public = pair.public_key_raw();
        certificate.windows(public.len()).any(|w| w == public).then_some(Authority { bundle, key, not_after })
    }

    /// Whether it should be replaced: it must outlive every leaf that it signs.
    pub fn is_old(&self, now: Timestamp) -> bool {
        self.not_after.duration_since(now) < LEAF_LIFE * 2
    }

    /// What to put into the Secret, with a leaf for whoever mounts it as OpenELB's Deployment did.
    pub fn write(&self, leaf: &Leaf, secret: &mut Secret) {
        let entries = [(CA, &self.bundle), (CA_KEY, &self.key), (LEAF_CERT, &leaf.cert_pem), (LEAF_KEY, &leaf.key_pem)];
        secret.data = Some(entries.map(|(k, v)| (k.to_owned(), ByteString(v.clone().into_bytes()))).into());
        let annotations = secret.metadata.annotations.get_or_insert_with(BTreeMap::new);
        annotations.insert(NOT_AFTER.to_owned(), self.not_after.to_string());
    }

    /// A new leaf for these DNS names.
    pub fn leaf(&self, names: &[String], now: Timestamp) -> Result<Leaf, CertError> {
        let issuer = Issuer::new(authority_params(), KeyPair::from_pem(&self.key)?);
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(names)?;
        params.distinguished_name.push(DnType::CommonName, names.first().map(String::as_str).unwrap_or_default());
        (params.not_before, params.not_after) = (date(now - SKEW), date(now + LEAF_LIFE));
        params.use_authority_key_identifier_extension = true;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        let certificate = params.signed_by(&key, &issuer)?;
        let private = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = rustls::crypto::ring::default_provider();
        let certified = CertifiedKey::from_der(vec![certificate.der().clone()], private, &provider)?;
        Ok(Leaf {
            certified: Arc::new(certified),
            cert_pem: certificate.pem(),
            key_pem: key.serialize_pem(),
            renew_at: now + LEAF_LIFE / 3 * 2,
        })
    }
}

impl Leaf {
    /// Whether it should be replaced.
    pub fn is_old(&self, now: Timestamp) -> bool {
        now >= self.renew_at
    }
}

/// A leaf that somebody else made and renews, from PEM files' contents.
pub fn certified_from_pem(chain: &[u8], key: &[u8]) -> Result<CertifiedKey, CertError> {
    let chain = CertificateDer::pem_slice_iter(chain).collect::<Result<Vec<_>, _>>()?;
    let key = PrivateKeyDer::from_pem_slice(key)?;
    Ok(CertifiedKey::from_der(chain, key, &rustls::crypto::ring::default_provider())?)
}

fn authority_params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "openelb-admission");
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params
}

fn date(at: Timestamp) -> time::OffsetDateTime {
    time::OffsetDateTime::from_unix_timestamp(at.as_second()).unwrap_or(time::OffsetDateTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustls::client::WebPkiServerVerifier;
    use rustls::client::danger::ServerCertVerifier;
    use rustls::pki_types::{ServerName, UnixTime};
    use std::time::Duration;

    fn at(days: i64) -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap() + SignedDuration::from_hours(24 * days)
    }

    fn names() -> Vec<String> {
        vec!["openelb-controller.openelb-system.svc".to_owned()]
    }

    /// Whether a client that trusts `bundle` accepts the leaf at this time.
    fn accepted(bundle: &str, leaf: &Leaf, name: &str, now: Timestamp) -> Result<(), String> {
        let mut roots = rustls::RootCertStore::empty();
        for c in CertificateDer::pem_slice_iter(bundle.as_bytes()) {
            roots.add(c.unwrap()).unwrap();
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let verifier = WebPkiServerVerifier::builder_with_provider(roots.into(), provider).build().unwrap();
        let now = UnixTime::since_unix_epoch(Duration::from_secs(now.as_second() as u64));
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let verified = verifier.verify_server_cert(&leaf.certified.cert[0], &[], &name, &[], now);
        verified.map(drop).map_err(|e| e.to_string())
    }

    #[test]
    fn clients_that_trust_the_bundle_accept_the_leaf_for_its_name_and_its_time() {
        let authority = Authority::make(at(0), None).unwrap();
        let leaf = authority.leaf(&names(), at(10)).unwrap();
        assert_eq!(accepted(&authority.bundle, &leaf, &names()[0], at(11)), Ok(()));
        assert!(accepted(&authority.bundle, &leaf, "else.example", at(11)).is_err());
        assert!(accepted(&authority.bundle, &leaf, &names()[0], at(101)).is_err());
        let stranger = Authority::make(at(0), None).unwrap();
        assert!(accepted(&stranger.bundle, &leaf, &names()[0], at(11)).is_err());
    }

    #[test]
    fn a_leaf_is_replaced_long_before_it_ends() {
        let authority = Authority::make(at(0), None).unwrap();
        let leaf = authority.leaf(&names(), at(0)).unwrap();
        assert!(!leaf.is_old(at(59)));
        assert!(leaf.is_old(at(60)));
    }

    #[test]
    fn replacing_the_authority_keeps_the_leaves_in_use_good() {
        let old = Authority::make(at(0), None).unwrap();
        let day = (0..).find(|d| old.is_old(at(*d))).unwrap();
        let leaf = old.leaf(&names(), at(day - 1)).unwrap();
        let new = Authority::make(at(day), Some(&old)).unwrap();
        assert_eq!(accepted(&new.bundle, &leaf, &names()[0], at(day + 80)), Ok(()));
        assert_eq!(accepted(&new.bundle, &new.leaf(&names(), at(day)).unwrap(), &names()[0], at(day)), Ok(()));
        // Authorities do not pile up.
        let third = Authority::make(at(day), Some(&new)).unwrap();
        assert_eq!(third.bundle.matches("BEGIN").count(), 2);
    }

    #[test]
    fn the_secret_gives_back_what_was_put_into_it() {
        let authority = Authority::make(at(0), None).unwrap();
        let leaf = authority.leaf(&names(), at(0)).unwrap();
        let mut secret = Secret::default();
        authority.write(&leaf, &mut secret);
        assert_eq!(Authority::read(&secret), Some(authority));
        let keys: Vec<_> = secret.data.as_ref().unwrap().keys().map(String::as_str).collect();
        assert_eq!(keys, ["ca", "ca.key", "cert", "key"]);
    }

    #[test]
    fn a_secret_of_openelb_or_one_whose_parts_do_not_belong_together_is_not_used() {
        let (a, b) = (Authority::make(at(0), None).unwrap(), Authority::make(at(0), None).unwrap());
        let leaf = a.leaf(&names(), at(0)).unwrap();
        let mut secret = Secret::default();
        assert_eq!(Authority::read(&secret), None);
        a.write(&leaf, &mut secret);
        let whole = secret.clone();
        secret.data.as_mut().unwrap().remove(CA_KEY);
        assert_eq!(Authority::read(&secret), None);
        let mut mixed = whole;
        mixed.data.as_mut().unwrap().insert(CA_KEY.to_owned(), ByteString(b.key.clone().into_bytes()));
        assert_eq!(Authority::read(&mixed), None);
    }
}
