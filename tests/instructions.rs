//! Holds the number of instructions a request takes from its parsed head to the one for the
//! upstream, its record included, and what the header blocks of HTTP/2 take besides: counted by
//! valgrind, which gives the same on any machine.
//!
//! The figures are in `tests/instructions.txt`. A case that takes over 5 % more fails; one that
//! takes over 5 % less asks for the table to be lowered. `FASTGATE_BLESS=1` writes it anew.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a test that finds something else than it expects has failed"
)]

use std::{
    collections::BTreeMap,
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

/// As many times the program goes the way that is counted.
const TIMES: f64 = 1000.0;

/// What a figure may be off by.
const TOLERANCE: f64 = 0.05;

const CASES: [(&str, &str); 5] = [
    ("plain", "GET /api/orders/17 HTTP/1.1\nHost: a.example\nX-API-Key: KEY\n\n"),
    ("bearer", "GET /api/orders/17 HTTP/1.1\nHost: a.example\nAuthorization: Bearer KEY\n\n"),
    (
        "browser",
        "GET /api/orders/17?page=2&sort=name HTTP/1.1\nHost: a.example:8000\nConnection: keep-alive\n\
         Cache-Control: max-age=0\nUpgrade-Insecure-Requests: 1\nUser-Agent: Mozilla/5.0 (X11; Linux)\n\
         Accept: text/html,application/xhtml+xml\nSec-Fetch-Site: none\nSec-Fetch-Mode: navigate\n\
         Sec-Fetch-User: ?1\nSec-Fetch-Dest: document\nAccept-Encoding: gzip, deflate, br\n\
         Accept-Language: en-GB,en;q=0.9\nCookie: session=0123456789abcdef; theme=dark\n\
         X-Request-Id: 0192f1c8-7f3e-7cc1-a2b3-94d0f6c1e5a7\nX-API-Key: KEY\n\n",
    ),
    ("unknown-key", "GET /api/orders/17 HTTP/1.1\nHost: a.example\nX-API-Key: fg_no\n\n"),
    ("no-route", "GET /other HTTP/1.1\nHost: a.example\nX-API-Key: KEY\n\n"),
];

#[test]
fn a_request_takes_no_more_instructions_than_it_did() {
    let program = build();
    let table = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/instructions.txt");
    let mut counted: BTreeMap<_, _> =
        CASES.iter().map(|(case, head)| (*case, count(&program, &[], head))).collect();
    let (_, browser) = CASES[2];
    counted.insert("http2-header-blocks", count(&program, &["http2"], browser));
    if std::env::var_os("FASTGATE_BLESS").is_some() {
        let lines = counted.iter().map(|(case, count)| format!("{case} {count:.0}\n"));
        fs::write(&table, lines.collect::<String>()).expect("written");
    }
    let held = fs::read_to_string(&table).expect("tests/instructions.txt");
    let held: BTreeMap<_, f64> = held
        .lines()
        .filter_map(|line| line.split_once(' '))
        .map(|(case, count)| (case, count.parse().expect("a number")))
        .collect();
    let mut wrong = Vec::new();
    for (case, count) in &counted {
        let was = held.get(case).copied().unwrap_or(0.0);
        println!("{case}: {count:.0} instructions, {was:.0} in the table");
        if *count > was * (1.0 + TOLERANCE) {
            wrong.push(format!("{case} takes {count:.0} instructions, and took {was:.0}"));
        } else if *count < was * (1.0 - TOLERANCE) {
            wrong
                .push(format!("{case} takes {count:.0} instructions: lower {was:.0} in the table"));
        }
    }
    assert_eq!(wrong, [""; 0]);
}

/// Builds the program, optimised, without the time whole-program optimisation takes.
fn build() -> PathBuf {
    let built = Command::new(env!("CARGO"))
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .args(["build", "--locked", "--profile", "counts", "-p", "fastgate-data-plane"])
        .args(["--features", "bench", "--bin", "counted", "--message-format", "json"])
        .stderr(Stdio::inherit())
        .output()
        .expect("cargo");
    assert!(built.status.success(), "the program is built");
    let said = String::from_utf8_lossy(&built.stdout).into_owned();
    let executable = said.lines().rev().find_map(|line| {
        let (_, behind) = line.split_once("\"executable\":\"")?;
        behind.split_once('"').map(|(path, _)| PathBuf::from(path))
    });
    executable.expect("cargo tells where it is")
}

fn count(program: &Path, arguments: &[&str], head: &str) -> f64 {
    let dir = tempfile::tempdir().expect("a folder");
    let profile = dir.path().join("profile");
    let mut valgrind = Command::new("valgrind")
        .args(["--tool=callgrind", "--toggle-collect=*counted::once*"])
        .arg(format!("--callgrind-out-file={}", profile.display()))
        .arg(program)
        .args(arguments)
        .env("GLIBC_TUNABLES", "glibc.cpu.hwcaps=-AVX512F_Usable,-ERMS")
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("valgrind: see tests/run");
    let mut stdin = valgrind.stdin.take().expect("piped");
    stdin.write_all(head.replace('\n', "\r\n").as_bytes()).expect("written");
    drop(stdin);
    let ended = valgrind.wait_with_output().expect("valgrind ends");
    assert!(ended.status.success(), "{}", String::from_utf8_lossy(&ended.stderr));
    let profile = fs::read_to_string(&profile).expect("a profile");
    let total = profile.lines().find_map(|line| line.strip_prefix("summary: "));
    let total: f64 = total.expect("a summary").trim().parse().expect("a number");
    assert!(total > 0.0, "nothing was counted: is `counted` inlined?");
    total / TIMES
}
