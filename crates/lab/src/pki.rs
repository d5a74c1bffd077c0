//! The cluster's certificates: one authority, a server, and a client certificate for each user; and the kubeconfigs made of them.

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, DnValue, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use rustls::ClientConfig;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The authority and the folder where it writes.
#[derive(Debug)]
pub struct Pki {
    issuer: Issuer<'static, KeyPair>,
    dir: PathBuf,
}

/// A certificate and its key, as files.
#[derive(Clone, Debug)]
pub struct Pair {
    /// PEM.
    pub certificate: PathBuf,
    /// PEM, PKCS#8.
    pub key: PathBuf,
}

impl Pki {
    /// Makes the authority (`ca.crt`) and the keys that sign service-account tokens (`sa.key`, `sa.pub`).
    pub fn new(dir: &Path) -> Result<Pki> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, "lab");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate()?;
        fs::write(dir.join("ca.crt"), params.self_signed(&key)?.pem())?;
        let tokens = KeyPair::generate()?;
        fs::write(dir.join("sa.key"), tokens.serialize_pem())?;
        fs::write(dir.join("sa.pub"), tokens.public_key_pem())?;
        Ok(Pki { issuer: Issuer::new(params, key), dir: dir.to_owned() })
    }

    /// The authority's certificate.
    pub fn ca(&self) -> PathBuf {
        self.dir.join("ca.crt")
    }

    /// A server certificate for these names and addresses.
    pub fn server(&self, file: &str, names: &[&str]) -> Result<Pair> {
        let mut params = CertificateParams::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>())?;
        params.distinguished_name.push(DnType::CommonName, file);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(file, &params)
    }

    /// A client certificate: this user, in this group when one is named.
    pub fn client(&self, user: &str, group: Option<&str>) -> Result<Pair> {
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, user);
        if let Some(group) = group {
            params.distinguished_name.push(DnType::OrganizationName, DnValue::from(group));
        }
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        self.sign(&user.replace(':', "."), &params)
    }

    fn sign(&self, file: &str, params: &CertificateParams) -> Result<Pair> {
        let key = KeyPair::generate()?;
        let pair =
            Pair { certificate: self.dir.join(format!("{file}.crt")), key: self.dir.join(format!("{file}.key")) };
        fs::write(&pair.certificate, params.signed_by(&key, &self.issuer)?.pem())?;
        fs::write(&pair.key, key.serialize_pem())?;
        Ok(pair)
    }

    /// A kubeconfig for the server at `url`; `user` holds the lines below `user:`, indented by four.
    fn kubeconfig(&self, file: &str, url: &str, user: &str) -> Result<PathBuf> {
        let path = self.dir.join(format!("{}.kubeconfig", file.replace(':', ".")));
        let ca = self.ca();
        fs::write(
            &path,
            format!(
                "apiVersion: v1\nkind: Config\ncurrent-context: lab\n\
                 clusters:\n- name: lab\n  cluster:\n    server: {url}\n    certificate-authority: {}\n\
                 users:\n- name: lab\n  user:\n{user}\
                 contexts:\n- name: lab\n  context: {{cluster: lab, user: lab, namespace: default}}\n",
                ca.display()
            ),
        )?;
        Ok(path)
    }

    /// A kubeconfig that logs in with a client certificate.
    pub fn kubeconfig_of(&self, url: &str, user: &str, group: Option<&str>) -> Result<PathBuf> {
        let pair = self.client(user, group)?;
        let (certificate, key) = (pair.certificate.display(), pair.key.display());
        self.kubeconfig(user, url, &format!("    client-certificate: {certificate}\n    client-key: {key}\n"))
    }

    /// A kubeconfig that logs in with a token.
    pub fn kubeconfig_with(&self, url: &str, name: &str, token: &str) -> Result<PathBuf> {
        self.kubeconfig(name, url, &format!("    token: {token}\n"))
    }

    /// TLS settings of a client that logs in with a certificate.
    pub fn tls(&self, user: &str, group: Option<&str>) -> Result<Arc<ClientConfig>> {
        let pair = self.client(user, group)?;
        let mut roots = rustls::RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.ca())?)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(
                vec![CertificateDer::from_pem_file(&pair.certificate)?],
                PrivateKeyDer::from_pem_file(&pair.key)?,
            )?;
        Ok(Arc::new(config))
    }
}
