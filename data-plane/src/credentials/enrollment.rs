//! The task that sees to it that the node has a certificate: it joins, renews, and joins anew.

use std::{
    fs::File,
    io::{self, Read as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use fastgate::{
    identity::{Fingerprint, JoinToken, NodeName},
    node::v1::{
        IssuedCertificate, JoinRequest, RenewRequest, node_identity_client::NodeIdentityClient,
    },
    secret::SecretHash,
};
use http::Uri;
use rcgen::{CertificateParams, DistinguishedName, KeyPair};
use secrecy::SecretString;
use thiserror::Error;
use tokio::{sync::watch, task::spawn_blocking, time::timeout};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status, transport::ClientTlsConfig};

use super::{Credentials, Standing, held::Unfit, verifier::ByFingerprint};
use crate::{
    backoff::{Backoff, random},
    dial::{self, SILENCE},
};

/// The file in the state directory.
const FILE: &str = "identity.pem";

/// How often the certificate's age and the token file are looked at.
const LOOK: Duration = Duration::from_secs(1);

/// How often the log repeats what stands in the way.
const REMIND_EVERY: Duration = Duration::from_secs(60);

/// The most that is read of a token file.
const LONGEST_TOKEN: u64 = 4096;

/// Nothing to show, and nothing to join with.
#[derive(Debug, Error)]
#[error(
    "--control-plane asks for https, and this node has not joined: create a token with 'fgctl nodes \
     tokens create', write it to a file and name that with --join-token-file"
)]
pub(crate) struct NotJoined;

/// Keeps a node's certificate.
pub(crate) struct Enrollment {
    node: NodeName,
    /// Those that speak TLS.
    control_planes: Vec<Uri>,
    file: PathBuf,
    token_file: Option<PathBuf>,
    standing: watch::Sender<Standing>,
    /// What is in force is not on disk yet.
    is_unsaved: bool,
    /// What was asked with a token: the answer may have been lost, and for a while only the same key gets
    /// another.
    asked: Option<(SecretHash, Asked)>,
    /// A token the control plane does not take, and what it said.
    refused: Option<(SecretHash, String)>,
    told: Option<(Instant, String)>,
    /// When the certificate was issued that is held, where that was since the start.
    issued: Option<Instant>,
}

/// What stands in the way of a certificate.
#[derive(Debug, Error)]
enum Trouble {
    #[error("there is no certificate to show: give a join token with --join-token-file")]
    NoToken,
    #[error("{} can't be read: {fault}", path.display())]
    TokenFile { path: PathBuf, fault: io::Error },
    #[error("{} {fault}", path.display())]
    Token { path: PathBuf, fault: String },
    #[error("{0}")]
    Refused(String),
    #[error("the control plane {uri} can't be reached: {fault}")]
    Unreachable { uri: Uri, fault: String },
    #[error(
        "the certificate of this node has ended: it serves on with the config it has, and joins anew \
         when there is a new token in the file of --join-token-file"
    )]
    Ended,
    #[error(
        "it is due for renewal as soon as it is issued: the clock of this machine is ahead of that of \
         the control plane: set both right"
    )]
    ClockAhead,
    #[error("what the control plane has issued {0}")]
    Unfit(#[from] Unfit),
    #[error("the control plane has issued a certificate of another CA than it should")]
    OtherCa,
    #[error("can't save the certificate: {0}")]
    Save(io::Error),
    #[error("can't make a key: {0}")]
    Key(#[from] rcgen::Error),
}

/// What there is at the start, and the task that sees to it from then on. A node whose directory
/// `has_state` can serve whatever became of its certificate.
///
/// # Errors
/// When there is neither a certificate, nor a way to one, nor anything to serve.
pub(crate) fn open(
    node: NodeName,
    control_planes: Vec<Uri>,
    (state_dir, has_state): (&Path, bool),
    token_file: Option<PathBuf>,
) -> Result<(watch::Receiver<Standing>, Enrollment), NotJoined> {
    let file = state_dir.join(FILE);
    let found = match Credentials::load(&file, &node) {
        Ok(None) if token_file.is_none() && !has_state => return Err(NotJoined),
        Ok(None) if token_file.is_none() => {
            let told = format!("{} is gone", file.display());
            tracing::error!("the certificate of this node is not used: {told}");
            Err(told)
        }
        Ok(None) => Err("it has only just started".to_owned()),
        Ok(Some(held)) => Ok(Arc::new(held)),
        Err(unfit) => {
            let told = format!("{} {unfit}", file.display());
            tracing::error!("the certificate of this node is not used: {told}");
            Err(told)
        }
    };
    let standing = watch::Sender::new(found);
    let receiver = standing.subscribe();
    let enrollment = Enrollment {
        node,
        control_planes,
        file,
        token_file,
        standing,
        is_unsaved: false,
        asked: None,
        refused: None,
        told: None,
        issued: None,
    };
    Ok((receiver, enrollment))
}

impl Enrollment {
    /// Sees to it until `stop` is cancelled.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let seeing_to_it = async {
            let mut backoff = Backoff::new();
            loop {
                let wait = match self.step(SystemTime::now()).await {
                    Ok(()) => {
                        backoff.reset();
                        self.told = None;
                        LOOK
                    }
                    Err(trouble) => {
                        self.tell(trouble.to_string());
                        backoff.wait(random())
                    }
                };
                tokio::time::sleep(wait).await;
            }
        };
        tokio::select! { () = stop.cancelled() => {}, () = seeing_to_it => {} }
    }

    /// Does what is due. A token that was not tried yet comes first: somebody wants the node to join anew.
    async fn step(&mut self, now: SystemTime) -> Result<(), Trouble> {
        if self.is_unsaved {
            self.save().await?;
        }
        let held = self.held();
        if let Some(token) = self.fresh_token(held.as_deref()).await? {
            return self.join(&token).await;
        }
        match held {
            Some(held) if held.has_ended(now) => Err(Trouble::Ended),
            Some(held) if held.is_due(now) => match self.issued {
                Some(issued) if issued.elapsed() < held.life() / 3 => Err(Trouble::ClockAhead),
                _ => self.renew(&held).await,
            },
            Some(_) => Ok(()),
            None => match &self.refused {
                Some((_, why)) => Err(Trouble::Refused(why.clone())),
                None => Err(Trouble::NoToken),
            },
        }
    }

    /// The token in the file, unless it was used up or refused. Who has a certificate does not need one.
    async fn fresh_token(&self, held: Option<&Credentials>) -> Result<Option<JoinToken>, Trouble> {
        let Some(path) = self.token_file.clone() else { return Ok(None) };
        let read = spawn_blocking(move || read_token(&path)).await;
        let token = match (read, held) {
            (Ok(Ok(token)), _) => token,
            (Ok(Err(trouble)), None) => return Err(trouble),
            (Ok(Err(_)), Some(_)) | (Err(_), _) => return Ok(None),
        };
        let hash = token.hash();
        let is_used = hash == held.map(Credentials::token);
        let is_refused = self.refused.as_ref().is_some_and(|(refused, _)| hash == Some(*refused));
        Ok((!is_used && !is_refused).then_some(token))
    }

    async fn join(&mut self, token: &JoinToken) -> Result<(), Trouble> {
        let Some(hash) = token.hash() else { return Ok(()) };
        let asked = match self.asked.take() {
            Some((before, asked)) if before == hash => asked,
            _ => Asked::new()?,
        };
        let Asked { key, csr } = asked.clone();
        self.asked = Some((hash, asked));
        let request = JoinRequest {
            token: token.secret().to_owned(),
            environment: self.node.environment.to_string(),
            node_id: self.node.node_id.to_string(),
            csr,
        };
        match self.ask(&Request::Join(request, token.ca())).await {
            Ok(issued) => {
                let held = self.take(key, issued, (hash, token.ca()))?;
                self.asked = None;
                self.put_in_force(held, "joined").await
            }
            Err(Unanswered::Yet(trouble)) => Err(trouble),
            Err(Unanswered::ForGood(why)) => {
                tracing::error!("the control plane refuses the join token: {why}");
                self.refused = Some((hash, why.clone()));
                Err(Trouble::Refused(why))
            }
        }
    }

    async fn renew(&mut self, held: &Credentials) -> Result<(), Trouble> {
        let Asked { key, csr } = Asked::new()?;
        let asked = self.ask(&Request::Renew(RenewRequest { csr }, held)).await;
        let issued = asked.map_err(|unanswered| match unanswered {
            Unanswered::Yet(trouble) => trouble,
            Unanswered::ForGood(why) => Trouble::Refused(why),
        })?;
        let next = self.take(key, issued, (held.token(), held.ca()))?;
        self.put_in_force(next, "renewed its certificate").await
    }

    /// Asks one control plane after the other, until one answers.
    async fn ask(&self, request: &Request<'_>) -> Result<IssuedCertificate, Unanswered> {
        let mut last = Trouble::NoToken;
        for uri in &self.control_planes {
            let unreachable = |fault| Trouble::Unreachable { uri: uri.clone(), fault };
            match timeout(SILENCE, request.send_to(uri)).await {
                Ok(Ok(Ok(issued))) => return Ok(issued),
                Ok(Ok(Err(status))) if is_final(&status) => {
                    return Err(Unanswered::ForGood(status.message().to_owned()));
                }
                Ok(Ok(Err(status))) => last = unreachable(dial::refusal(&status)),
                Ok(Err(fault)) => last = unreachable(fault),
                Err(_) => last = unreachable("it does not answer".into()),
            }
        }
        Err(Unanswered::Yet(last))
    }

    /// What was issued for a key, if it is what was asked for, of the CA that was asked.
    fn take(
        &self,
        key: SecretString,
        issued: IssuedCertificate,
        (token, ca): (SecretHash, Fingerprint),
    ) -> Result<Credentials, Trouble> {
        let IssuedCertificate { certificate, ca: issuer } = issued;
        let taken = Credentials::new(key, (certificate, issuer), token, &self.node)?;
        if taken.ca() == ca { Ok(taken) } else { Err(Trouble::OtherCa) }
    }

    async fn put_in_force(&mut self, held: Credentials, what: &str) -> Result<(), Trouble> {
        tracing::info!(until = written(held.ends()), "the node {what}");
        self.issued = Some(Instant::now());
        drop(self.standing.send_replace(Ok(Arc::new(held))));
        // The token is used up: what the disk does not take now, it is given again.
        self.is_unsaved = true;
        self.save().await
    }

    async fn save(&mut self) -> Result<(), Trouble> {
        if let Some(held) = self.held() {
            let file = self.file.clone();
            let saved = spawn_blocking(move || held.save(&file)).await;
            saved.unwrap_or_else(|died| Err(io::Error::other(died))).map_err(Trouble::Save)?;
        }
        self.is_unsaved = false;
        Ok(())
    }

    fn held(&self) -> Option<Arc<Credentials>> {
        self.standing.borrow().clone().ok()
    }

    /// Says what stands in the way: in the log when it is new, and every minute; to the ops port always.
    fn tell(&mut self, trouble: String) {
        let is_due = self
            .told
            .as_ref()
            .is_none_or(|(at, told)| *told != trouble || at.elapsed() >= REMIND_EVERY);
        if is_due {
            match self.held().filter(|held| !held.has_ended(SystemTime::now())) {
                Some(held) => {
                    let until = written(held.ends());
                    tracing::warn!(until, "can't see to the node's certificate: {trouble}");
                }
                None => tracing::error!("the node has no certificate in force: {trouble}"),
            }
            self.told = Some((Instant::now(), trouble.clone()));
        }
        self.standing.send_if_modified(|standing| {
            let is_news = standing.as_ref().is_err_and(|told| *told != trouble);
            if is_news {
                *standing = Err(trouble);
            }
            is_news
        });
    }
}

/// What is asked of a control plane, and how it is known.
enum Request<'a> {
    /// By the CA that the token names.
    Join(JoinRequest, Fingerprint),
    /// By the CA of the certificate that is shown to it.
    Renew(RenewRequest, &'a Credentials),
}

impl Request<'_> {
    /// What the control plane says to it, or why there is none.
    async fn send_to(&self, uri: &Uri) -> Result<Result<IssuedCertificate, Status>, String> {
        let endpoint = dial::endpoint(uri);
        let secured = match self {
            Self::Join(_, ca) => {
                let verifier = Arc::new(ByFingerprint::new(*ca));
                endpoint.tls_config_with_verifier(ClientTlsConfig::new(), verifier)
            }
            Self::Renew(_, held) => endpoint.tls_config(held.tls()),
        };
        let endpoint = secured.map_err(|fault| dial::innermost(&fault))?;
        let mut client = NodeIdentityClient::new(dial::connect_to(&endpoint).await?);
        let answer = match self {
            Self::Join(request, _) => client.join(request.clone()).await,
            Self::Renew(request, _) => client.renew(request.clone()).await,
        };
        Ok(answer.map(tonic::Response::into_inner))
    }
}

/// Why nobody issued a certificate.
enum Unanswered {
    /// It may be another time.
    Yet(Trouble),
    /// Asking again would change nothing.
    ForGood(String),
}

fn is_final(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unauthenticated | Code::PermissionDenied | Code::InvalidArgument | Code::NotFound
    )
}

fn written(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time).map(|time| time.to_string()).unwrap_or_default()
}

/// A new key, and a request for a certificate of it. The name in it is the control plane's to say.
#[derive(Clone)]
struct Asked {
    key: SecretString,
    csr: Vec<u8>,
}

impl Asked {
    fn new() -> Result<Self, rcgen::Error> {
        let pair = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        let csr = params.serialize_request(&pair)?.der().to_vec();
        Ok(Self { key: pair.serialize_pem().into(), csr })
    }
}

fn read_token(path: &Path) -> Result<JoinToken, Trouble> {
    let mut text = String::new();
    let read = File::open(path).and_then(|file| file.take(LONGEST_TOKEN).read_to_string(&mut text));
    read.map_err(|fault| Trouble::TokenFile { path: path.into(), fault })?;
    let token = JoinToken::parse(text.trim());
    token.map_err(|fault| Trouble::Token { path: path.into(), fault })
}

#[cfg(test)]
mod tests {
    use super::{
        super::tests::{Ca, LIFE, held, node},
        *,
    };

    #[test]
    fn a_node_that_has_served_starts_without_its_certificate() {
        let dir = tempfile::tempdir().expect("a folder");
        let open = |has_state| open(node("prod", "n1"), Vec::new(), (dir.path(), has_state), None);
        assert!(open(false).is_err(), "it has nothing to serve, and no way to get something");
        let (standing, _) = open(true).expect("it serves what it has");
        assert!(standing.borrow().as_ref().is_err_and(|why| why.contains("is gone")));
    }

    #[tokio::test]
    async fn a_clock_that_is_ahead_has_no_certificate_renewed_again_and_again() {
        let dir = tempfile::tempdir().expect("a folder");
        let own = node("prod", "n1");
        held(&Ca::new(), &own).save(&dir.path().join(FILE)).expect("saves");
        let (_, mut enrollment) = open(own, Vec::new(), (dir.path(), false), None).expect("joined");
        let ahead = SystemTime::now() + LIFE * 70 / 100;
        let asks = enrollment.step(ahead).await;
        assert!(matches!(asks, Err(Trouble::NoToken)), "there is nobody to ask: {asks:?}");
        enrollment.issued = Some(Instant::now());
        assert!(matches!(enrollment.step(ahead).await, Err(Trouble::ClockAhead)));
        assert!(enrollment.step(SystemTime::now()).await.is_ok());
    }
}
