//! Rows on their way into a table, as `COPY ... (FORMAT BINARY)` takes them (PostgreSQL manual,
//! COPY, "Binary Format"): encoded once, into one buffer, without a statement to plan for each.

use super::sql::Tx;

/// The signature, no flags, no extension.
const HEADER: &[u8] = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0";
/// In place of the number of a row's columns.
const TRAILER: i16 = -1;
/// In place of the length of a value.
const NULL: i32 = -1;

/// Rows of one table. A row is begun, then each of its columns written in order.
pub(super) struct Rows {
    table: &'static str,
    columns: &'static [&'static str],
    bytes: Vec<u8>,
    rows: usize,
}

impl Rows {
    /// None yet.
    pub(super) fn new(table: &'static str, columns: &'static [&'static str]) -> Self {
        Self { table, columns, bytes: HEADER.to_vec(), rows: 0 }
    }

    pub(super) fn begin(&mut self) {
        self.rows += 1;
        let columns = i16::try_from(self.columns.len()).unwrap_or(i16::MAX);
        self.bytes.extend(columns.to_be_bytes());
    }

    /// What clients sent may hold a NUL, which Postgres keeps in no text.
    pub(super) fn text(&mut self, text: &str) {
        if text.as_bytes().contains(&0) {
            self.value(text.replace('\0', "\u{fffd}").as_bytes());
        } else {
            self.value(text.as_bytes());
        }
    }

    pub(super) fn text_or_null(&mut self, text: Option<&str>) {
        match text {
            Some(text) => self.text(text),
            None => self.bytes.extend(NULL.to_be_bytes()),
        }
    }

    pub(super) fn smallint(&mut self, number: i16) {
        self.value(&number.to_be_bytes());
    }

    pub(super) fn bigint(&mut self, number: i64) {
        self.value(&number.to_be_bytes());
    }

    pub(super) fn double(&mut self, number: f64) {
        self.value(&number.to_be_bytes());
    }

    pub(super) fn boolean(&mut self, truth: bool) {
        self.value(&[u8::from(truth)]);
    }

    pub(super) fn blob(&mut self, bytes: &[u8]) {
        self.value(bytes);
    }

    fn value(&mut self, bytes: &[u8]) {
        // Far below 2 GiB: what is stored came in messages of bounded size.
        let length = i32::try_from(bytes.len()).unwrap_or(i32::MAX);
        self.bytes.extend(length.to_be_bytes());
        self.bytes.extend_from_slice(bytes);
    }

    /// Adds them to the table.
    pub(super) async fn store(mut self, tx: &mut Tx) -> sqlx::Result<()> {
        if self.rows == 0 {
            return Ok(());
        }
        self.bytes.extend(TRAILER.to_be_bytes());
        let columns = self.columns.join(", ");
        let copy = format!("COPY {} ({columns}) FROM STDIN (FORMAT BINARY)", self.table);
        let mut copy = tx.copy_in_raw(&copy).await?;
        copy.send(self.bytes).await?;
        copy.finish().await?;
        Ok(())
    }
}
