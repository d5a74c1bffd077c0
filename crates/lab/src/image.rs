//! Container images made on the spot from files of this machine: a folder becomes a one-layer archive that `ctr images import` takes.

use anyhow::{Context, Result, bail};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::host::{Lab, command};

/// The image that holds a pod's namespaces open.
pub const PAUSE: &str = "lab.local/pause:1";
/// The web server of the walk-through.
pub const NGINX: &str = "docker.io/library/nginx:1.22";

/// Makes the archive of the pause image: busybox, asleep.
pub fn pause(lab: &Lab) -> Result<PathBuf> {
    let root = lab.folder("pause")?;
    let busybox = program("busybox")?;
    with_libraries(&busybox, &root)?;
    let path = busybox.display().to_string();
    archive(lab, &root, PAUSE, &[&path, "sleep", "2147483647"])
}

/// Makes the archive of an nginx image from the nginx of this machine; it serves its welcome page on port 80.
pub fn nginx(lab: &Lab) -> Result<PathBuf> {
    let root = lab.folder("nginx")?;
    let binary = program("nginx")?;
    with_libraries(&binary, &root)?;
    for folder in ["tmp", "etc/nginx", "srv"] {
        fs::create_dir_all(root.join(folder))?;
    }
    fs::write(root.join("etc/passwd"), "root:x:0:0::/:/\nnobody:x:65534:65534::/:/\n")?;
    fs::write(root.join("etc/group"), "root:x:0:\nnogroup:x:65534:\n")?;
    fs::write(
        root.join("srv/index.html"),
        "<html><title>Welcome to nginx!</title><h1>Welcome to nginx!</h1></html>\n",
    )?;
    fs::write(
        root.join("etc/nginx/nginx.conf"),
        "daemon off;\nuser root root;\npid /tmp/pid;\nerror_log stderr;\nevents {}\nhttp {\n  access_log off;\n  \
         default_type text/html;\n  client_body_temp_path /tmp/body;\n  proxy_temp_path /tmp/proxy;\n  \
         fastcgi_temp_path /tmp/fastcgi;\n  uwsgi_temp_path /tmp/uwsgi;\n  scgi_temp_path /tmp/scgi;\n  \
         add_header X-Pod $hostname;\n  server { listen [::]:80 ipv6only=off; root /srv; }\n}\n",
    )?;
    let path = binary.display().to_string();
    archive(lab, &root, NGINX, &[&path, "-c", "/etc/nginx/nginx.conf", "-e", "stderr"])
}

/// Packs `root` as an image called `reference` that starts `entrypoint`.
pub fn archive(lab: &Lab, root: &Path, reference: &str, entrypoint: &[&str]) -> Result<PathBuf> {
    let name = reference.replace(['/', ':'], "_");
    let dir = lab.folder(&format!("{name}.image"))?;
    let layer = dir.join("layer.tar");
    command(Command::new("tar").arg("-C").arg(root).args(["--numeric-owner", "-cf"]).arg(&layer).arg("."))?;
    let sum = command(Command::new("sha256sum").arg(&layer))?;
    let digest = sum.split_whitespace().next().context("sha256sum said nothing")?;
    let architecture = match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => bail!("no image for {other}"),
    };
    let config = json!({
        "architecture": architecture, "os": "linux",
        "config": {"Entrypoint": entrypoint, "Env": ["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{digest}")]},
    });
    fs::write(dir.join("config.json"), config.to_string())?;
    let manifest = json!([{"Config": "config.json", "RepoTags": [reference], "Layers": ["layer.tar"]}]);
    fs::write(dir.join("manifest.json"), manifest.to_string())?;
    let path = lab.dir.join(format!("{name}.tar"));
    let files = ["manifest.json", "config.json", "layer.tar"];
    command(Command::new("tar").arg("-C").arg(&dir).arg("-cf").arg(&path).args(files))?;
    Ok(path)
}

/// Where a program of this machine is.
pub fn program(name: &str) -> Result<PathBuf> {
    let places = ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/sbin", "/usr/local/bin"];
    let found = places.iter().map(|place| Path::new(place).join(name)).find(|path| path.exists());
    found.ok_or_else(|| crate::process::cannot_start(name, &std::io::ErrorKind::NotFound.into()))
}

/// Copies a program to the same path below `root`, with every library that it loads.
pub(crate) fn with_libraries(binary: &Path, root: &Path) -> Result<()> {
    let inside = |path: &Path| path.strip_prefix("/").map_or_else(|_| path.to_owned(), Path::to_owned);
    copy(binary, root, &inside(binary).display().to_string())?;
    // `ldd` fails for a static program: then there is nothing to copy.
    let text = command(Command::new("ldd").arg(binary)).unwrap_or_default();
    for word in text.split_whitespace().filter(|word| word.starts_with('/')) {
        copy(Path::new(word), root, &inside(Path::new(word)).display().to_string())?;
    }
    Ok(())
}

fn copy(from: &Path, root: &Path, to: &str) -> Result<()> {
    let to = root.join(to);
    fs::create_dir_all(to.parent().context("no folder")?)?;
    fs::copy(from, &to).with_context(|| format!("copy {}", from.display()))?;
    Ok(())
}
