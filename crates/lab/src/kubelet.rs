//! Real nodes: kubelet, containerd, runc and CNI plugins on a host of the lab, all state below the lab's folder or in private mounts.

use anyhow::{Context, Result, bail};
use nix::mount::{MsFlags, mount};
use serde_json::json;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::cluster::{Cluster, Node};
use crate::host::Lab;
use crate::image;
use crate::wait::secs;

/// Folder of Debian's package containernetworking-plugins.
const CNI_PLUGINS: &str = "/usr/lib/cni";
const CGROUPS: &str = "/sys/fs/cgroup";

impl Cluster {
    /// One more node with a kubelet, Ready, with these image archives beside the pause and nginx images. Start the cluster with
    /// [`crate::kube::Options::real`].
    pub fn join_real(&mut self, images: &[PathBuf]) -> Result<&Node> {
        if self.lab.sandbox.rootless {
            bail!("a node with a kubelet needs root (cgroups, devices): run this as root");
        }
        private_mounts(&self.lab)?;
        let mut node = self.machine()?;
        let dir = self.lab.folder(&node.name)?;
        // Sockets live here: a Unix socket's path ends at 107 characters.
        let run = Path::new("/run").join(node.host.netns());
        fs::create_dir_all(&run)?;
        let socket = run.join("containerd.sock");
        cni(&dir, &node)?;

        fs::write(dir.join("containerd.toml"), containerd_config(&dir, &run, &socket))?;
        // Mounts of its own: what pods keep on a node's disk (hostPath below /var/lib) is not that of another node.
        let mut containerd = Command::new("unshare");
        containerd.args(["--mount", "sh", "-ec", "mount -t tmpfs node /var/lib; exec \"$0\" \"$@\""]);
        containerd.arg(image::program("containerd")?).arg("--config").arg(dir.join("containerd.toml"));
        let containerd = node.host.spawn("containerd", containerd)?;
        let ctr = |words: &[&str]| {
            let mut ctr = Command::new("ctr");
            ctr.arg("--address").arg(&socket).args(["--namespace", "k8s.io"]).args(words);
            node.host.output(ctr)
        };
        containerd.until("containerd answers", secs(30), || ctr(&["version"]))?;
        let own = [image::pause(&self.lab)?, image::nginx(&self.lab)?];
        for archive in own.iter().chain(images) {
            ctr(&["images", "import", &archive.display().to_string()])
                .with_context(|| format!("import {}", archive.display()))?;
        }

        let cgroup = format!("{}/{}", self.lab.sandbox.cgroup(), node.name);
        cgroups(&cgroup)?;
        let pki = self.control.pki();
        let config = json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
            "authentication": {"anonymous": {"enabled": false}, "webhook": {"enabled": true}, "x509": {"clientCAFile": pki.ca()}},
            "authorization": {"mode": "Webhook"},
            "containerRuntimeEndpoint": format!("unix://{}", socket.display()),
            "cgroupDriver": "cgroupfs", "cgroupRoot": format!("/{cgroup}"), "failCgroupV1": false,
            "enforceNodeAllocatable": [],
            "failSwapOn": false, "oomScoreAdj": 0, "makeIPTablesUtilChains": false,
            // The machine's disk may be as full as it likes.
            "evictionHard": {"memory.available": "1Mi", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%", "imagefs.inodesFree": "0%"},
            "imageGCHighThresholdPercent": 100,
            "podLogsDir": dir.join("pods"), "volumePluginDir": dir.join("plugins"),
            "nodeStatusUpdateFrequency": "2s", "syncFrequency": "5s",
        });
        fs::write(dir.join("kubelet.json"), config.to_string())?;
        let kubeconfig = self.control.kubeconfig(&format!("system:node:{}", node.name), Some("system:nodes"))?;
        let mut kubelet = Command::new("nsenter");
        kubelet.arg(format!("--mount=/proc/{}/ns/mnt", containerd.pid())).arg(self.control.program("kubelet"));
        kubelet.args([
            format!("--config={}", dir.join("kubelet.json").display()),
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--hostname-override={}", node.name),
            format!("--node-ip={},{}", node.address(), node.address6()),
            format!("--root-dir={}", run.join("kubelet").display()),
            format!("--cert-dir={}", dir.join("kubelet-pki").display()),
        ]);
        let kubelet = node.host.spawn("kubelet", kubelet)?;
        let path = format!("/api/v1/nodes/{}", node.name);
        kubelet.until("the node is Ready", secs(60), || {
            let object = self.control.rest.get(&path)?;
            let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
            let ready = conditions.iter().find(|condition| condition["type"] == "Ready").context("no condition")?;
            if ready["status"] != "True" {
                bail!("{}", ready["message"]);
            }
            if object["spec"]["taints"].is_array() {
                bail!("tainted: {}", object["spec"]["taints"]);
            }
            Ok(())
        })?;
        // kube-proxy wants the Node object to exist, which kubelet makes.
        let proxy = self.proxy(&node)?;
        node.processes.extend([proxy, kubelet, containerd]);
        self.nodes.push(node);
        self.nodes.last().context("no node")
    }
}

/// Covers what kubelet, containerd and CNI plugins write at fixed places, so that nothing of it reaches the machine.
fn private_mounts(lab: &Lab) -> Result<()> {
    static DONE: OnceLock<()> = OnceLock::new();
    if DONE.set(()).is_err() {
        return Ok(());
    }
    let none = None::<&str>;
    for place in ["/var/lib", "/var/log"] {
        mount(Some("tmpfs"), place, Some("tmpfs"), MsFlags::empty(), none).with_context(|| format!("mount {place}"))?;
    }
    // kubelet insists on these kernel parameters and would set them for the whole machine: show it what it wants to see.
    let wanted = [
        ("vm/overcommit_memory", "1"),
        ("vm/panic_on_oom", "0"),
        ("kernel/panic", "10"),
        ("kernel/panic_on_oops", "1"),
        ("kernel/keys/root_maxkeys", "1000000"),
        ("kernel/keys/root_maxbytes", "25000000"),
    ];
    let dir = lab.sandbox.dir.join("sysctl");
    fs::create_dir_all(&dir)?;
    for (key, value) in wanted {
        let file = dir.join(key.replace('/', "."));
        fs::write(&file, format!("{value}\n"))?;
        let target = Path::new("/proc/sys").join(key);
        mount(Some(&file), &target, none, MsFlags::MS_BIND, none)
            .with_context(|| format!("cover {}", target.display()))?;
    }
    Ok(())
}

fn cni(dir: &Path, node: &Node) -> Result<()> {
    for plugin in ["bridge", "host-local", "loopback"] {
        if !Path::new(CNI_PLUGINS).join(plugin).exists() {
            return Err(crate::process::cannot_start("host-local", &std::io::ErrorKind::NotFound.into()));
        }
    }
    fs::create_dir_all(dir.join("cni"))?;
    let list = json!({
        "cniVersion": "1.0.0", "name": "lab",
        "plugins": [{
            "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
            "ipam": {
                "type": "host-local", "dataDir": dir.join("cni-data"),
                "ranges": [[{"subnet": node.pod_range()}], [{"subnet": node.pod_range6()}]],
                "routes": [{"dst": "0.0.0.0/0"}, {"dst": "::/0"}],
            },
        }],
    });
    fs::write(dir.join("cni/10-lab.conflist"), list.to_string())?;
    Ok(())
}

fn containerd_config(dir: &Path, run: &Path, socket: &Path) -> String {
    format!(
        r#"version = 2
root = "{root}"
state = "{state}"
[grpc]
  address = "{socket}"
[plugins."io.containerd.internal.v1.opt"]
  path = "{opt}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "{pause}"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "{CNI_PLUGINS}"
    conf_dir = "{cni}"
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
      SystemdCgroup = false
"#,
        root = dir.join("containerd").display(),
        state = run.join("state").display(),
        socket = socket.display(),
        opt = dir.join("opt").display(),
        pause = image::PAUSE,
        cni = dir.join("cni").display(),
    )
}

/// Makes the cgroup in every hierarchy; the sandbox removes it after the run.
fn cgroups(name: &str) -> Result<()> {
    let unified = Path::new(CGROUPS).join("cgroup.controllers").exists();
    if unified {
        let mut path = PathBuf::from(CGROUPS);
        for part in Path::new(name) {
            let controllers = fs::read_to_string(path.join("cgroup.controllers"))?;
            let wanted: String = controllers.split_whitespace().map(|controller| format!("+{controller} ")).collect();
            fs::write(path.join("cgroup.subtree_control"), wanted)
                .with_context(|| format!("cannot delegate the controllers of {}", path.display()))?;
            path.push(part);
            fs::create_dir_all(&path)?;
        }
        return Ok(());
    }
    for hierarchy in fs::read_dir(CGROUPS)?.flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
    {
        let path = hierarchy.path().join(name);
        fs::create_dir_all(&path).with_context(|| format!("cannot make the cgroup {}", path.display()))?;
    }
    Ok(())
}
