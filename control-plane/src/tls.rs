//! The certificate of the admin port, which follows its files.

use std::{
    fs,
    time::{Duration, SystemTime},
};

use fastgate::{
    settings::Mistakes,
    tls::{CertificateFiles, Certificates, Contents, Look},
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::settings::AdminTls;

/// How often the files are looked at.
const CHECK: Duration = Duration::from_secs(2);

/// How long before its end the log says so, once.
const WARNED: Duration = Duration::from_secs(7 * 86_400);

/// The certificate the admin port shows.
pub(crate) struct AdminCertificate(Certificates);

impl AdminCertificate {
    /// Reads the files.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub(crate) fn load(settings: AdminTls) -> Result<Self, Mistakes> {
        let AdminTls { cert, key } = settings;
        let (cert_flag, key_flag) = ("--admin-tls-cert", "--admin-tls-key");
        let files = CertificateFiles { cert, key, cert_flag, key_flag };
        let read = read(&files);
        let loaded = Self(Certificates::load(files, read)?);
        loaded.warn_of_end();
        Ok(loaded)
    }

    /// How TLS is spoken with this certificate and all that come after it.
    ///
    /// # Errors
    /// When the system has no random bytes for the key of the tickets.
    pub(crate) fn acceptor(&self) -> Result<TlsAcceptor, rustls::Error> {
        Ok(TlsAcceptor::from(self.0.server_config()?))
    }

    /// Looks at the files again and again, until `stop` is cancelled.
    pub(crate) async fn follow(mut self, stop: CancellationToken) {
        let mut ticks = interval(CHECK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = stop.cancelled() => return,
                _ = ticks.tick() => {}
            }
            let files = self.0.files().clone();
            let Ok(read) = tokio::task::spawn_blocking(move || read(&files)).await else {
                continue;
            };
            match self.0.look_at(read) {
                Look::Same => {}
                Look::Renewed => {
                    let file = self.0.files().cert.display();
                    tracing::info!(%file, "the admin port has a new certificate");
                    self.warn_of_end();
                }
                Look::Bad(mistakes) => {
                    tracing::warn!(%mistakes, "the certificate of the admin port stays as it was");
                }
            }
        }
    }

    fn warn_of_end(&self) {
        let file = self.0.files().cert.display();
        let Some(ends) = self.0.ends() else { return };
        match ends.duration_since(SystemTime::now()) {
            Ok(left) if left < WARNED => {
                let hours = left.as_secs() / 3600;
                tracing::warn!(%file, hours, "the certificate of the admin port ends soon");
            }
            Ok(_) => {}
            Err(_) => tracing::error!(
                %file,
                "the certificate of the admin port has ended, so clients refuse it: put a new one there"
            ),
        }
    }
}

fn read(files: &CertificateFiles) -> Result<Contents, Mistakes> {
    files.contents(fs::read(&files.cert), fs::read(&files.key))
}
