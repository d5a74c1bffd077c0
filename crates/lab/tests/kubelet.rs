//! The lab's real nodes: a Deployment is scheduled, its pods run in containers, and a Service reaches them.

use anyhow::{Result, ensure};
use lab::client::get;
use lab::cluster::Cluster;
use lab::host::Lab;
use lab::image;
use lab::kube::Options;
use lab::suite::{self, Test};
use lab::wait::{secs, until};
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

fn main() -> ExitCode {
    let tests: Vec<Test> = vec![("a_deployment_runs_on_real_nodes_and_is_reached_through_its_service", deployment)];
    suite::main(tests)
}

fn deployment(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, Options::real())?;
    for _ in 0..3 {
        cluster.join_real(&[])?;
    }
    cluster.control.apply(&format!(
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: nginx}}\nspec:\n  replicas: 3\n  selector: {{matchLabels: {{app: nginx}}}}\n  \
         template:\n    metadata: {{labels: {{app: nginx}}}}\n    spec:\n      containers: [{{name: nginx, image: '{}', ports: [{{containerPort: 80}}]}}]\n\
         ---\napiVersion: v1\nkind: Service\nmetadata: {{name: nginx}}\nspec: {{selector: {{app: nginx}}, ports: [{{port: 80}}]}}\n",
        image::NGINX
    ))?;
    cluster.control.kubectl(&["rollout", "status", "deployment/nginx", "--timeout=90s"])?;
    let service = cluster.control.rest.get("/api/v1/namespaces/default/services/nginx")?;
    let address: IpAddr = service["spec"]["clusterIP"].as_str().unwrap_or_default().parse()?;
    for node in &cluster.nodes {
        let page = until("the Service answers", secs(10), || get(&node.host, SocketAddr::new(address, 80), secs(1)))?;
        ensure!(page.contains("Welcome to nginx!"), "{page}");
    }
    cluster.control.kubectl(&["exec", "deployment/nginx", "--", "/usr/sbin/nginx", "-v"])?;
    Ok(())
}
