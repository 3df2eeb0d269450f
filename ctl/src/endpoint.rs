//! Where a control plane is, and what makes it trusted: over TLS its certificate, in plain text that it is
//! on this machine.

use std::{error, fs, io, net::IpAddr, path::Path};

use fastgate::tls::authorities;
use rustls::CertificateError;
use tonic::transport::{self, Certificate, ClientTlsConfig, Endpoint};

use crate::error::Error;

/// Reads an address; over TLS, `ca_file` holds what is trusted in place of the CAs the system trusts.
pub(crate) fn endpoint(addr: &str, ca_file: Option<&Path>) -> Result<Endpoint, Error> {
    let setting = |fault: String| Error::Setting { what: format!("address '{addr}'"), fault };
    let no_address =
        || setting("is no address: give one such as https://gate.internal:9000".into());
    let with_scheme = if addr.contains("://") { addr.into() } else { format!("http://{addr}") };
    let endpoint = Endpoint::from_shared(with_scheme).map_err(|_| no_address())?;
    let host = endpoint.uri().host().ok_or_else(no_address)?;
    match endpoint.uri().scheme_str() {
        Some("http") if is_this_machine(host) => Ok(endpoint),
        Some("http") => {
            let authority = endpoint.uri().authority().map_or(host, |authority| authority.as_str());
            Err(setting(format!(
                "is plain text to another machine, and shows the token to everyone in between: give \
                 https://{authority}, or a tunnel's end at http://127.0.0.1"
            )))
        }
        Some("https") => endpoint.tls_config(tls(ca_file)?).map_err(|fault| {
            setting(format!(
                "can't be used over TLS: {}: name the file of its CA with --ca-file",
                innermost(&fault)
            ))
        }),
        _ => Err(no_address()),
    }
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    address.map_or(host.eq_ignore_ascii_case("localhost"), |address| address.is_loopback())
}

fn tls(ca_file: Option<&Path>) -> Result<ClientTlsConfig, Error> {
    let Some(path) = ca_file else { return Ok(ClientTlsConfig::new().with_native_roots()) };
    let pem = authorities(path, fs::read(path))
        .map_err(|fault| Error::Setting { what: "--ca-file".into(), fault })?;
    Ok(ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)))
}

/// Why there is no connection.
pub(crate) fn unreachable(addr: &str, fault: &transport::Error) -> Error {
    let addr = addr.to_owned();
    match tls_fault(fault) {
        Some(found) => {
            let (fault, mend) = told(found);
            Error::Untrusted { addr, fault, mend }
        }
        None => Error::Connect { addr, fault: innermost(fault) },
    }
}

/// What is wrong with TLS, if it is that: the layers around it don't say so.
fn tls_fault(fault: &transport::Error) -> Option<&rustls::Error> {
    let mut next: Option<&(dyn error::Error + 'static)> = Some(fault);
    while let Some(error) = next {
        // An error of the system hides the one it holds.
        let held = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        let of_tls = held.and_then(|held| held.downcast_ref());
        if let Some(found) = of_tls.or_else(|| error.downcast_ref()) {
            return Some(found);
        }
        next = error.source();
    }
    None
}

/// The same for people, with the mend.
fn told(fault: &rustls::Error) -> (String, &'static str) {
    use CertificateError as Bad;
    let rustls::Error::InvalidCertificate(bad) = fault else {
        return match fault {
            rustls::Error::InvalidMessage(_) => (
                "it does not speak TLS".into(),
                "give http:// for one on this machine that speaks plain text",
            ),
            _ => (fault.to_string(), "the control plane's log may say more"),
        };
    };
    match bad {
        // A CA that was made anew under its old name signs badly.
        Bad::UnknownIssuer | Bad::BadSignature => (
            "its certificate is signed by no CA that is trusted here".into(),
            "name the file of its CA with --ca-file, FGCTL_CA_FILE or in a context",
        ),
        Bad::Expired | Bad::ExpiredContext { .. } => (
            "its certificate has ended".into(),
            "renew it where --admin-tls-cert of the control plane is, or set this machine's clock",
        ),
        Bad::NotValidYet | Bad::NotValidYetContext { .. } => (
            "its certificate does not hold yet".into(),
            "set the clocks of this machine and of whoever made it",
        ),
        Bad::NotValidForName | Bad::NotValidForNameContext { .. } => (
            "its certificate is for other names".into(),
            "call it by a name that is in its certificate, or give it one for this name",
        ),
        _ => (
            format!("its certificate can't be used: {bad}"),
            "it needs one that is made for a server, not that of a CA itself",
        ),
    }
}

/// What the system said, without the layers around it.
fn innermost(fault: &transport::Error) -> String {
    let mut inner: &dyn error::Error = fault;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_need_no_scheme_and_leave_the_machine_over_tls_alone() {
        for (addr, expected) in [
            ("127.0.0.1:9000", Some("http://127.0.0.1:9000/")),
            ("http://localhost:9000", Some("http://localhost:9000/")),
            ("[::1]:9000", Some("http://[::1]:9000/")),
            ("127.1.2.3:9000", Some("http://127.1.2.3:9000/")),
            ("https://gate:9000", Some("https://gate:9000/")),
            ("https://127.0.0.1:9000", Some("https://127.0.0.1:9000/")),
            ("gate:9000", None),
            ("http://localhost.example.com:9000", None),
            ("http://10.0.0.5:9000", None),
            ("http://127.0.0.1@gate:9000", None),
            ("ftp://gate", None),
            ("", None),
            ("not an address", None),
        ] {
            let read = endpoint(addr, None).ok().map(|endpoint| endpoint.uri().to_string());
            assert_eq!(read.as_deref(), expected, "{addr}");
        }
        let fault = endpoint("gate:9000", None).expect_err("refused").to_string();
        assert!(fault.contains("plain text") && fault.contains("https://gate:9000"), "{fault}");
    }

    #[test]
    fn a_ca_file_that_is_none_is_named() {
        let nowhere = Path::new("nowhere.pem");
        let fault = endpoint("https://gate", Some(nowhere)).expect_err("refused").to_string();
        assert!(fault.starts_with("--ca-file: can't read nowhere.pem"), "{fault}");
    }
}
