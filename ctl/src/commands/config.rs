//! `fgctl config`, and what is short for its commands: documents as a whole.

mod acknowledged;
mod history;

use std::io;

use fastgate::admin::v1::{
    ApplyConfigRequest, ApplyConfigResponse, Config, ConfigChange, DiffConfigRequest,
    DiffConfigResponse, ExportConfigRequest, ValidateConfigRequest,
    config_change::{Action, After, Before},
};
use prost_reflect::{DynamicMessage, Value};
use similar::TextDiff;
use tonic::Status;

use crate::{
    Outcome,
    cli::{
        ApplyArgs, ConfigCommand, Consent, DiffArgs, DryRun, Files, Form, Meant, PromoteArgs,
        SyncArgs, Wait,
    },
    client::Client,
    context::Connection,
    document::{self, Document},
    error::{Error, Refusal},
    output::Output,
    schema::{self, Written},
};

pub(super) async fn run(
    command: ConfigCommand,
    connection: &Connection,
    connect: impl AsyncFnOnce() -> Result<Client, Error>,
    output: &mut Output<'_>,
) -> Result<Outcome, Error> {
    match command {
        ConfigCommand::Validate(files) => validate(files, connection, connect, output).await?,
        ConfigCommand::Diff(args) => return diff(args, connection, connect, output).await,
        ConfigCommand::Apply(args) => apply(args, connection, connect, output).await?,
        ConfigCommand::Sync(args) => sync(args, connection, connect, output).await?,
        ConfigCommand::Promote(args) => promote(args, &connect().await?, output).await?,
        ConfigCommand::History(limit) => history::list(limit, &connect().await?, output).await?,
        ConfigCommand::Show { revision } => {
            history::show(revision, &connect().await?, output).await?;
        }
        ConfigCommand::Rollback(args) => history::rollback(args, &connect().await?, output).await?,
        ConfigCommand::Export(meant) => export(meant, &connect().await?, output).await?,
    }
    Ok(Outcome::Done)
}

async fn validate(
    files: Files,
    connection: &Connection,
    connect: impl AsyncFnOnce() -> Result<Client, Error>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let (document, environment) = load(&files, connection)?;
    let config = Some(document.config.clone());
    let request = ValidateConfigRequest { config, environment };
    let answer = connect().await?.config().validate_config(request).await;
    let answer = answer.map_err(|status| refused(status, &document))?.into_inner();
    if output.form() != Form::Table {
        output.object("ValidateConfigResponse", &answer)?;
    }
    if answer.violations.is_empty() {
        return output.remark("the document is valid");
    }
    let violations = answer.violations.into_iter().map(|one| (one.field, one.description));
    let refusal = Refusal::of_violations("the document is not valid", violations);
    Err(refusal.relocate(|field| document.place(field)).into())
}

/// Says what applying documents would change.
async fn diff(
    args: DiffArgs,
    connection: &Connection,
    connect: impl AsyncFnOnce() -> Result<Client, Error>,
    output: &mut Output<'_>,
) -> Result<Outcome, Error> {
    let DiffArgs { revisions, files, prune, meant: Meant { selector } } = args;
    if let [from, to] = revisions[..] {
        let answer = history::diff(from, to, &connect().await?).await?;
        return differences(&answer, ["before", "after"], "nothing changed", output);
    }
    let (document, environment) = load(&Files { files }, connection)?;
    let config = Some(document.config.clone());
    let request = DiffConfigRequest { config, environment, prune, selector };
    let answer = connect().await?.config().diff_config(request).await;
    let answer = answer.map_err(|status| refused(status, &document))?.into_inner();
    differences(&answer, ["stored", "document"], "nothing would change", output)
}

/// Shows what changes, object by object.
fn differences(
    answer: &DiffConfigResponse,
    sides: [&str; 2],
    none: &str,
    output: &mut Output<'_>,
) -> Result<Outcome, Error> {
    if output.form() == Form::Table {
        for change in &answer.changes {
            let text = unified(change, sides, output.colour())?;
            output.text(&text)?;
        }
    } else {
        output.object("DiffConfigResponse", answer)?;
    }
    if answer.changes.is_empty() {
        output.remark(none)?;
        return Ok(Outcome::Done);
    }
    Ok(Outcome::Differs)
}

/// Applies documents, all or nothing.
async fn apply(
    args: ApplyArgs,
    connection: &Connection,
    connect: impl AsyncFnOnce() -> Result<Client, Error>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let (document, environment) = load(&args.files, connection)?;
    let ApplyArgs { meant, check, wait, .. } = args;
    let (config, prune) = (document.config.clone(), None);
    let change = Change { config, environment, meant, prune, check, wait };
    let sent = change.send(&connect().await?, output).await;
    sent.map_err(|error| relocated(error, &document))
}

/// Makes an environment hold what documents do.
async fn sync(
    args: SyncArgs,
    connection: &Connection,
    connect: impl AsyncFnOnce() -> Result<Client, Error>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let (document, environment) = load(&args.files, connection)?;
    let SyncArgs { meant, consent, check, wait, .. } = args;
    let (config, prune) = (document.config.clone(), Some(consent));
    let change = Change { config, environment, meant, prune, check, wait };
    let sent = change.send(&connect().await?, output).await;
    sent.map_err(|error| relocated(error, &document))
}

/// Applies what one environment holds to another.
async fn promote(args: PromoteArgs, client: &Client, output: &mut Output<'_>) -> Result<(), Error> {
    let PromoteArgs { from, to, prune, consent, check, wait } = args;
    if from == to {
        return Err(Error::Usage(format!("'{from}' is both environments: name two")));
    }
    if consent.yes && !prune {
        return Err(Error::Usage("--yes is for --prune: give both or none".into()));
    }
    let request = ExportConfigRequest { environment: from, selector: String::new() };
    let mut config = client.config().export_config(request).await?.into_inner();
    config.environment.clone_from(&to);
    let prune = prune.then_some(consent);
    let meant = Meant::default();
    Change { config, environment: to, meant, prune, check, wait }.send(client, output).await
}

/// A config on its way into an environment.
struct Change {
    config: Config,
    environment: String,
    meant: Meant,
    /// `None`: what it does not hold stays.
    prune: Option<Consent>,
    check: DryRun,
    wait: Wait,
}

impl Change {
    /// Sends it, shows what it changes, and waits for nodes where that is asked for.
    async fn send(self, client: &Client, output: &mut Output<'_>) -> Result<(), Error> {
        let Self { config, environment, meant: Meant { selector }, prune, check, wait } = self;
        let mut request = ApplyConfigRequest {
            config: Some(config),
            environment: environment.clone(),
            validate_only: check.dry_run,
            prune: prune.is_some(),
            force: prune.is_some_and(|consent| consent.force),
            selector: selector.clone(),
            ..Default::default()
        };
        if prune.is_some_and(|consent| !consent.yes) && !check.dry_run {
            let look = DiffConfigRequest {
                config: request.config.clone(),
                environment: environment.clone(),
                prune: true,
                selector,
            };
            let found = client.config().diff_config(look).await?.into_inner();
            refuse_to_delete(&found.changes)?;
            // There is nothing to delete; nor is what somebody adds meanwhile.
            request.prune = false;
        }
        let answer = client.config().apply_config(request).await?.into_inner();
        finish(&answer, (client, &environment), (check, wait), output).await
    }
}

/// Shows what was changed, and waits for nodes where that is asked for.
async fn finish(
    answer: &ApplyConfigResponse,
    (client, environment): (&Client, &str),
    (DryRun { dry_run }, Wait { wait }): (DryRun, Wait),
    output: &mut Output<'_>,
) -> Result<(), Error> {
    if output.form() == Form::Table {
        output.text(&summary(answer, dry_run))?;
    } else {
        output.object("ApplyConfigResponse", answer)?;
    }
    match wait {
        Some(seconds) if !dry_run => {
            acknowledged::wait(client, environment, answer.revision, seconds, output).await
        }
        _ => Ok(()),
    }
}

/// Says what would be deleted, where the user has not said yes to it.
fn refuse_to_delete(changes: &[ConfigChange]) -> Result<(), Error> {
    let gone = changes.iter().filter(|change| change.action() == Action::Delete);
    let gone: Vec<_> = gone.map(name_of).map(|(kind, id)| format!("{kind} {id}")).collect();
    if gone.is_empty() {
        return Ok(());
    }
    /// What people still read.
    const SHOWN: usize = 20;
    let mut list = gone.iter().take(SHOWN).cloned().collect::<Vec<_>>().join(", ");
    if gone.len() > SHOWN {
        list += ", ...";
    }
    let count = gone.len();
    let what = if count == 1 { "object" } else { "objects" };
    Err(Error::Usage(format!(
        "{count} {what} would be deleted, and nothing was changed: {list}. Add --yes if that is meant"
    )))
}

/// Writes routes, upstreams and plans as a document.
async fn export(meant: Meant, client: &Client, output: &mut Output<'_>) -> Result<(), Error> {
    let (environment, selector) = (client.environment(), meant.selector);
    let request = ExportConfigRequest { environment, selector };
    let config = client.config().export_config(request).await?.into_inner();
    let text = exported(&config, output.form())?;
    output.text(&text)
}

/// Reads the documents, and finds the environment they are for.
fn load(files: &Files, connection: &Connection) -> Result<(Document, String), Error> {
    let sources = document::read(&files.files, &mut io::stdin().lock())?;
    let document = Document::parse(&sources)?;
    let own = &document.config.environment;
    if own.is_empty() {
        return Ok((document, connection.environment.clone()));
    }
    if connection.environment_is_explicit && *own != connection.environment {
        return Err(Error::Usage(format!(
            "the document is for environment '{own}', the command for '{}': leave out --environment \
             (or FGCTL_ENVIRONMENT), or change the document",
            connection.environment
        )));
    }
    let environment = own.clone();
    Ok((document, environment))
}

fn refused(status: Status, document: &Document) -> Error {
    relocated(Refusal::from(status).into(), document)
}

/// The same, with the places of the documents in place of those of the message.
fn relocated(error: Error, document: &Document) -> Error {
    match error {
        Error::Refused(refusal) => refusal.relocate(|field| document.place(field)).into(),
        other => other,
    }
}

fn summary(answer: &ApplyConfigResponse, dry_run: bool) -> String {
    let mut text = String::new();
    for change in &answer.changes {
        let (kind, id) = name_of(change);
        let done = match (change.action(), dry_run) {
            (Action::Create, false) => "created",
            (Action::Create, true) => "would be created",
            (Action::Update, false) => "updated",
            (Action::Update, true) => "would be updated",
            (Action::Delete, false) => "deleted",
            (Action::Delete, true) => "would be deleted",
            (Action::Unspecified, _) => "changed",
        };
        text.push_str(&format!("{kind} {id} {done}\n"));
    }
    let revision = answer.revision;
    match (answer.changes.is_empty(), dry_run) {
        (true, _) => text.push_str(&format!("nothing to change (revision {revision})\n")),
        (false, true) => text.push_str("nothing was changed: this was a dry run\n"),
        (false, false) => text.push_str(&format!("applied as revision {revision}\n")),
    }
    text
}

/// What an object is called; a route that gets its id only when it is stored, by what it matches.
fn name_of(change: &ConfigChange) -> (&'static str, &str) {
    match &change.after {
        Some(After::Route(route)) => {
            let names = [&route.route_id, &route.name, &route.path_prefix, &route.path];
            ("route", names.into_iter().find(|name| !name.is_empty()).map_or("", |name| name))
        }
        Some(After::Upstream(upstream)) => ("upstream", &upstream.upstream_id),
        Some(After::Plan(plan)) => ("plan", &plan.plan_id),
        None => match &change.before {
            Some(Before::RouteBefore(route)) => ("route", &route.route_id),
            Some(Before::UpstreamBefore(upstream)) => ("upstream", &upstream.upstream_id),
            Some(Before::PlanBefore(plan)) => ("plan", &plan.plan_id),
            None => ("object", ""),
        },
    }
}

/// One change as a unified diff of YAML.
fn unified(change: &ConfigChange, [old, new]: [&str; 2], colour: bool) -> Result<String, Error> {
    let before = match &change.before {
        Some(Before::RouteBefore(route)) => written(schema::open("Route", route)?)?,
        Some(Before::UpstreamBefore(upstream)) => written(schema::open("Upstream", upstream)?)?,
        Some(Before::PlanBefore(plan)) => written(schema::open("Plan", plan)?)?,
        None => String::new(),
    };
    let after = match &change.after {
        Some(After::Route(route)) => written(schema::open("Route", route)?)?,
        Some(After::Upstream(upstream)) => written(schema::open("Upstream", upstream)?)?,
        Some(After::Plan(plan)) => written(schema::open("Plan", plan)?)?,
        None => String::new(),
    };
    let (kind, id) = name_of(change);
    let side = |text: &str, side: &str| match text {
        "" => "/dev/null".to_owned(),
        _ => format!("{kind}/{id} ({side})"),
    };
    let (old, new) = (side(&before, old), side(&after, new));
    let diff = TextDiff::from_lines(&before, &after);
    let mut unified = diff.unified_diff();
    let text = unified.header(&old, &new).to_string();
    Ok(if colour { coloured(&text) } else { text })
}

fn coloured(diff: &str) -> String {
    let mut text = String::with_capacity(diff.len() * 2);
    for line in diff.split_inclusive('\n') {
        let body = line.trim_end_matches('\n');
        let code = match body.as_bytes() {
            [b'+', b'+', b'+', ..] | [b'-', b'-', b'-', ..] => "1",
            [b'@', ..] => "36",
            [b'+', ..] => "32",
            [b'-', ..] => "31",
            _ => "",
        };
        if code.is_empty() {
            text.push_str(line);
        } else {
            text.push_str(&format!("\u{1b}[{code}m{body}\u{1b}[0m\n"));
        }
    }
    text
}

/// An object as documents have it: the environment stands on top of the document, once.
fn written(mut object: DynamicMessage) -> Result<String, Error> {
    strip(&mut object);
    Written::Document(&object).to_yaml()
}

fn strip(object: &mut DynamicMessage) {
    schema::strip_output_fields(object);
    object.clear_field_by_name("environment");
}

/// The document: YAML, unless JSON was asked for.
pub(super) fn exported(config: &Config, form: Form) -> Result<String, Error> {
    let mut open = schema::open("Config", config)?;
    for list in ["routes", "upstreams", "plans"] {
        let Some(Value::List(objects)) = open.get_field_by_name_mut(list) else { continue };
        for object in objects {
            if let Value::Message(object) = object {
                strip(object);
            }
        }
    }
    let written = Written::Document(&open);
    if form == Form::Json { written.to_json() } else { written.to_yaml() }
}
