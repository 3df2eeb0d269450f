//! Rows on their way into a table, inserted by as few statements as SQLite's parameters allow.

use super::{Db, sql::Tx};

/// Parameters SQLite takes in one statement.
const PARAMETERS: usize = 32_766;

/// Rows of one table. A row is begun, then each of its columns written in order.
pub(super) struct Rows {
    table: &'static str,
    columns: &'static [&'static str],
    values: Vec<Value>,
}

enum Value {
    Null,
    Text(String),
    Integer(i64),
    Real(f64),
    Blob(Vec<u8>),
}

impl Rows {
    /// None yet.
    pub(super) fn new(table: &'static str, columns: &'static [&'static str]) -> Self {
        Self { table, columns, values: Vec::new() }
    }

    #[allow(clippy::unused_self, reason = "the other database writes how long the row is")]
    pub(super) fn begin(&mut self) {}

    /// Without a NUL, as the other database keeps it.
    pub(super) fn text(&mut self, text: &str) {
        self.values.push(Value::Text(text.replace('\0', "\u{fffd}")));
    }

    pub(super) fn text_or_null(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.values.push(Value::Null),
        }
    }

    pub(super) fn smallint(&mut self, number: i16) {
        self.values.push(Value::Integer(number.into()));
    }

    pub(super) fn bigint(&mut self, number: i64) {
        self.values.push(Value::Integer(number));
    }

    pub(super) fn double(&mut self, number: f64) {
        self.values.push(Value::Real(number));
    }

    pub(super) fn boolean(&mut self, truth: bool) {
        self.values.push(Value::Integer(truth.into()));
    }

    pub(super) fn blob(&mut self, bytes: &[u8]) {
        self.values.push(Value::Blob(bytes.to_vec()));
    }

    /// Adds them to the table.
    pub(super) async fn store(self, tx: &mut Tx) -> sqlx::Result<()> {
        let width = self.columns.len();
        let at_once = PARAMETERS / width * width;
        for values in self.values.chunks(at_once) {
            let mut insert = sqlx::QueryBuilder::<Db>::new("INSERT INTO ");
            insert.push(self.table).push(" (").push(self.columns.join(", ")).push(") ");
            insert.push_values(values.chunks(width), |mut row, values| {
                for value in values {
                    match value {
                        Value::Null => row.push_bind(None::<i64>),
                        Value::Text(text) => row.push_bind(text.as_str()),
                        Value::Integer(number) => row.push_bind(*number),
                        Value::Real(number) => row.push_bind(*number),
                        Value::Blob(bytes) => row.push_bind(bytes.as_slice()),
                    };
                }
            });
            insert.build().execute(&mut **tx).await?;
        }
        Ok(())
    }
}
