//! The program as users and scripts meet it: exit codes, names it is called by, output for programs.

#![allow(clippy::unwrap_used, clippy::panic, reason = "helpers of tests")]

use serde_json::Value;
use std::fs;
use std::io::Write;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const POOL: &str =
    "apiVersion: network.kubesphere.io/v1alpha2\nkind: Eip\nmetadata: {name: p}\nspec: {address: 10.0.0.1}\n";

fn oxelb(arguments: &[&str]) -> Output {
    run(Path::new(env!("CARGO_BIN_EXE_oxelb")), arguments, "")
}

fn run(program: &Path, arguments: &[&str], input: &str) -> Output {
    let mut command = Command::new(program);
    for variable in ["NODE_NAME", "OPENELB_NAMESPACE", "RUST_LOG", "KUBERNETES_SERVICE_HOST"] {
        command.env_remove(variable);
    }
    command.args(arguments).env("KUBECONFIG", "/nowhere").env("HOME", "/nowhere");
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // A program that does not read its input may be gone already.
    let _ = child.stdin.take().unwrap().write_all(input.as_bytes());
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn exit_codes_are_as_documented() {
    let dir = tempfile::tempdir().unwrap();
    let (good, bad) = (dir.path().join("good.yaml"), dir.path().join("bad.yaml"));
    fs::write(&good, POOL).unwrap();
    fs::write(&bad, POOL.replace("10.0.0.1", "ten")).unwrap();
    let (good, bad) = (good.to_str().unwrap(), bad.to_str().unwrap());
    for (arguments, code) in [
        (vec!["check", good], 0),
        (vec!["check", bad], 3),
        (vec!["check", dir.path().to_str().unwrap()], 3),
        (vec!["check", "/no/such/file"], 1),
        (vec!["check"], 2),
        (vec!["speaker", "--no-such-flag"], 2),
        (vec!["no-such-command"], 2),
        (vec!["version"], 0),
        (vec!["clean", "--kubeconfig=/no/such/file"], 1),
    ] {
        let output = oxelb(&arguments);
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", text(&output.stderr));
    }
}

#[test]
fn what_is_printed_into_a_pipe_has_no_colour_and_is_json_on_demand() {
    let output = run(Path::new(env!("CARGO_BIN_EXE_oxelb")), &["check", "-"], &POOL.replace("10.0.0.1", "ten"));
    let said = text(&output.stdout);
    assert!(said.starts_with("<stdin>:4:8: error: Eip p: spec.address: invalid eip address format"), "{said}");
    assert!(!said.contains('\x1b') && said.ends_with("1 object checked: 1 error, 0 warnings\n"), "{said}");
    let output = run(Path::new(env!("CARGO_BIN_EXE_oxelb")), &["check", "-o", "json", "-"], POOL);
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(json["errors"], 0);
}

#[test]
fn errors_say_what_where_and_what_to_do_in_one_line() {
    let output = oxelb(&["check", "/no/such/file"]);
    let said = text(&output.stderr);
    assert!(said.contains("cannot read /no/such/file: No such file or directory"), "{said}");
    let output = oxelb(&["speaker"]);
    assert!(text(&output.stderr).contains("--node-name"), "{}", text(&output.stderr));
}

#[test]
fn openelbs_names_take_openelbs_command_lines() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["openelb-controller", "openelb-speaker"] {
        let program = dir.path().join(name);
        symlink(env!("CARGO_BIN_EXE_oxelb"), &program).unwrap();
        let output = run(&program, &["version", "--v=4"], "");
        let json: Value = serde_json::from_slice(&output.stdout).unwrap();
        for field in ["gitVersion", "gitCommit", "gitTreeState", "buildDate", "goVersion", "compiler", "platform"] {
            assert!(json[field].is_string(), "{name}: {field}: {json}");
        }
        // Without a cluster it ends; but it has understood the flags.
        let flags = ["--metrics-addr=0", "--logtostderr=true", "-v", "4", "--kubeconfig=/no/such/file"];
        let mut flags = flags.to_vec();
        flags.extend(if name == "openelb-speaker" {
            vec!["--enable-layer2", "--api-hosts=:50051", "--enable-keepalived-vip=false", "--node-name=n"]
        } else {
            vec!["--webhook_port=443", "--leader-elect", "--readiness-addr=0"]
        });
        let output = run(&program, &flags, "");
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{name}: {said}");
        assert!(said.contains("--logtostderr=true -v") && said.contains("/no/such/file"), "{name}: {said}");
    }
}
