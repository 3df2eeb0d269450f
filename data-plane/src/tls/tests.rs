//! What is wrong with a certificate's files is told by setting, with the mend, and without the key.

use std::{fs, net::SocketAddr};

use fastgate::settings::Mistakes;
use tempfile::TempDir;

use super::{Certificates, files::Files};
use crate::settings::TlsSettings;

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

    fn settings(&self) -> TlsSettings {
        let listen = SocketAddr::from(([127, 0, 0, 1], 0));
        let (cert, key) = (self.dir.path().join("cert.pem"), self.dir.path().join("key.pem"));
        TlsSettings { listen, cert, key }
    }

    fn write(&self, cert: &str, key: &str) -> TlsSettings {
        let settings = self.settings();
        fs::write(&settings.cert, cert).expect("written");
        fs::write(&settings.key, key).expect("written");
        settings
    }
}

fn mistakes(settings: TlsSettings) -> Vec<String> {
    let mistakes = Certificates::load(settings).err().unwrap_or_default();
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
    let settings = TlsSettings { cert: "nowhere.pem".into(), key: "/".into(), ..pair.settings() };
    let found = mistakes(settings);
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
    let certificates = Certificates::load(pair.write(&pair.cert, &pair.key)).expect("sound");
    let config = certificates.server_config().expect("a config");
    assert!(format!("{config:?}").contains("InUse(..)"));
}

#[test]
fn bad_files_change_nothing_and_are_told_once() {
    let pair = Pair::new();
    let settings = pair.write(&pair.cert, &pair.key);
    let mut certificates = Certificates::load(settings.clone()).expect("sound");
    let first = certificates.in_use();
    let mut look = |cert: &str, key: &str| {
        let settings = pair.write(cert, key);
        certificates.look_at(Files::read(&settings));
        (certificates.in_use() == first, certificates.untold().map(Mistakes::to_string))
    };
    let next = Pair::new();
    assert_eq!(look(&pair.cert, &pair.key), (true, None));
    let (kept, untold) = look(&next.cert, &pair.key);
    assert!(kept && untold.is_some_and(|mistakes| mistakes.contains("is not the key")));
    for _ in 0..3 {
        assert_eq!(look(&next.cert, &pair.key), (true, None), "told");
    }
    assert_eq!(look(&next.cert, &next.key), (false, None));
    fs::remove_file(&settings.cert).expect("removed");
    certificates.look_at(Files::read(&settings));
    assert!(certificates.in_use() != first && certificates.untold().is_some());
}
