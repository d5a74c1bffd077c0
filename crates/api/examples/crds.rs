//! Writes deploy/openelb.yaml anew; `make crds`.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let deploy = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy");
    let workloads = std::fs::read_to_string(deploy.join("workloads.yaml"))?;
    std::fs::write(deploy.join("openelb.yaml"), oxelb_api::crd::deployment(&workloads)?)?;
    Ok(())
}
