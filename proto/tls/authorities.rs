//! The certificates that a server's own must be signed by, in a file that a setting names.

use std::{io, path::Path};

use rustls::{
    RootCertStore,
    pki_types::{CertificateDer, pem::PemObject as _},
};

/// Checks what was read of such a file, and gives it back: PEM.
///
/// # Errors
/// What is wrong with it, and the mend.
pub fn authorities(path: &Path, read: io::Result<Vec<u8>>) -> Result<Vec<u8>, String> {
    let name = path.display();
    let pem = read.map_err(|fault| {
        format!("can't read {name}: {fault}: name a file this program may read")
    })?;
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
