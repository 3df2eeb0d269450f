//! `fgctl keys import`.

use std::{
    collections::VecDeque,
    mem,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use fastgate::{
    admin::v1::{ImportKeysRequest, ImportKeysResponse, Secret},
    model::Violations,
};
use prost::Message as _;
use tokio::task::JoinHandle;
use tonic::Status;

use super::{
    rows::{Line, Row, Source},
    secrets::Secrets,
};
use crate::{
    cli::DryRun,
    client::Client,
    error::{Error, Faults, Refusal},
    output::Output,
};

/// Keys of one call: as many as it takes.
const MOST: usize = 1000;
/// Bytes of one call: half of what it takes, and what still goes to nodes in one message.
const MOST_BYTES: usize = 2 << 20;
/// Calls under way. One is committed at a time: while it is, the next are on their way.
const CALLS: usize = 3;
/// How often it is said how far the import is.
const REPORT_EVERY: Duration = Duration::from_secs(2);

/// Checks all of a file, then imports it. It connects only then: a control plane hangs up on who says
/// nothing for ten seconds, and a million keys take longer to check.
pub(in crate::commands) async fn run(
    file: &Path,
    secrets_out: Option<PathBuf>,
    check: DryRun,
    connect: impl AsyncFnOnce() -> Result<Client, Error>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let source = Source::open(file)?;
    let (count, needs_secrets) = source.check()?;
    if count == 0 {
        return output.remark(&format!("no keys in {}", source.name));
    }
    let secrets =
        if check.dry_run || !needs_secrets { None } else { Some(Secrets::open(secrets_out)?) };
    let mut import = Import {
        source: &source,
        client: connect().await?,
        secrets,
        check,
        calls: VecDeque::new(),
        progress: Progress::new(count),
    };
    let sent = import.send_all(output).await;
    // Whatever became of one call, the others are told of as well.
    let done = import.finish(0, output).await;
    if let Err(fault) = sent.and(done) {
        import.progress.broke_off(check, output)?;
        return Err(fault);
    }
    import.progress.end(check, output)
}

struct Import<'a> {
    source: &'a Source,
    client: Client,
    /// `None`: no key needs one.
    secrets: Option<Secrets>,
    check: DryRun,
    /// In the order of the file.
    calls: VecDeque<Call>,
    progress: Progress,
}

/// One call under way.
struct Call {
    /// Where its keys stand.
    lines: Vec<u64>,
    answer: JoinHandle<Result<ImportKeysResponse, Status>>,
}

impl Import<'_> {
    async fn send_all(&mut self, output: &mut Output<'_>) -> Result<(), Error> {
        let mut batch = Vec::with_capacity(MOST);
        let mut bytes = 0;
        for line in self.source.lines()? {
            let Line { number: line, key } = line?;
            // It was right when it was checked.
            let wrong =
                |faults: Violations| Faults(vec![self.source.fault(line, faults.to_string())]);
            let row = Row { line, key: key.map_err(wrong)? };
            let size = row.key.encoded_len();
            if batch.len() == MOST || bytes + size > MOST_BYTES {
                self.send(mem::take(&mut batch), output).await?;
                bytes = 0;
            }
            bytes += size;
            batch.push(row);
        }
        self.send(batch, output).await
    }

    /// Sends keys as soon as there is room for one more call.
    async fn send(&mut self, rows: Vec<Row>, output: &mut Output<'_>) -> Result<(), Error> {
        self.finish(CALLS - 1, output).await?;
        let lines = rows.iter().map(|row| row.line).collect();
        let mut keys = Vec::with_capacity(rows.len());
        for mut row in rows {
            if let Some(secrets) = self.secrets.as_mut().filter(|_| row.key.secrets.is_empty()) {
                let (key_id, hash) = secrets.give(&row)?;
                row.key.key_id = key_id;
                row.key.secrets = vec![Secret { hash: hash.to_hex(), ..Secret::default() }];
            }
            keys.push(row.key);
        }
        if let Some(secrets) = &mut self.secrets {
            secrets.keep(output)?;
        }
        let request = ImportKeysRequest {
            environment: self.client.environment(),
            keys,
            validate_only: self.check.dry_run,
            request_id: String::new(),
        };
        let mut client = self.client.keys();
        let answer = async move { Ok(client.import_keys(request).await?.into_inner()) };
        self.calls.push_back(Call { lines, answer: tokio::spawn(answer) });
        Ok(())
    }

    /// Waits until no more than so many calls are under way; the first fault among them.
    async fn finish(&mut self, left: usize, output: &mut Output<'_>) -> Result<(), Error> {
        let mut fault = None;
        while self.calls.len() > left
            && let Some(Call { lines, answer }) = self.calls.pop_front()
        {
            let answer =
                answer.await.unwrap_or_else(|broken| Err(Status::internal(broken.to_string())));
            match answer {
                Ok(answer) => self.progress.add(&answer, output)?,
                Err(status) => {
                    let refusal = Refusal::from(status).relocate(|field| self.place(&lines, field));
                    fault.get_or_insert(refusal);
                }
            }
        }
        fault.map_or(Ok(()), |refusal| Err(refusal.into()))
    }

    /// Where a field such as `keys[2].rate_limit` of a call stands in the file.
    fn place(&self, lines: &[u64], field: &str) -> String {
        let found = field.strip_prefix("keys[").and_then(|rest| rest.split_once(']'));
        let line = found.and_then(|(at, _)| lines.get(at.parse::<usize>().ok()?));
        match (line, found) {
            (Some(line), Some((_, rest))) => {
                format!("{}:{line}: {}", self.source.name, rest.trim_start_matches('.'))
            }
            _ => field.to_owned(),
        }
    }
}

/// How far an import is.
struct Progress {
    of: u64,
    new: u64,
    existed: u64,
    began: Instant,
    said: Instant,
}

impl Progress {
    fn new(of: u64) -> Self {
        let now = Instant::now();
        Self { of, new: 0, existed: 0, began: now, said: now }
    }

    fn add(&mut self, answer: &ImportKeysResponse, output: &mut Output<'_>) -> Result<(), Error> {
        let existed = answer.keys.iter().filter(|key| key.existed).count() as u64;
        self.existed += existed;
        self.new += answer.keys.len() as u64 - existed;
        if self.said.elapsed() < REPORT_EVERY {
            return Ok(());
        }
        self.said = Instant::now();
        let done = self.new + self.existed;
        let rate = done as f64 / self.began.elapsed().as_secs_f64();
        output.remark(&format!("{done} of {} keys, {rate:.0} a second", self.of))
    }

    fn end(&self, check: DryRun, output: &mut Output<'_>) -> Result<(), Error> {
        let (new, existed) = (self.new, self.existed);
        let what = if check.dry_run { "can be imported" } else { "are imported" };
        let took = self.began.elapsed().as_secs_f64();
        output.remark(&format!("{new} keys {what}, {existed} are there already; {took:.1} s"))
    }

    fn broke_off(&self, check: DryRun, output: &mut Output<'_>) -> Result<(), Error> {
        let done = self.new + self.existed;
        if check.dry_run || done == 0 {
            return Ok(());
        }
        let (of, again) = (self.of, "the same command goes on from there");
        output.remark(&format!("{done} of {of} keys are there: {again}"))
    }
}
