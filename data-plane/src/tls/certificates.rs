//! The certificate of the proxy, which follows its files.

use std::{fs, sync::Arc, time::Duration};

use fastgate::{
    settings::Mistakes,
    tls::{self, CertificateFiles, Contents, Look},
};
use rustls::ServerConfig;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use crate::settings::TlsSettings;

/// How often the files are looked at.
const CHECK: Duration = Duration::from_secs(2);

/// The certificate of a node.
pub(crate) struct Certificates(tls::Certificates);

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub(crate) fn load(settings: TlsSettings) -> Result<Self, Mistakes> {
        let TlsSettings { cert, key, .. } = settings;
        let files = CertificateFiles { cert, key, cert_flag: "--tls-cert", key_flag: "--tls-key" };
        let read = read(&files);
        tls::Certificates::load(files, read).map(Self)
    }

    /// How TLS is spoken with this certificate and all that come after it.
    ///
    /// # Errors
    /// When the system has no random bytes for the key of the tickets.
    pub(crate) fn server_config(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        self.0.server_config()
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
                    tracing::info!(%file, "TLS certificate in use");
                }
                Look::Bad(mistakes) => {
                    tracing::warn!(%mistakes, "the TLS certificate stays as it was");
                }
            }
        }
    }
}

fn read(files: &CertificateFiles) -> Result<Contents, Mistakes> {
    files.contents(fs::read(&files.cert), fs::read(&files.key))
}
