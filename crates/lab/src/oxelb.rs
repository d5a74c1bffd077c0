//! The program under test, as the lab finds and starts it.

use anyhow::{Result, bail};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::Lab;
use crate::image;

/// The image that `deploy/openelb.yaml` names, in full.
const IMAGE: &str = "docker.io/oxelb/oxelb:dev";

/// The shipped program: `$OXELB_BIN`, else what `make build` made.
pub fn binary() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("OXELB_BIN") {
        let path = PathBuf::from(path);
        if !path.is_file() {
            bail!("OXELB_BIN names {}, where no file is", path.display());
        }
        return Ok(path);
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let path = root.join(format!("target/{}-unknown-linux-gnu/release/oxelb", std::env::consts::ARCH));
    if !path.is_file() {
        bail!("oxelb is not built yet (no {}): make build", path.display());
    }
    Ok(path)
}

/// The archive of the shipped image: what `make image` made; around `$OXELB_BIN` where that is set.
pub fn image(lab: &Lab) -> Result<PathBuf> {
    if std::env::var_os("OXELB_BIN").is_some() {
        let root = lab.folder("oxelb")?;
        image::with_libraries(&binary()?, &root)?;
        fs::copy(binary()?, root.join("oxelb"))?;
        return image::archive(lab, &root, IMAGE, &["/oxelb"]);
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../image/oxelb.tar");
    if !path.is_file() {
        bail!("the image is not made yet (no {}): make image", path.display());
    }
    Ok(path)
}

/// Where a role reads its objects.
#[derive(Clone, Debug)]
pub enum Source {
    /// A folder of YAML.
    Folder(PathBuf),
    /// A cluster, with this kubeconfig.
    Cluster(PathBuf),
}

impl Source {
    fn flag(&self) -> String {
        match self {
            Source::Folder(path) => format!("--source={}", path.display()),
            Source::Cluster(path) => format!("--kubeconfig={}", path.display()),
        }
    }
}

/// `oxelb controller`, without leader election and webhook.
pub fn controller(source: &Source) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command.arg("controller").arg(source.flag()).args(["--leader-elect=false", "--metrics-addr=127.0.0.1:50052"]);
    Ok(command)
}

/// `oxelb speaker` of this node, for layer2 and vip; `state` is its folder on the node's disk.
pub fn speaker(source: &Source, node: &str, state: &Path) -> Result<Command> {
    let mut command = Command::new(binary()?);
    command
        .arg("speaker")
        .arg(source.flag())
        .arg(format!("--node-name={node}"))
        .arg(format!("--state-dir={}", state.display()))
        .args(["--enable-layer2=true", "--enable-keepalived-vip=true", "--metrics-addr=127.0.0.1:50053"]);
    Ok(command)
}
