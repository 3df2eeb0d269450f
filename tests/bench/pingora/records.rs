//! One line of JSON for each request, appended to a file in blocks.

use std::{
    fs::{File, OpenOptions},
    io::{self, Write as _},
    net::IpAddr,
    path::Path,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, SystemTime},
};

use chrono::DateTime;

/// As much is written at once.
const BLOCK: usize = 64 * 1024;
/// What is left is written after this time.
const FLUSH: Duration = Duration::from_secs(1);

/// What is recorded of a request.
pub(crate) struct Record<'a> {
    pub(crate) timestamp: SystemTime,
    pub(crate) request_id: &'a str,
    pub(crate) source_path: &'a str,
    pub(crate) method: &'a str,
    pub(crate) path: &'a str,
    pub(crate) target_url: &'a str,
    pub(crate) status_code: u16,
    pub(crate) response_time: Duration,
    pub(crate) request_size: usize,
    pub(crate) response_size: usize,
    pub(crate) user_agent: &'a str,
    pub(crate) ip_address: Option<IpAddr>,
    pub(crate) route_id: &'a str,
    pub(crate) upstream_time: Duration,
    pub(crate) ttfb: Duration,
    pub(crate) attempts: u32,
    pub(crate) error: &'a str,
    pub(crate) is_limited: bool,
}

/// The file, shared by the workers and the thread that writes what is left.
pub(crate) struct Records {
    log: Arc<Mutex<Log>>,
}

struct Log {
    file: File,
    block: Vec<u8>,
    /// The second of the last record, and how it is written.
    second: u64,
    stamp: String,
}

impl Records {
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        let block = Vec::with_capacity(BLOCK + BLOCK / 8);
        let log = Arc::new(Mutex::new(Log { file, block, second: 0, stamp: String::new() }));
        let shared = Arc::clone(&log);
        thread::spawn(move || {
            loop {
                thread::sleep(FLUSH);
                lock(&shared).flush();
            }
        });
        Ok(Self { log })
    }

    pub(crate) fn write(&self, record: &Record<'_>) {
        lock(&self.log).append(record);
    }
}

fn lock(log: &Mutex<Log>) -> MutexGuard<'_, Log> {
    log.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Log {
    fn append(&mut self, record: &Record<'_>) {
        let since = record.timestamp.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        if self.second != since.as_secs() {
            self.second = since.as_secs();
            let day = DateTime::from_timestamp(self.second.cast_signed(), 0).unwrap_or_default();
            self.stamp = day.format("%Y-%m-%dT%H:%M:%S").to_string();
        }
        let mut line = Line { text: &mut self.block };
        line.raw("{\"timestamp\":\"").raw(&self.stamp);
        line.raw(".").digits(since.subsec_millis()).raw("Z");
        line.raw("\",\"request_id\":\"").raw(record.request_id);
        line.raw("\",\"key_id\":\"").escaped(record.source_path);
        line.raw("\",\"source_path\":\"").escaped(record.source_path);
        line.raw("\",\"method\":\"").raw(record.method);
        line.raw("\",\"path\":\"").escaped(record.path);
        line.raw("\",\"target_url\":\"").raw(record.target_url);
        line.raw("\",\"status_code\":").number(record.status_code);
        line.raw(",\"response_time_ms\":").milliseconds(record.response_time);
        line.raw(",\"request_size\":").number(record.request_size);
        line.raw(",\"response_size\":").number(record.response_size);
        line.raw(",\"user_agent\":\"").escaped(record.user_agent);
        line.raw("\",\"ip_address\":\"").address(record.ip_address);
        line.raw("\",\"environment\":\"default\",\"node_id\":\"node-1\",\"route_id\":\"");
        line.raw(record.route_id);
        line.raw("\",\"upstream_time_ms\":").milliseconds(record.upstream_time);
        line.raw(",\"ttfb_ms\":").milliseconds(record.ttfb);
        line.raw(",\"attempts\":").number(record.attempts);
        line.raw(",\"error\":\"").raw(record.error);
        line.raw("\",\"rate_limited\":").raw(if record.is_limited { "true" } else { "false" });
        line.raw(",\"secret_version\":1}\n");
        if self.block.len() >= BLOCK {
            self.flush();
        }
    }

    fn flush(&mut self) {
        if let Err(fault) = self.file.write_all(&self.block) {
            eprintln!("records are lost: {fault}");
        }
        self.block.clear();
    }
}

/// A record while it is written.
struct Line<'a> {
    text: &'a mut Vec<u8>,
}

impl Line<'_> {
    fn raw(&mut self, text: &str) -> &mut Self {
        self.text.extend_from_slice(text.as_bytes());
        self
    }

    /// What a client may have put anything into.
    fn escaped(&mut self, text: &str) -> &mut Self {
        let is_plain = |byte: u8| byte >= b' ' && byte != b'"' && byte != b'\\';
        // All bytes, not those up to the first that is not: several at a time.
        if text.bytes().fold(true, |all, byte| all & is_plain(byte)) {
            return self.raw(text);
        }
        for byte in text.bytes() {
            if is_plain(byte) {
                self.text.push(byte);
            } else {
                let _ = write!(self.text, "\\u{byte:04x}");
            }
        }
        self
    }

    fn number(&mut self, number: impl itoa::Integer) -> &mut Self {
        self.raw(itoa::Buffer::new().format(number))
    }

    /// Three of them.
    fn digits(&mut self, thousandths: u32) -> &mut Self {
        let digit = |value: u32| b'0' + u8::try_from(value % 10).unwrap_or_default();
        let digits = [digit(thousandths / 100), digit(thousandths / 10), digit(thousandths)];
        self.text.extend_from_slice(&digits);
        self
    }

    fn milliseconds(&mut self, time: Duration) -> &mut Self {
        self.number(time.as_millis()).raw(".").digits(time.subsec_micros() % 1000)
    }

    fn address(&mut self, address: Option<IpAddr>) -> &mut Self {
        match address {
            Some(IpAddr::V4(address)) => {
                let [a, b, c, d] = address.octets();
                self.number(a).raw(".").number(b).raw(".").number(c).raw(".").number(d)
            }
            Some(address) => self.raw(&address.to_string()),
            None => self,
        }
    }
}
