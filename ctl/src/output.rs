//! Where answers go: tables for people, JSON and YAML for programs. Remarks go to the error
//! stream, so that the output can be piped on.

use std::io::{self, IsTerminal as _, Write};

use comfy_table::{CellAlignment, ContentArrangement, Table, TableStyle};
use fastgate_control_plane::sorted_pairs;
use prost::Message;
use prost_reflect::{DynamicMessage, ReflectMessage as _, Value};

use crate::{
    cli::{DryRun, Form},
    error::{Error, shown},
    schema::{self, Written},
};

/// Shows answers in one form.
pub(crate) struct Output<'a> {
    form: Form,
    out: &'a mut dyn Write,
    err: &'a mut dyn Write,
    colour: bool,
}

/// A list as a table.
pub(crate) struct Rows {
    /// What an empty list is called, such as `keys`.
    pub(crate) noun: &'static str,
    /// The names of the columns.
    pub(crate) header: &'static [&'static str],
    /// A cell for each column.
    pub(crate) rows: Vec<Vec<String>>,
    /// Whether there is more than was asked for.
    pub(crate) more: bool,
}

impl<'a> Output<'a> {
    /// Writes answers in `form` to `out`, remarks to `err`.
    pub(crate) fn new(form: Form, out: &'a mut dyn Write, err: &'a mut dyn Write) -> Self {
        let colour = io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none();
        Self { form, out, err, colour }
    }

    /// The form asked for.
    pub(crate) fn form(&self) -> Form {
        self.form
    }

    /// Whether colours are wanted.
    pub(crate) fn colour(&self) -> bool {
        self.colour
    }

    /// Shows a list: `message` is the answer, `rows` what a table shows of it.
    pub(crate) fn list<M: Message>(
        &mut self,
        name: &str,
        message: &M,
        rows: Rows,
    ) -> Result<(), Error> {
        if rows.rows.is_empty() {
            self.remark(&format!("no {}", rows.noun))?;
        }
        match self.form {
            Form::Table if rows.rows.is_empty() => {}
            Form::Table => self.table(&table(rows.header, rows.rows))?,
            Form::Json | Form::Yaml => self.written(name, message)?,
        }
        if rows.more {
            self.remark(&format!("there are more {}: raise --limit", rows.noun))?;
        }
        Ok(())
    }

    /// Shows a list that is no answer of the control plane, as a table.
    pub(crate) fn rows(&mut self, rows: Rows) -> Result<(), Error> {
        if rows.rows.is_empty() {
            return self.remark(&format!("no {}", rows.noun));
        }
        self.table(&table(rows.header, rows.rows))
    }

    /// Shows what is no answer of the control plane, as JSON or YAML.
    pub(crate) fn value(&mut self, value: &serde_json::Value) -> Result<(), Error> {
        let text = match self.form {
            Form::Json => schema::to_json(value)?,
            Form::Table | Form::Yaml => schema::to_yaml(value)?,
        };
        self.text(&text)
    }

    /// Shows one object.
    pub(crate) fn object<M: Message>(&mut self, name: &str, message: &M) -> Result<(), Error> {
        if self.form != Form::Table {
            return self.written(name, message);
        }
        let mut rows = Vec::new();
        flatten(&schema::open(name, message)?, "", &mut rows);
        let table = table(&[], rows);
        self.table(&table)
    }

    /// Shows one object of many that come one after the other: JSON on a line, or a document of YAML.
    pub(crate) fn line<M: Message>(&mut self, name: &str, message: &M) -> Result<(), Error> {
        let open = schema::open(name, message)?;
        let written = Written::Whole(&open);
        let text = match self.form {
            Form::Yaml => format!("---\n{}", written.to_yaml()?),
            Form::Table | Form::Json => written.to_json_line()?,
        };
        self.text(&text)
    }

    /// Says that an object is gone, or could go.
    pub(crate) fn deleted(&mut self, kind: &str, id: &str, check: DryRun) -> Result<(), Error> {
        let what = if check.dry_run { "can be deleted" } else { "is deleted" };
        self.remark(&format!("{kind} {id} {what}"))
    }

    /// Writes text as it is.
    pub(crate) fn text(&mut self, text: &str) -> Result<(), Error> {
        self.bytes(text.as_bytes())
    }

    /// Writes a part of a file as it is.
    pub(crate) fn bytes(&mut self, bytes: &[u8]) -> Result<(), Error> {
        Ok(self.out.write_all(bytes)?)
    }

    /// Says something that is no part of the answer.
    pub(crate) fn remark(&mut self, text: &str) -> Result<(), Error> {
        Ok(writeln!(self.err, "{text}")?)
    }

    /// Sees to it that everything is written.
    pub(crate) fn flush(&mut self) -> Result<(), Error> {
        Ok(self.out.flush()?)
    }

    fn written<M: Message>(&mut self, name: &str, message: &M) -> Result<(), Error> {
        let open = schema::open(name, message)?;
        let written = Written::Whole(&open);
        let text = if self.form == Form::Json { written.to_json()? } else { written.to_yaml()? };
        self.text(&text)
    }

    fn table(&mut self, table: &Table) -> Result<(), Error> {
        for line in table.lines() {
            writeln!(self.out, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// When something happened, to the second; empty for never.
pub(crate) fn time(time: Option<&prost_types::Timestamp>) -> String {
    time.and_then(fastgate::time::Written::new).map(|time| format!("{time:.0}")).unwrap_or_default()
}

/// When something happened, to the millisecond; empty for never.
pub(crate) fn time_ms(time: Option<&prost_types::Timestamp>) -> String {
    time.and_then(fastgate::time::Written::new).map(|time| format!("{time:.3}")).unwrap_or_default()
}

fn table(header: &[&str], rows: Vec<Vec<String>>) -> Table {
    let mut table = Table::new();
    table.load_style(TableStyle::new()).set_content_arrangement(ContentArrangement::Disabled);
    if !header.is_empty() {
        table.set_header(header.iter().copied());
    }
    for row in rows {
        table.add_row(row.iter().map(|cell| shown(cell)));
    }
    for column in table.column_iter_mut() {
        column.set_padding((0, 2)).set_cell_alignment(CellAlignment::Left);
    }
    table
}

/// The fields that are set, a row each: `targets[0].url`, its value.
fn flatten(message: &DynamicMessage, path: &str, rows: &mut Vec<Vec<String>>) {
    for (field, value) in message.fields() {
        let path = if path.is_empty() {
            field.name().to_owned()
        } else {
            format!("{path}.{}", field.name())
        };
        flatten_value(value, path, rows);
    }
}

fn flatten_value(value: &Value, path: String, rows: &mut Vec<Vec<String>>) {
    let text = match value {
        Value::Message(message) => match as_time(message) {
            Some(time) => time,
            None => return flatten(message, &path, rows),
        },
        Value::List(items) if items.iter().any(|item| matches!(item, Value::Message(_))) => {
            for (at, item) in items.iter().enumerate() {
                flatten_value(item, format!("{path}[{at}]"), rows);
            }
            return;
        }
        Value::Map(pairs) => {
            for (name, value) in sorted_pairs(pairs) {
                flatten_value(value, format!("{path}.{name}"), rows);
            }
            return;
        }
        Value::List(items) => items.iter().map(scalar).collect::<Vec<_>>().join(", "),
        value => scalar(value),
    };
    rows.push(vec![path, text]);
}

fn as_time(message: &DynamicMessage) -> Option<String> {
    if message.descriptor().full_name() != schema::TIMESTAMP {
        return None;
    }
    message.transcode_to().ok().map(|at: prost_types::Timestamp| time(Some(&at)))
}

fn scalar(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Bool(yes) => yes.to_string(),
        Value::I32(number) => number.to_string(),
        Value::I64(number) => number.to_string(),
        Value::U32(number) => number.to_string(),
        Value::U64(number) => number.to_string(),
        Value::F32(number) => number.to_string(),
        Value::F64(number) => number.to_string(),
        other => other.to_string(),
    }
}
