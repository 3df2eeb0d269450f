//! The certificates that a server's own must be signed by, in a file that a setting names.

use std::{fs, path::Path};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// Reads such a file, in PEM.
///
/// # Errors
/// What is wrong with it, and the mend.
pub(crate) fn read(path: &Path) -> Result<Vec<u8>, String> {
    let name = path.display();
    let pem = fs::read(path)
        .map_err(|fault| format!("can't read {name}: {fault}: name a file the node reads"))?;
    let mut found = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&pem) {
        let is_sound = certificate.is_ok_and(|certificate| found.add(certificate).is_ok());
        if !is_sound {
            let mend = "give the certificates of CAs in PEM";
            return Err(format!("{name} holds a certificate that can't be read: {mend}"));
        }
    }
    if found.is_empty() {
        return Err(format!("{name} holds no certificate: give those of CAs in PEM"));
    }
    Ok(pem)
}
