//! `fgctl context`: needs no control plane.

use std::path::PathBuf;

use serde::Serialize;

use crate::{
    Outcome,
    cli::{ContextCommand, Form, Global},
    context::{Context, Contexts, Surroundings},
    endpoint::endpoint,
    error::Error,
    output::{Output, Rows},
};

/// A context as JSON and YAML show it.
#[derive(Serialize)]
struct Shown<'a> {
    name: &'a str,
    in_use: bool,
    #[serde(flatten)]
    context: &'a Context,
}

pub(super) fn run(
    command: ContextCommand,
    global: &Global,
    around: &Surroundings,
    output: &mut Output<'_>,
) -> Result<Outcome, Error> {
    let mut contexts = Contexts::load(around)?;
    let done = match command {
        ContextCommand::List => {
            list(&contexts, output)?;
            return Ok(Outcome::Done);
        }
        ContextCommand::Set { name } => {
            contexts.set(&name, given(global)?)?;
            format!("context {name} is set")
        }
        ContextCommand::Use { name } => {
            contexts.take_into_use(&name)?;
            format!("context {name} is in use")
        }
        ContextCommand::Delete { name } => {
            contexts.delete(&name)?;
            format!("context {name} is deleted")
        }
    };
    contexts.store(around)?;
    output.remark(&done)?;
    Ok(Outcome::Done)
}

/// The context the options describe, if its address is one. Its files must be found from any folder later on.
fn given(global: &Global) -> Result<Context, Error> {
    let absolute = |file: &std::path::PathBuf| {
        std::path::absolute(file).map_err(|source| Error::File {
            action: "find",
            path: file.clone(),
            source,
        })
    };
    if let Some(addr) = &global.addr {
        endpoint(addr, global.ca_file.as_deref())?;
    }
    Ok(Context {
        addr: global.addr.clone(),
        token_file: global.token_file.as_ref().map(absolute).transpose()?,
        ca_file: global.ca_file.as_ref().map(absolute).transpose()?,
        environment: global.environment.clone(),
    })
}

fn list(contexts: &Contexts, output: &mut Output<'_>) -> Result<(), Error> {
    if output.form() != Form::Table {
        let shown: Vec<_> = contexts
            .iter()
            .map(|(name, context, in_use)| Shown { name, in_use, context })
            .collect();
        return output.value(&serde_json::json!({ "contexts": shown }));
    }
    let shown = |file: &Option<PathBuf>| {
        file.as_ref().map(|file| file.display().to_string()).unwrap_or_default()
    };
    let row = |(name, context, in_use): (&str, &Context, bool)| {
        vec![
            if in_use { "*" } else { "" }.into(),
            name.into(),
            context.addr.clone().unwrap_or_default(),
            context.environment.clone().unwrap_or_default(),
            shown(&context.token_file),
            shown(&context.ca_file),
        ]
    };
    output.rows(Rows {
        noun: "contexts",
        header: &["", "NAME", "ADDRESS", "ENVIRONMENT", "TOKEN FILE", "CA FILE"],
        rows: contexts.iter().map(row).collect(),
        more: false,
    })
}
