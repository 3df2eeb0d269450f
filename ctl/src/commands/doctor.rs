//! `fgctl doctor`: looks at everything that is known to go wrong, and says what to do about it.

mod environment;
mod node;

use std::time::{Duration, SystemTime};

use fastgate::admin::v1::{
    ControlPlaneStatus, Environment, GetStatusRequest, ListEnvironmentsRequest,
};
use serde_json::json;
use tonic::Code;

use crate::{
    Outcome,
    cli::{DoctorArgs, Form},
    client::Client,
    context::Connection,
    error::{Error, shown},
    output::{Output, time},
};

/// The version of this tool.
const OWN: &str = env!("CARGO_PKG_VERSION");

/// How soon an end is told of.
const SOON: Duration = Duration::from_secs(7 * 86_400);

/// What a database answers within that is well.
const SLOW_MS: f64 = 250.0;

/// By how much clocks may differ.
const CLOCK: Duration = Duration::from_secs(2);

/// How bad something is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Level {
    Ok,
    /// It can't be looked at.
    Skipped,
    Warn,
    Fail,
}

/// What one check came to.
struct Finding {
    level: Level,
    check: String,
    detail: String,
    /// What to do about it; empty where there is nothing to do.
    mend: &'static str,
}

/// What was found, in the order it was looked at.
#[derive(Default)]
struct Findings(Vec<Finding>);

impl Findings {
    fn ok(&mut self, check: impl Into<String>, detail: impl Into<String>) {
        self.add(Level::Ok, check, detail, "");
    }

    fn add(
        &mut self,
        level: Level,
        check: impl Into<String>,
        detail: impl Into<String>,
        mend: &'static str,
    ) {
        self.0.push(Finding { level, check: check.into(), detail: detail.into(), mend });
    }

    fn worst(&self) -> Level {
        self.0.iter().map(|finding| finding.level).max().unwrap_or(Level::Ok)
    }
}

pub(super) async fn run(
    args: DoctorArgs,
    connection: &Connection,
    connect: impl AsyncFnOnce() -> Result<Client, Error>,
    output: &mut Output<'_>,
) -> Result<Outcome, Error> {
    let mut found = Findings::default();
    match connect().await {
        Ok(client) => look(args.all, connection, &client, &mut found).await?,
        Err(error @ Error::Connect { .. }) => found.add(
            Level::Fail,
            "control plane",
            error.to_string(),
            "is it running? give its address with --addr or FGCTL_ADDR",
        ),
        Err(Error::Untrusted { addr, fault, mend }) => {
            let detail = format!("can't be trusted at {addr}: {fault}");
            found.add(Level::Fail, "control plane", detail, mend);
        }
        Err(error) => return Err(error),
    }
    show(&found, output)?;
    Ok(match found.worst() {
        Level::Ok | Level::Skipped => Outcome::Done,
        Level::Warn => Outcome::Worrying,
        Level::Fail => Outcome::Failing,
    })
}

/// What there is to look at of a control plane that can be reached.
async fn look(
    all: bool,
    connection: &Connection,
    client: &Client,
    found: &mut Findings,
) -> Result<(), Error> {
    let asked_at = SystemTime::now();
    let status = match client.status().get_status(GetStatusRequest {}).await {
        Ok(status) => status.into_inner(),
        Err(status) => return refused(status, connection, found),
    };
    control_plane(&status, connection, asked_at, found);
    let own = client.environment();
    let known = status.environments.iter().filter(|known| all || known.environment == own);
    let known: Vec<_> = known.collect();
    if known.is_empty() {
        let detail = format!("'{own}' is not known to this control plane");
        found.add(Level::Fail, "environment", detail, "name another with -e, or create it");
    }
    let settings = settings(client).await;
    for environment in known {
        let name = environment.environment.as_str();
        let own = settings.iter().find(|one| one.environment == name);
        environment::look(environment, own, &status.version, client, found).await?;
    }
    Ok(())
}

/// The control plane does not even say how it is.
fn refused(
    status: tonic::Status,
    connection: &Connection,
    found: &mut Findings,
) -> Result<(), Error> {
    let at = format!("answers at {}", connection.addr);
    match status.code() {
        Code::Unauthenticated => {
            found.ok("control plane", at);
            let mend = "give a valid one: --token-file, FGCTL_TOKEN or a context; fgctl tokens create makes them";
            found.add(Level::Fail, "token", status.message(), mend);
        }
        Code::Unimplemented => {
            let detail = format!("{at}, but is older than this fgctl {OWN}");
            found.add(Level::Fail, "control plane", detail, "bring it up to date");
        }
        Code::Unavailable => {
            found.ok("control plane", at);
            let mend =
                "is the database running, and can the control plane reach it? its log says more";
            found.add(Level::Fail, "database", status.message(), mend);
        }
        _ => return Err(status.into()),
    }
    Ok(())
}

fn control_plane(
    status: &ControlPlaneStatus,
    connection: &Connection,
    asked_at: SystemTime,
    found: &mut Findings,
) {
    let detail = format!("{} answers at {}", status.version, connection.addr);
    if status.version == OWN {
        found.ok("control plane", detail);
    } else {
        let detail = format!("{detail}, this is fgctl {OWN}");
        found.add(Level::Warn, "control plane", detail, "use the fgctl of the same version");
    }
    token(status, found);
    match status.database_ms {
        Some(ms) if ms <= SLOW_MS => found.ok("database", format!("answers in {ms:.0} ms")),
        Some(ms) => {
            let mend = "is it overloaded, or far from the control plane?";
            found.add(Level::Warn, "database", format!("took {ms:.0} ms to answer"), mend);
        }
        None => {
            let mend =
                "is it running, and can the control plane reach it? nodes serve on meanwhile";
            found.add(Level::Fail, "database", "does not answer", mend);
        }
    }
    if status.ready {
        found.ok("ready", "has what the database has");
    } else {
        let mend = "its log says more; nodes keep what they have meanwhile";
        found.add(Level::Fail, "ready", status.reasons.join("; "), mend);
    }
    clock(status, asked_at, found);
}

fn token(status: &ControlPlaneStatus, found: &mut Findings) {
    let ends = time(status.token_expires_at.as_ref());
    let detail = format!("{} has the role {} until {ends}", status.token_id, status.role);
    let expires_at = status.token_expires_at.and_then(|at| SystemTime::try_from(at).ok());
    if expires_at.is_some_and(|at| at < SystemTime::now() + SOON) {
        found.add(Level::Warn, "token", detail, "make another in time: fgctl tokens create");
    } else {
        found.ok("token", detail);
    }
}

/// The answer was written at some time between the question and now.
fn clock(status: &ControlPlaneStatus, asked_at: SystemTime, found: &mut Findings) {
    let Some(theirs) = status.timestamp.and_then(|at| SystemTime::try_from(at).ok()) else {
        return;
    };
    let behind = asked_at.duration_since(theirs).unwrap_or_default();
    let ahead = theirs.duration_since(SystemTime::now()).unwrap_or_default();
    let off = behind.max(ahead);
    if off <= CLOCK {
        return found.ok("clock", "agrees with that of the control plane");
    }
    let side = if ahead > behind { "ahead of" } else { "behind" };
    let detail = format!("the control plane's is {:.0} s {side} this machine's", off.as_secs_f64());
    let mend = "set both by NTP: ends of keys and times of events go by them";
    found.add(Level::Warn, "clock", detail, mend);
}

/// What is set of each environment; nothing while that can't be read.
async fn settings(client: &Client) -> Vec<Environment> {
    let request = ListEnvironmentsRequest { page_size: 1000, ..Default::default() };
    let answer = client.environments().list_environments(request).await;
    answer.map(|answer| answer.into_inner().environments).unwrap_or_default()
}

fn show(found: &Findings, output: &mut Output<'_>) -> Result<(), Error> {
    if output.form() != Form::Table {
        let checks = found.0.iter().map(|finding| {
            json!({
                "check": finding.check,
                "level": name(finding.level),
                "detail": finding.detail,
                "mend": finding.mend,
            })
        });
        let checks: Vec<_> = checks.collect();
        return output.value(&json!({ "checks": checks, "worst": name(found.worst()) }));
    }
    for Finding { level, check, detail, mend } in &found.0 {
        let (check, detail) = (shown(check), shown(detail));
        let mend = if mend.is_empty() { String::new() } else { format!(": {mend}") };
        output.text(&format!("{:<7} {check}: {detail}{mend}\n", name(*level)))?;
    }
    Ok(())
}

fn name(level: Level) -> &'static str {
    match level {
        Level::Ok => "ok",
        Level::Skipped => "skipped",
        Level::Warn => "warn",
        Level::Fail => "fail",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(version: &str, ahead: i64) -> ControlPlaneStatus {
        let at = |time: SystemTime| Some(prost_types::Timestamp::from(time));
        let now = SystemTime::now();
        let mut timestamp = prost_types::Timestamp::from(now);
        timestamp.seconds += ahead;
        ControlPlaneStatus {
            version: version.into(),
            timestamp: Some(timestamp),
            ready: true,
            database_ms: Some(1.0),
            role: "viewer".into(),
            token_expires_at: at(now + SOON * 2),
            ..Default::default()
        }
    }

    fn levels(status: &ControlPlaneStatus) -> Vec<(String, Level)> {
        let connection = Connection {
            addr: "http://127.0.0.1:9".into(),
            token: None,
            ca_file: None,
            environment: "default".into(),
            environment_is_explicit: false,
        };
        let mut found = Findings::default();
        control_plane(status, &connection, SystemTime::now(), &mut found);
        let bad = found.0.into_iter().filter(|finding| finding.level != Level::Ok);
        bad.map(|finding| (finding.check, finding.level)).collect()
    }

    #[test]
    fn a_control_plane_is_judged_by_what_it_says() {
        assert_eq!(levels(&status(OWN, 0)), []);
        assert_eq!(levels(&status("0.0.0", 0)), [("control plane".into(), Level::Warn)]);
        assert_eq!(levels(&status(OWN, 60)), [("clock".into(), Level::Warn)]);
        assert_eq!(levels(&status(OWN, -60)), [("clock".into(), Level::Warn)]);
        let away = ControlPlaneStatus {
            database_ms: None,
            ready: false,
            reasons: vec!["the database does not answer".into()],
            ..status(OWN, 0)
        };
        let expected = [("database".into(), Level::Fail), ("ready".into(), Level::Fail)];
        assert_eq!(levels(&away), expected);
        let slow = ControlPlaneStatus { database_ms: Some(900.0), ..status(OWN, 0) };
        assert_eq!(levels(&slow), [("database".into(), Level::Warn)]);
        let ending = ControlPlaneStatus {
            token_expires_at: Some((SystemTime::now() + SOON / 2).into()),
            ..status(OWN, 0)
        };
        assert_eq!(levels(&ending), [("token".into(), Level::Warn)]);
    }
}
