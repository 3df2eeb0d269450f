//! What is wrong with a certificate's files is told by setting, with the mend, and without the key.

use std::{
    fs,
    path::Path,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

use super::{CertificateFiles, Certificates, Contents, Look, authorities};
use crate::settings::Mistakes;

struct Pair {
    dir: TempDir,
    cert: String,
    key: String,
}

impl Pair {
    fn new() -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".into()]).expect("made");
        let (cert, key) = (made.cert.pem(), made.signing_key.serialize_pem());
        Self { dir: tempfile::tempdir().expect("a folder"), cert, key }
    }

    fn files(&self) -> CertificateFiles {
        let (cert, key) = (self.dir.path().join("cert.pem"), self.dir.path().join("key.pem"));
        CertificateFiles { cert, key, cert_flag: "--tls-cert", key_flag: "--tls-key" }
    }

    fn write(&self, cert: &str, key: &str) -> CertificateFiles {
        let files = self.files();
        fs::write(&files.cert, cert).expect("written");
        fs::write(&files.key, key).expect("written");
        files
    }
}

fn read(files: &CertificateFiles) -> Result<Contents, Mistakes> {
    files.contents(fs::read(&files.cert), fs::read(&files.key))
}

fn load(files: CertificateFiles) -> Result<Certificates, Mistakes> {
    let read = read(&files);
    Certificates::load(files, read)
}

fn mistakes(files: CertificateFiles) -> Vec<String> {
    let mistakes = load(files).err().unwrap_or_default();
    mistakes.iter().map(str::to_owned).collect()
}

/// The lines between BEGIN and END.
fn inside(pem: &str) -> impl Iterator<Item = &str> {
    pem.lines().filter(|line| !line.starts_with("---") && !line.is_empty())
}

fn pem(title: &str, lines: &str) -> String {
    format!("-----BEGIN {title}-----\n{lines}\n-----END {title}-----\n")
}

#[test]
fn what_is_wrong_with_the_files_is_told_with_setting_and_mend() {
    let (pair, other) = (Pair::new(), Pair::new());
    let (cert, key) = (&*pair.cert, &*pair.key);
    let half = |text: &str| text[..text.len() - 40].to_owned();
    let secret = inside(key).next().expect("a line").to_owned();
    let garbled = key.replacen(&secret, &secret.replacen('M', "*", 1), 1);
    let begun = key.replacen("-----\n", "", 1);
    let der_of_key = pem("CERTIFICATE", &inside(key).collect::<Vec<_>>().join("\n"));
    let encrypted = key.replace("PRIVATE", "ENCRYPTED PRIVATE");
    for (cert, key, told) in [
        (cert, "", &["--tls-key: ", "holds no key", "PKCS#8"][..]),
        ("", key, &["--tls-cert: ", "holds no certificate", "give PEM"]),
        ("", "", &["--tls-cert: ", "--tls-key: "]),
        (key, key, &["--tls-cert: ", "holds no certificate"]),
        (cert, cert, &["--tls-key: ", "holds no key"]),
        (cert, &encrypted, &["--tls-key: ", "not encrypted"]),
        (&half(cert), key, &["--tls-cert: ", "ends in the middle"]),
        (cert, &half(key), &["--tls-key: ", "ends in the middle"]),
        (cert, &garbled, &["--tls-key: ", "broken base64"]),
        (cert, &begun, &["--tls-key: "]),
        (cert, &pem("PRIVATE KEY", "AAAA"), &["--tls-key: ", "can't be used", "RSA from 2048"]),
        (&pem("CERTIFICATE", "AAAA"), key, &["--tls-cert: ", "malformed"]),
        (&der_of_key, key, &["--tls-cert: ", "malformed"]),
        (&other.cert, key, &["--tls-key: ", "is not the key of", "own certificate first"]),
    ] {
        let found = mistakes(pair.write(cert, key)).join("\n");
        for part in told {
            assert!(found.contains(part), "{part} in:\n{found}");
        }
        assert!(!found.contains(&secret[1..]), "{found}");
    }
    let files = CertificateFiles { cert: "nowhere.pem".into(), key: "/".into(), ..pair.files() };
    let found = mistakes(files);
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].starts_with("--tls-cert: can't read nowhere.pem: No such file"), "{found:?}");
    assert!(found[1].starts_with("--tls-key: can't read /: "), "{found:?}");
}

#[test]
fn chains_keys_in_one_file_and_other_forms_of_keys_are_read() {
    let (pair, other) = (Pair::new(), Pair::new());
    let chain = format!("leaf\n{}\nissuer\n{}", pair.cert, other.cert);
    let both = format!("{}{}", pair.cert, pair.key);
    for (cert, key) in [(&*pair.cert, &*pair.key), (&chain, &pair.key), (&both, &both)] {
        assert_eq!(mistakes(pair.write(cert, key)), [""; 0]);
    }
}

#[test]
fn nothing_shows_the_key() {
    let pair = Pair::new();
    let certificates = load(pair.write(&pair.cert, &pair.key)).expect("sound");
    let config = certificates.server_config().expect("a config");
    assert!(format!("{config:?}").contains("InUse(..)"));
}

#[test]
fn bad_files_change_nothing_and_are_told_once() {
    let pair = Pair::new();
    let files = pair.write(&pair.cert, &pair.key);
    let mut certificates = load(files.clone()).expect("sound");
    let first = certificates.in_use();
    let mut look = |cert: &str, key: &str| {
        let came = certificates.look_at(read(&pair.write(cert, key)));
        (certificates.in_use() == first, came)
    };
    let next = Pair::new();
    assert_eq!(look(&pair.cert, &pair.key), (true, Look::Same));
    // One of two: the other may be on its way.
    assert_eq!(look(&next.cert, &pair.key), (true, Look::Same));
    let (kept, told) = look(&next.cert, &pair.key);
    assert!(
        kept && matches!(&told, Look::Bad(found) if found.to_string().contains("is not the key"))
    );
    for _ in 0..3 {
        assert_eq!(look(&next.cert, &pair.key), (true, Look::Same), "told");
    }
    assert_eq!(look(&next.cert, &next.key), (false, Look::Renewed));
    let renewed = certificates.in_use();
    fs::remove_file(&files.cert).expect("removed");
    assert_eq!(certificates.look_at(read(&files)), Look::Same);
    assert!(matches!(certificates.look_at(read(&files)), Look::Bad(_)));
    assert_eq!(certificates.in_use(), renewed);
}

#[test]
fn the_end_of_a_certificate_is_known() {
    let pair = Pair::new();
    let mut params = rcgen::CertificateParams::new(["localhost".into()]).expect("names");
    let end = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    (params.not_before, params.not_after) = ((end - Duration::from_secs(60)).into(), end.into());
    let key = rcgen::KeyPair::generate().expect("a key");
    let cert = params.self_signed(&key).expect("made").pem();
    let certificates = load(pair.write(&cert, &key.serialize_pem())).expect("sound");
    assert_eq!(certificates.ends(), Some(end));
}

#[test]
fn authorities_are_certificates_in_pem() {
    let pair = Pair::new();
    let told = |text: &str| authorities(Path::new("ca.pem"), Ok(text.into()));
    assert_eq!(told(&pair.cert).expect("sound"), pair.cert.as_bytes());
    for (text, fault) in [
        ("", "ca.pem holds no certificate"),
        (&*pair.key, "ca.pem holds no certificate"),
        (&*pem("CERTIFICATE", "AAAA"), "ca.pem holds a certificate that can't be read"),
    ] {
        assert!(told(text).expect_err("refused").starts_with(fault), "{text}");
    }
    let away = authorities(Path::new("ca.pem"), Err(std::io::ErrorKind::NotFound.into()));
    assert!(away.expect_err("refused").contains("name a file this program may read"));
}
