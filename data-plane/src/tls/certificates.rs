//! The certificate in use, which follows its files: whoever renews it need not restart the node.

use std::{fmt, mem, sync::Arc, time::Duration};

use arc_swap::ArcSwap;
use fastgate::settings::Mistakes;
use rustls::{
    ServerConfig,
    crypto::ring::Ticketer,
    server::{ClientHello, NoServerSessionStorage, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;

use super::{
    HTTP2, HTTP11,
    files::{Files, Fingerprint, provider},
};
use crate::settings::TlsSettings;

/// How often the files are looked at.
const CHECK: Duration = Duration::from_secs(2);

/// The certificate of a node.
pub(crate) struct Certificates {
    settings: TlsSettings,
    in_use: Arc<InUse>,
    /// What the files held when they were last looked at.
    seen: Seen,
    /// What is wrong with that, until it is told.
    untold: Option<Mistakes>,
}

#[derive(PartialEq, Eq)]
enum Seen {
    Files(Fingerprint),
    /// They could not be read.
    Nothing,
}

/// Each handshake takes the newest.
struct InUse(ArcSwap<CertifiedKey>);

impl Certificates {
    /// Reads the files.
    ///
    /// # Errors
    /// All that is wrong with them.
    pub(crate) fn load(settings: TlsSettings) -> Result<Self, Mistakes> {
        let files = Files::read(&settings)?;
        let in_use = ArcSwap::from_pointee(files.parse(&settings)?);
        let seen = Seen::Files(files.fingerprint());
        Ok(Self { settings, in_use: Arc::new(InUse(in_use)), seen, untold: None })
    }

    /// How TLS is spoken with this certificate and all that come after it.
    ///
    /// # Errors
    /// When the system has no random bytes for the key of the tickets.
    pub(crate) fn server_config(&self) -> Result<Arc<ServerConfig>, rustls::Error> {
        let mut config = ServerConfig::builder_with_provider(Arc::new(provider()))
            .with_safe_default_protocol_versions()?
            .with_no_client_auth()
            .with_cert_resolver(self.in_use.clone());
        config.alpn_protocols = [HTTP2, HTTP11].map(<[u8]>::to_vec).into();
        config.ticketer = Ticketer::new()?;
        // All there is to a session is in its ticket: workers share no table of them.
        config.session_storage = Arc::new(NoServerSessionStorage {});
        Ok(Arc::new(config))
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
            let settings = self.settings.clone();
            let read = tokio::task::spawn_blocking(move || Files::read(&settings));
            if let Ok(read) = read.await {
                self.look_at(read);
            }
        }
    }

    /// Takes what is new into use. What is bad is told once, and not before it is seen twice: the
    /// two files are seldom replaced in the same moment.
    pub(super) fn look_at(&mut self, read: Result<Files, Mistakes>) {
        let now = read.as_ref().map_or(Seen::Nothing, |files| Seen::Files(files.fingerprint()));
        if mem::replace(&mut self.seen, now) == self.seen {
            if let Some(mistakes) = self.untold.take() {
                tracing::warn!(%mistakes, "the TLS certificate stays as it was");
            }
            return;
        }
        match read.and_then(|files| files.parse(&self.settings)) {
            Ok(certificate) => {
                self.in_use.0.store(Arc::new(certificate));
                self.untold = None;
                tracing::info!(file = %self.settings.cert.display(), "TLS certificate in use");
            }
            Err(mistakes) => self.untold = Some(mistakes),
        }
    }
}

#[cfg(test)]
impl Certificates {
    /// The certificate handshakes are given.
    pub(super) fn in_use(&self) -> Vec<u8> {
        self.in_use.0.load().cert.iter().flat_map(|cert| cert.to_vec()).collect()
    }

    pub(super) fn untold(&self) -> Option<&Mistakes> {
        self.untold.as_ref()
    }
}

impl ResolvesServerCert for InUse {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.0.load_full())
    }
}

impl fmt::Debug for InUse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("InUse(..)")
    }
}
