//! What a shell sees of `fgctl`: exit codes, streams, pipes.

use std::{
    io::Read as _,
    process::{Command, Output, Stdio},
};

fn fgctl(args: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fgctl"));
    command.args(args).env_clear().env("XDG_CONFIG_HOME", "/nonexistent");
    command
}

#[allow(clippy::expect_used, reason = "a fault here fails the test")]
fn run(args: &[&str]) -> (Option<i32>, String, String) {
    let Output { status, stdout, stderr } = fgctl(args).output().expect("started");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    (status.code(), text(stdout), text(stderr))
}

#[test]
fn exit_codes_tell_bad_usage_from_errors() {
    let nowhere = "127.0.0.1:1";
    for (args, code, told) in [
        (&["--version"][..], 0, ""),
        (&["--help"], 0, ""),
        (&["context", "list"], 0, "no contexts"),
        (&[], 2, "Usage: fgctl"),
        (&["keys", "lst"], 2, "similar"),
        (&["routes", "create", "--target", "http://a,wieght=1"], 2, "URL,weight=70"),
        (&["apply"], 2, "--file"),
        (
            &["keys", "list", "--addr", nowhere],
            1,
            "error: can't reach the control plane at 127.0.0.1:1",
        ),
        (&["keys", "list", "--addr", "https://a"], 1, "https"),
        (&["keys", "list", "--context", "prod"], 1, "context 'prod'"),
        (&["keys", "list", "--token-file", "/nonexistent/token"], 1, "does not exist"),
        (&["apply", "-f", "/nonexistent/gateway.yaml"], 1, "/nonexistent/gateway.yaml"),
    ] {
        let (status, _, stderr) = run(args);
        assert_eq!(status, Some(code), "{args:?}: {stderr}");
        assert!(stderr.contains(told), "{args:?}: {stderr}");
    }
}

#[test]
fn help_tells_the_exit_codes() {
    let (_, help, _) = run(&["--help"]);
    for told in ["Exit codes:", "FGCTL_ADDR", "FGCTL_TOKEN"] {
        assert!(help.contains(told), "{told}");
    }
}

#[test]
fn a_document_is_checked_before_anything_is_sent() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("gateway.yaml");
    std::fs::write(&path, "routes:\n  - path: /a\n    metods: [GET]\n").expect("written");
    let path = path.to_str().expect("text");
    for command in ["apply", "diff"] {
        let (status, _, stderr) = run(&[command, "-f", path, "--addr", "127.0.0.1:1"]);
        assert_eq!(status, Some(1));
        let expected = format!("error: {path}:3: unknown field 'metods' in routes[0]");
        assert!(stderr.starts_with(&expected), "{stderr}");
    }
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let mut child = fgctl(&["completions", "zsh"])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("started");
    // Larger than a pipe holds: the writer must meet the closed end.
    drop(child.stdout.take());
    let mut told = String::new();
    child.stderr.take().expect("piped").read_to_string(&mut told).expect("UTF-8");
    assert_eq!((child.wait().expect("ended").code(), told.as_str()), (Some(0), ""));
}

#[test]
fn the_token_of_the_environment_is_in_no_help() {
    let output = fgctl(&["--help"]).env("FGCTL_TOKEN", "fga_hidden").output().expect("started");
    assert!(!String::from_utf8_lossy(&output.stdout).contains("fga_hidden"));
}
