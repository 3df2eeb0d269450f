//! `fgctl config`, `apply`, `diff` and `export`: documents as a whole.

use std::io;

use fastgate::admin::v1::{
    ApplyConfigRequest, ApplyConfigResponse, Config, ConfigChange, DiffConfigRequest,
    ExportConfigRequest, ValidateConfigRequest,
    config_change::{Action, After, Before},
};
use prost_reflect::{DynamicMessage, Value};
use similar::TextDiff;
use tonic::Status;

use crate::{
    Outcome,
    cli::{ApplyArgs, ConfigCommand, Files, Form},
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
        ConfigCommand::Diff(files) => return diff(files, connection, connect, output).await,
        ConfigCommand::Apply(args) => apply(args, connection, connect, output).await?,
        ConfigCommand::Export => export(&connect().await?, output).await?,
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
pub(super) async fn diff(
    files: Files,
    connection: &Connection,
    connect: impl AsyncFnOnce() -> Result<Client, Error>,
    output: &mut Output<'_>,
) -> Result<Outcome, Error> {
    let (document, environment) = load(&files, connection)?;
    let config = Some(document.config.clone());
    let request = DiffConfigRequest { config, environment };
    let answer = connect().await?.config().diff_config(request).await;
    let answer = answer.map_err(|status| refused(status, &document))?.into_inner();
    if output.form() == Form::Table {
        for change in &answer.changes {
            let text = unified(change, output.colour())?;
            output.text(&text)?;
        }
    } else {
        output.object("DiffConfigResponse", &answer)?;
    }
    if answer.changes.is_empty() {
        output.remark("nothing would change")?;
        return Ok(Outcome::Done);
    }
    Ok(Outcome::Differs)
}

/// Applies documents, all or nothing.
pub(super) async fn apply(
    args: ApplyArgs,
    connection: &Connection,
    connect: impl AsyncFnOnce() -> Result<Client, Error>,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let (document, environment) = load(&args.files, connection)?;
    let request = ApplyConfigRequest {
        config: Some(document.config.clone()),
        environment,
        validate_only: args.check.dry_run,
        ..Default::default()
    };
    let answer = connect().await?.config().apply_config(request).await;
    let answer = answer.map_err(|status| refused(status, &document))?.into_inner();
    if output.form() != Form::Table {
        return output.object("ApplyConfigResponse", &answer);
    }
    output.text(&summary(&answer, args.check.dry_run))
}

/// Writes routes, upstreams and plans as a document.
pub(super) async fn export(client: &Client, output: &mut Output<'_>) -> Result<(), Error> {
    let request = ExportConfigRequest { environment: client.environment() };
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
    Refusal::from(status).relocate(|field| document.place(field)).into()
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
        None => ("object", ""),
    }
}

/// One change as a unified diff of YAML.
fn unified(change: &ConfigChange, colour: bool) -> Result<String, Error> {
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
    let old = if before.is_empty() { "/dev/null".into() } else { format!("{kind}/{id} (stored)") };
    let diff = TextDiff::from_lines(&before, &after);
    let mut unified = diff.unified_diff();
    let text = unified.header(&old, &format!("{kind}/{id} (document)")).to_string();
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
fn exported(config: &Config, form: Form) -> Result<String, Error> {
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
