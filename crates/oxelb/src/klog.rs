//! OpenELB's programs by their own names: `openelb-controller` and `openelb-speaker` are the roles, and take klog's
//! flags, of which there are many and which mean nothing here.

use crate::cli::Cli;
use clap::CommandFactory;
use std::collections::BTreeSet;
use std::ffi::OsString;
use std::path::Path;

/// The arguments as the command line takes them, and the flags that were left out.
pub fn arguments(given: impl Iterator<Item = OsString>) -> (Vec<OsString>, Vec<String>) {
    let mut given = given.peekable();
    let program = given.next().unwrap_or_else(|| "oxelb".into());
    let name = Path::new(&program).file_name().and_then(|n| n.to_str()).unwrap_or_default();
    if name == "gobgp" {
        return ([program, "gobgp".into()].into_iter().chain(given).collect(), Vec::new());
    }
    let role = ["controller", "speaker"].into_iter().find(|role| name.strip_prefix("openelb-") == Some(role));
    let Some(role) = role else {
        return (std::iter::once(program).chain(given).collect(), Vec::new());
    };
    let known = flags_of(role);
    let (mut taken, mut ignored) = (vec![program], Vec::new());
    let mut first = true;
    while let Some(argument) = given.next() {
        let text = argument.to_string_lossy().into_owned();
        if std::mem::take(&mut first) {
            // `openelb-controller version` is a command, and prints JSON; anything else is for the role.
            if text == "version" {
                taken.extend([argument, "--output=json".into()]);
                return (taken, given.map(|a| a.to_string_lossy().into_owned()).collect());
            }
            taken.push(role.into());
        }
        let Some(flag) = text.strip_prefix('-') else {
            taken.push(argument);
            continue;
        };
        let flag = flag.trim_start_matches('-');
        let (name, value) = flag.split_once('=').map_or((flag, None), |(n, v)| (n, Some(v)));
        let name = name.replace('_', "-");
        if known.contains(&name) {
            // Go takes one dash for two.
            taken.push(format!("--{name}{}", value.map(|v| format!("={v}")).unwrap_or_default()).into());
            continue;
        }
        ignored.push(text.clone());
        // `--v 4`: the value goes with the flag.
        if value.is_none() && given.peek().is_some_and(|next| !next.to_string_lossy().starts_with('-')) {
            given.next();
        }
    }
    if first {
        taken.push(role.into());
    }
    (taken, ignored)
}

fn flags_of(role: &str) -> BTreeSet<String> {
    let cli = Cli::command();
    let of_role = cli.find_subcommand(role).into_iter().flat_map(|c| c.get_arguments());
    let all = cli.get_arguments().chain(of_role).filter_map(|a| a.get_long().map(str::to_owned));
    all.chain(["help".to_owned()]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn given(line: &str) -> (String, String) {
        let (taken, ignored) = arguments(line.split(' ').map(OsString::from));
        let taken: Vec<_> = taken.iter().map(|a| a.to_string_lossy()).collect();
        (taken.join(" "), ignored.join(" "))
    }

    #[test]
    fn openelbs_own_command_lines_are_taken() {
        for (line, taken, ignored) in [
            (
                "/usr/bin/openelb-speaker --api-hosts=:50051 --enable-keepalived-vip=false --enable-layer2=true --v=4",
                "/usr/bin/openelb-speaker speaker --api-hosts=:50051 --enable-keepalived-vip=false --enable-layer2=true",
                "--v=4",
            ),
            (
                "openelb-controller -metrics-addr=:50052 --webhook_port=443 --leader-elect --logtostderr --v 4 --add_dir_header",
                "openelb-controller controller --metrics-addr=:50052 --webhook-port=443 --leader-elect",
                "--logtostderr --v --add_dir_header",
            ),
            ("openelb-controller version --v=4", "openelb-controller version --output=json", "--v=4"),
            ("openelb-speaker", "openelb-speaker speaker", ""),
            ("oxelb speaker --v=4", "oxelb speaker --v=4", ""),
        ] {
            assert_eq!(given(line), (taken.to_owned(), ignored.to_owned()), "{line}");
        }
    }
}
