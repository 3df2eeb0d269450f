//! The settings of the audit trail.

use std::{num::NonZeroUsize, path::Path};

use fastgate::settings::{Mistakes, parse_bytes};
use http::Uri;

use super::{
    given::Given,
    parse::{is_this_machine, parse_count},
};
use crate::{
    audit::{
        FileSettings, FileTarget, NatsServer, NatsSettings, Onward, OtlpSettings, Store, WhenFull,
        check_credentials, check_headers,
    },
    ca,
};

/// How audit events are kept until they are stored.
#[derive(Clone, Debug)]
pub struct AuditSettings {
    /// The most bytes the spool may take.
    pub spool_limit: u64,
    /// What becomes of requests that come while the spool is full.
    pub spool_full: WhenFull,
    /// Events kept per worker until they are taken over; further ones are dropped and counted.
    pub queue: NonZeroUsize,
    /// Where else they go.
    pub onward: Onward,
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            spool_limit: 1 << 30,
            spool_full: WhenFull::Block,
            queue: NonZeroUsize::new(8192).unwrap_or(NonZeroUsize::MIN),
            onward: Onward::default(),
        }
    }
}

/// Takes those of the audit trail out of what is given.
pub(super) fn check(found: &mut Mistakes, given: &mut Given) -> AuditSettings {
    let mut settings = AuditSettings::default();
    let of_spool = [
        ("--spool-limit", given.spool_limit.is_some()),
        ("--spool-full", given.spool_full.is_some()),
        ("--audit-file", given.audit_file.is_some()),
        ("--audit-nats", given.audit_nats.is_some()),
        ("--audit-otlp", given.audit_otlp.is_some()),
    ];
    for (flag, _) in of_spool.iter().filter(|(_, is_given)| *is_given) {
        if given.state_dir.is_none() {
            found.add(format!("--state-dir is missing: give it, or leave {flag} out"));
        }
    }
    let AuditSettings { spool_limit, spool_full, queue, .. } = &mut settings;
    found.put("--spool-limit", given.spool_limit.take(), parse_spool_limit, spool_limit);
    found.put("--spool-full", given.spool_full.take(), parse_when_full, spool_full);
    found.put("--audit-queue", given.audit_queue.take(), parse_queue, queue);
    let has_sink =
        given.audit_file.is_some() || given.audit_nats.is_some() || given.audit_otlp.is_some();
    let onward = &mut settings.onward;
    found.put("--audit-store", given.audit_store.take(), parse_store, &mut onward.store);
    if onward.store == Store::Off && !has_sink {
        found.add(
            "--audit-store is off, and nothing else gets audit events: give --audit-file, \
             --audit-nats or --audit-otlp, or leave it out",
        );
    }
    onward.file = check_file(found, given);
    onward.nats = check_nats(found, given);
    onward.otlp = check_otlp(found, given);
    settings
}

fn check_file(found: &mut Mistakes, given: &mut Given) -> Option<FileSettings> {
    let further = [
        ("--audit-file-size", given.audit_file_size.is_some()),
        ("--audit-file-keep", given.audit_file_keep.is_some()),
    ];
    needs(found, ("--audit-file", given.audit_file.is_some()), &further);
    let (mut size, mut keep) = (100 << 20, NonZeroUsize::new(10).unwrap_or(NonZeroUsize::MIN));
    found.put("--audit-file-size", given.audit_file_size.take(), parse_file_size, &mut size);
    found.put("--audit-file-keep", given.audit_file_keep.take(), parse_count, &mut keep);
    let path = given.audit_file.take()?;
    if path.as_os_str().is_empty() {
        found.add("--audit-file is empty: give a file, or - for standard output");
    }
    let target = if path == Path::new("-") { FileTarget::Stdout } else { FileTarget::Path(path) };
    Some(FileSettings { target, size, keep })
}

fn check_nats(found: &mut Mistakes, given: &mut Given) -> Option<NatsSettings> {
    let further = [
        ("--audit-nats-subject", given.audit_nats_subject.is_some()),
        ("--audit-nats-credentials", given.audit_nats_credentials.is_some()),
        ("--audit-nats-ca", given.audit_nats_ca.is_some()),
    ];
    needs(found, ("--audit-nats", given.audit_nats.is_some()), &further);
    let subject =
        found.take("--audit-nats-subject", given.audit_nats_subject.take(), parse_subject);
    let (credentials, ca) = (given.audit_nats_credentials.take(), given.audit_nats_ca.take());
    if let Some(Err(fault)) = credentials.as_deref().map(check_credentials) {
        found.add(format!("--audit-nats-credentials can't be used: {fault}"));
    }
    check_ca(found, "--audit-nats-ca", ca.as_deref());
    let parse = |text: &str| text.split(',').map(|server| server.trim().parse()).collect();
    let servers: Vec<NatsServer> = found.take("--audit-nats", given.audit_nats.take(), parse)?;
    if ca.is_some() && !servers.iter().all(NatsServer::is_tls) {
        found.add(
            "--audit-nats-ca is for TLS: begin --audit-nats with tls, or leave --audit-nats-ca out",
        );
    }
    let is_open = |server: &NatsServer| !server.is_tls() && !is_this_machine(server.host());
    if credentials.is_some() && servers.iter().any(is_open) {
        found.add(
            "--audit-nats-credentials would go in clear over a network: begin --audit-nats with tls",
        );
    }
    let subject = subject.unwrap_or_else(|| "fastgate.audit".to_owned());
    Some(NatsSettings { servers, subject, credentials, ca })
}

fn check_otlp(found: &mut Mistakes, given: &mut Given) -> Option<OtlpSettings> {
    let (ca, headers) = (given.audit_otlp_ca.take(), given.audit_otlp_headers.take());
    let further = [("--audit-otlp-ca", ca.is_some()), ("--audit-otlp-headers", headers.is_some())];
    needs(found, ("--audit-otlp", given.audit_otlp.is_some()), &further);
    if let Some(Err(fault)) = headers.as_deref().map(check_headers) {
        found.add(format!("--audit-otlp-headers can't be used: {fault}"));
    }
    check_ca(found, "--audit-otlp-ca", ca.as_deref());
    let url = found.take("--audit-otlp", given.audit_otlp.take(), parse_collector)?;
    if ca.is_some() && url.scheme_str() != Some("https") {
        found.add(
            "--audit-otlp-ca is for TLS: begin --audit-otlp with https, or leave --audit-otlp-ca out",
        );
    }
    let is_open = url.scheme_str() != Some("https") && !url.host().is_some_and(is_this_machine);
    if headers.is_some() && is_open {
        found.add(
            "--audit-otlp-headers would go in clear over a network: begin --audit-otlp with https",
        );
    }
    Some(OtlpSettings { url, ca, headers })
}

/// Settings that say nothing without another one.
fn needs(found: &mut Mistakes, (first, is_given): (&str, bool), further: &[(&str, bool)]) {
    for (flag, _) in further.iter().filter(|(_, it)| *it && !is_given) {
        found.add(format!("{first} is missing: give it, or leave {flag} out"));
    }
}

fn check_ca(found: &mut Mistakes, flag: &str, path: Option<&Path>) {
    if let Some(Err(fault)) = path.map(ca::read) {
        found.add(format!("{flag}: {fault}"));
    }
}

fn parse_store(text: &str) -> Result<Store, String> {
    match text {
        "on" => Ok(Store::On),
        "off" => Ok(Store::Off),
        _ => Err(format!("is '{text}': give on or off")),
    }
}

fn parse_file_size(text: &str) -> Result<u64, String> {
    let mend = || format!("is '{text}': give at least 64KiB, such as 100MiB");
    parse_bytes(text).filter(|bytes| *bytes >= 64 << 10).ok_or_else(mend)
}

/// Words with dots between, which name one subject and no pattern.
fn parse_subject(text: &str) -> Result<String, String> {
    let is_word = |word: &str| {
        !word.is_empty()
            && !word.contains(|c: char| c.is_whitespace() || c.is_control() || "*>".contains(c))
    };
    if text.split('.').all(is_word) {
        return Ok(text.to_owned());
    }
    Err(format!("is '{text}': give words with dots between, such as fastgate.audit"))
}

fn parse_collector(text: &str) -> Result<Uri, String> {
    // It may hold a password, which has no meaning here, and is not repeated.
    let mend = || "is no URL of a collector: give one such as http://127.0.0.1:4317".to_owned();
    let url: Uri = text.trim().parse().map_err(|_| mend())?;
    let is_known = matches!(url.scheme_str(), Some("http" | "https"));
    let has_host = url.host().is_some_and(|host| !host.is_empty());
    let has_user = url.authority().is_some_and(|authority| authority.as_str().contains('@'));
    let has_more = !matches!(url.path(), "" | "/") || url.query().is_some();
    if has_more {
        return Err("has a path, and gRPC has none: give one such as http://127.0.0.1:4317".into());
    }
    if is_known && has_host && !has_user { Ok(url) } else { Err(mend()) }
}

fn parse_spool_limit(text: &str) -> Result<u64, String> {
    let mend = || format!("is '{text}': give at least 1MiB, such as 1GiB");
    parse_bytes(text).filter(|bytes| *bytes >= 1 << 20).ok_or_else(mend)
}

/// A quarter of it is for requests under way, and room for all of it is asked for at the start.
fn parse_queue(text: &str) -> Result<NonZeroUsize, String> {
    let mend = || format!("is '{text}': give a number from 4 to 1048576");
    text.parse()
        .ok()
        .filter(|queue: &NonZeroUsize| (4..=1 << 20).contains(&queue.get()))
        .ok_or_else(mend)
}

fn parse_when_full(text: &str) -> Result<WhenFull, String> {
    match text {
        "block" => Ok(WhenFull::Block),
        "drop" => Ok(WhenFull::Drop),
        _ => Err(format!("is '{text}': give block or drop")),
    }
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use super::*;
    use crate::settings::{Settings, SettingsError};

    fn load(args: &[&str]) -> Result<AuditSettings, Vec<String>> {
        let args = std::iter::once("test").chain(args.iter().copied()).map(OsString::from);
        match Settings::load(args) {
            Ok(settings) => Ok(settings.audit),
            Err(SettingsError::Mistakes(mistakes)) => {
                Err(mistakes.iter().map(str::to_owned).collect())
            }
            Err(SettingsError::Usage(usage)) => panic!("{usage}"),
        }
    }

    #[test]
    fn a_queue_is_as_large_as_it_is_said_to_be() {
        for queue in [4, 1 << 20] {
            let found = load(&[&format!("--audit-queue={queue}")]).expect("valid");
            assert_eq!(found.queue.get(), queue);
        }
    }

    #[test]
    fn sinks_are_set_with_what_goes_with_them() {
        let onward = load(&["--state-dir=d", "--audit-file=-"]).expect("valid").onward;
        let file = onward.file.expect("set");
        assert_eq!((file.target, file.size, file.keep.get()), (FileTarget::Stdout, 100 << 20, 10));
        assert!(onward.store == Store::On && onward.nats.is_none() && onward.otlp.is_none());
        let onward = load(&[
            "--state-dir=d",
            "--audit-store=off",
            "--audit-file=a.jsonl",
            "--audit-file-size=1MiB",
            "--audit-file-keep=2",
            "--audit-nats=nats://a:1,tls://b",
            "--audit-nats-subject=a.b",
            "--audit-otlp=https://c:4317",
        ]);
        let onward = onward.expect("valid").onward;
        let file = onward.file.expect("set");
        assert_eq!(file.target, FileTarget::Path("a.jsonl".into()));
        assert_eq!((file.size, file.keep.get(), onward.store), (1 << 20, 2, Store::Off));
        let nats = onward.nats.expect("set");
        assert_eq!((nats.servers.len(), &*nats.subject), (2, "a.b"));
        assert_eq!(onward.otlp.expect("set").url, "https://c:4317/");
    }

    #[test]
    fn what_makes_no_sense_is_told_with_its_mend_and_without_secrets() {
        let dir = "--state-dir=d";
        for (given, told) in [
            (&["--audit-store=off"][..], "--audit-store is off, and nothing else gets"),
            (&["--audit-store=maybe"], "--audit-store is 'maybe': give on or off"),
            (&["--audit-queue=3"], "--audit-queue is '3': give a number from 4 to 1048576"),
            (&["--audit-queue=1048577"], "--audit-queue is '1048577': give a number from 4 to"),
            (&["--audit-queue=18446744073709551615"], "--audit-queue is '18446744073709551615'"),
            (&["--audit-file=x"], "--state-dir is missing: give it, or leave --audit-file out"),
            (&[dir, "--audit-file-keep=1"], "--audit-file is missing: give it, or leave --audit-f"),
            (&[dir, "--audit-file=x", "--audit-file-size=1"], "--audit-file-size is '1': give at"),
            (&[dir, "--audit-nats=http://h"], "--audit-nats is no URL of NATS: give one such as"),
            (&[dir, "--audit-nats=nats://u:hidden@h"], "--audit-nats holds a user: write that in"),
            (&[dir, "--audit-nats-subject=a"], "--audit-nats is missing: give it, or leave"),
            (
                &[dir, "--audit-nats=nats://h", "--audit-nats-subject=a.*"],
                "--audit-nats-subject is",
            ),
            (
                &[dir, "--audit-nats=tls://h", "--audit-nats-credentials=none/such"],
                "--audit-nats-credentials can't be used: none/such: ",
            ),
            (&[dir, "--audit-nats=tls://h", "--audit-nats-ca=none"], "--audit-nats-ca: can't read"),
            (&[dir, "--audit-otlp=http://h/v1/logs"], "--audit-otlp has a path, and gRPC has none"),
            (&[dir, "--audit-otlp=grpc://:hidden@h"], "--audit-otlp is no URL of a collector: "),
        ] {
            let found = load(given).expect_err(told);
            assert!(found.len() == 1 && found[0].starts_with(told), "{told}: {found:?}");
            assert!(!found[0].contains("hidden"), "{found:?}");
        }
    }

    #[test]
    fn credentials_are_read_and_never_shown() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().to_str().expect("text");
        let args = ["--state-dir=d", "--audit-nats=tls://h", "--audit-nats-credentials", path];
        let mut open = args;
        open[1] = "--audit-nats=tls://h,nats://h";
        std::fs::write(path, "hidden").expect("written");
        let found = load(&open).expect_err("in clear");
        assert!(found[0].starts_with("--audit-nats-credentials would go in clear"), "{found:?}");
        open[1] = "--audit-nats=tls://h,nats://[::1]:1,nats://127.0.0.9,nats://localhost";
        load(&open).expect("nobody else can read it");
        for sound in ["user:hidden\n", "hidden"] {
            std::fs::write(path, sound).expect("written");
            let settings = load(&args).expect("valid");
            assert!(!format!("{settings:?}").contains("hidden"));
        }
        let torn = "-----BEGIN NATS USER JWT-----\nhidden\n------END NATS USER JWT------\n";
        for unsound in ["", "hidden and more", torn] {
            std::fs::write(path, unsound).expect("written");
            let found = load(&args).expect_err(unsound);
            assert!(found[0].contains(": give a file "), "{found:?}");
            assert!(!found[0].contains("hidden"), "{found:?}");
        }
    }

    #[test]
    fn headers_for_a_collector_are_read_and_sent_to_nobody_in_clear() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().to_str().expect("text");
        std::fs::write(path, "authorization: Bearer hidden\n").expect("written");
        let with = |url| load(&["--state-dir=d", url, "--audit-otlp-headers", path]);
        for url in ["--audit-otlp=https://h:1", "--audit-otlp=http://[::1]:1"] {
            assert!(with(url).expect("valid").onward.otlp.expect("set").headers.is_some());
        }
        let found = with("--audit-otlp=http://h:1").expect_err("in clear");
        assert!(found[0].starts_with("--audit-otlp-headers would go in clear"), "{found:?}");
        std::fs::write(path, "hidden").expect("written");
        let found = with("--audit-otlp=https://h:1").expect_err("no header");
        assert!(found[0].contains(": line 1 is no header: give"), "{found:?}");
        assert!(!found[0].contains("hidden"), "{found:?}");
    }
}
