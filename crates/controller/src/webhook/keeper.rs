//! Keeps the webhook's certificates: the authority in the Secret, a fresh leaf in this process, and the authority's
//! certificate in the webhook's configuration. Every replica does so; what is right already is not written.

use super::certs::{Authority, CertError, Leaf, certified_from_pem};
use super::tls::Served;
use jiff::Timestamp;
use k8s_openapi::ByteString;
use k8s_openapi::api::admissionregistration::v1::ValidatingWebhookConfiguration;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{Api, ObjectMeta, Patch, PatchParams, PostParams};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// The Secret, and the ValidatingWebhookConfiguration.
pub const NAME: &str = "openelb-admission";
/// How often everything is looked at again. Somebody may have deleted the Secret, or applied the manifest anew. On the
/// wall clock's word, so that a machine that slept notices what ended meanwhile.
const CHECK: Duration = Duration::from_secs(60);

/// What it needs to know.
pub struct Keeper {
    client: kube::Client,
    namespace: String,
    names: Vec<String>,
    served: Served,
    leaf: Option<(Authority, Leaf)>,
}

impl Keeper {
    /// For the webhook behind the Service `service` in `namespace`.
    pub fn new(client: kube::Client, namespace: &str, service: &str, served: Served) -> Keeper {
        let names = ["", ".svc", ".svc.cluster.local"].map(|end| match end {
            "" => service.to_owned(),
            end => format!("{service}.{namespace}{end}"),
        });
        Keeper { client, namespace: namespace.to_owned(), names: names.into(), served, leaf: None }
    }

    /// Never ends. What cannot be done now is done later, and said in the log.
    pub async fn run(mut self) {
        let mut told = String::new();
        loop {
            let result = self.check(Timestamp::now()).await;
            let pause = if result.is_ok() { CHECK } else { Duration::from_secs(5) };
            let trouble = result.err().unwrap_or_default();
            if !trouble.is_empty() && trouble != told {
                warn!(
                    "the webhook's certificates: {trouble}; pools are not checked when they are written until this is mended"
                );
            }
            told = trouble;
            tokio::time::sleep(pause).await;
        }
    }

    async fn check(&mut self, now: Timestamp) -> Result<(), String> {
        let authority = self.authority(now).await?;
        let good = self.leaf.as_ref().is_some_and(|(by, leaf)| *by == authority && !leaf.is_old(now));
        if !good {
            let leaf = authority.leaf(&self.names, now).map_err(|e| e.to_string())?;
            self.served.set(leaf.certified.clone());
            self.leaf = Some((authority.clone(), leaf));
            info!("the webhook serves a new certificate");
        }
        self.announce(&authority).await
    }

    /// The authority of the Secret, which is made or replaced where necessary.
    async fn authority(&self, now: Timestamp) -> Result<Authority, String> {
        let api: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let said = |what: &str, e: kube::Error| format!("the Secret {NAME} could not be {what}: {e}");
        // Of two replicas that make one at the same time the first wins; the other reads again.
        for _ in 0..3 {
            let found = api.get_opt(NAME).await.map_err(|e| said("read", e))?;
            let before = found.as_ref().and_then(Authority::read);
            if let Some(authority) = before.as_ref().filter(|a| !a.is_old(now)) {
                return Ok(authority.clone());
            }
            let make = |e: CertError| e.to_string();
            let authority = Authority::make(now, before.as_ref()).map_err(make)?;
            let leaf = authority.leaf(&self.names, now).map_err(make)?;
            let written = match found {
                Some(mut secret) => {
                    authority.write(&leaf, &mut secret);
                    api.replace(NAME, &PostParams::default(), &secret).await
                }
                None => {
                    let metadata = ObjectMeta { name: Some(NAME.to_owned()), ..ObjectMeta::default() };
                    let mut secret = Secret { metadata, type_: Some("Opaque".to_owned()), ..Secret::default() };
                    authority.write(&leaf, &mut secret);
                    api.create(&PostParams::default(), &secret).await
                }
            };
            match written {
                Ok(_) => {
                    info!("made a new authority for the webhook's certificates");
                    return Ok(authority);
                }
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(e) => return Err(said("written", e)),
            }
        }
        Err(format!("the Secret {NAME} changes all the time"))
    }

    /// Makes the API server trust the authority.
    async fn announce(&self, authority: &Authority) -> Result<(), String> {
        let api: Api<ValidatingWebhookConfiguration> = Api::all(self.client.clone());
        let said =
            |what: &str, e: kube::Error| format!("the ValidatingWebhookConfiguration {NAME} could not be {what}: {e}");
        let Some(found) = api.get_opt(NAME).await.map_err(|e| said("read", e))? else {
            return Err(format!("there is no ValidatingWebhookConfiguration {NAME}; apply deploy/openelb.yaml"));
        };
        let bundle = ByteString(authority.bundle.clone().into_bytes());
        let wrong = |w: &&k8s_openapi::api::admissionregistration::v1::ValidatingWebhook| {
            w.client_config.service.is_some() && w.client_config.ca_bundle.as_ref() != Some(&bundle)
        };
        let webhooks: Vec<_> = found.webhooks.iter().flatten().filter(wrong).map(|w| &w.name).collect();
        if webhooks.is_empty() {
            return Ok(());
        }
        let change = |name| serde_json::json!({"name": name, "clientConfig": {"caBundle": bundle}});
        let patch = serde_json::json!({"webhooks": webhooks.into_iter().map(change).collect::<Vec<_>>()});
        let params = PatchParams { field_manager: Some("openelb-controller".to_owned()), ..PatchParams::default() };
        api.patch(NAME, &params, &Patch::Strategic(patch)).await.map_err(|e| said("written", e))?;
        info!("the API server trusts the webhook's certificates now");
        Ok(())
    }
}

/// Serves `tls.crt` and `tls.key` of a folder, which somebody else renews (`--webhook-cert-dir`). Never ends.
pub async fn from_folder(dir: PathBuf, served: Served) {
    let mut last = None;
    let mut told = String::new();
    loop {
        match read_folder(&dir) {
            Ok(files) => {
                if last.as_ref() != Some(&files) {
                    match certified_from_pem(&files.0, &files.1) {
                        Ok(certified) => {
                            served.set(Arc::new(certified));
                            info!("the webhook serves the certificate in {}", dir.display());
                        }
                        Err(e) => warn!("{}: {e}", dir.display()),
                    }
                    last = Some(files);
                }
                told.clear();
            }
            Err(e) if told != e => {
                warn!("{e}; pools are not checked when they are written until this is mended");
                told = e;
            }
            Err(_) => {}
        }
        tokio::time::sleep(CHECK).await;
    }
}

/// Whether a folder holds a certificate that somebody mounted there.
pub fn folder_has_certificate(dir: &Path) -> bool {
    dir.join("tls.crt").exists() && dir.join("tls.key").exists()
}

fn read_folder(dir: &Path) -> Result<(Vec<u8>, Vec<u8>), String> {
    let read = |name: &str| std::fs::read(dir.join(name)).map_err(|e| format!("{}: {e}", dir.join(name).display()));
    Ok((read("tls.crt")?, read("tls.key")?))
}
