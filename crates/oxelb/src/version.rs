//! Which version this is, in the form of Kubernetes' programs (compat §3.6); there is no Go in it.

use crate::cli::Output;

/// The text of `oxelb version`.
pub fn text(output: Output) -> String {
    let version = concat!("v", env!("CARGO_PKG_VERSION"));
    let commit = option_env!("OXELB_GIT_COMMIT").unwrap_or("unknown");
    let platform = format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH);
    match output {
        Output::Text => format!("oxelb {version} (commit {commit}, {platform})"),
        Output::Json => serde_json::json!({
            "gitVersion": version,
            "gitCommit": commit,
            "gitTreeState": option_env!("OXELB_GIT_TREE").unwrap_or("unknown"),
            "buildDate": option_env!("OXELB_BUILD_DATE").unwrap_or("unknown"),
            "goVersion": "",
            "compiler": "rustc",
            "platform": platform,
        })
        .to_string(),
    }
}
