//! Header blocks for benchmarks: one that came before is read, and an answer's is written.

#![allow(clippy::expect_used, reason = "a benchmark of what fails would measure nothing")]

use http::StatusCode;

use super::{Decoder, Encoder, Shown};

/// Lines of an answer, the last three of which say something new each time.
const ANSWER: [(&[u8], &[u8]); 6] = [
    (b"content-type", b"application/json"),
    (b"server", b"upstream/1.0"),
    (b"ratelimit-policy", b"\"key\";q=1000000000;w=60"),
    (b"ratelimit", b"\"key\";r=999999999;t=1"),
    (b"x-request-id", b"0192f1c8-7f3e-7cc1-a2b3-94d0f6c1e5a7"),
    (b"date", b"Tue, 15 Nov 1994 08:12:31 GMT"),
];

/// Both sides of a connection on which this is not the first request.
pub struct HeaderBlocks {
    decoder: Decoder,
    encoder: Encoder,
    block: Vec<u8>,
    bytes: Vec<u8>,
    out: Vec<u8>,
}

impl HeaderBlocks {
    /// A request with the lines of this head, whose first line says what is asked for.
    #[must_use]
    pub fn of(head: &str) -> Self {
        let (first, lines) = head.trim_end().split_once("\r\n").expect("several lines");
        let mut words = first.split(' ');
        let (method, path) = (words.next().expect("a method"), words.next().expect("a path"));
        let pseudo = [(":method", method), (":scheme", "http"), (":path", path)];
        let lines = lines.lines().filter_map(|line| line.split_once(": "));
        let fields: Vec<_> = pseudo.into_iter().chain(lines).collect();
        let (mut client, mut decoder, mut block) = (Encoder::new(), Decoder::new(), Vec::new());
        for _ in 0..2 {
            block.clear();
            client.begin(&mut block);
            for (name, value) in &fields {
                client.line(&mut block, name.as_bytes(), value.as_bytes());
            }
            let decoded = decoder.decode(&block, &mut Vec::new(), usize::MAX, |_, _| {});
            assert_eq!(decoded, Ok(Shown::Whole));
        }
        let (bytes, out) = (Vec::with_capacity(8192), Vec::with_capacity(8192));
        Self { decoder, encoder: Encoder::new(), block, bytes, out }
    }

    /// Reads the block, and writes that of the answer. The length of both.
    pub fn run(&mut self) -> usize {
        let Self { decoder, encoder, block, bytes, out } = self;
        bytes.clear();
        out.clear();
        let mut fields = 0;
        let decoded = decoder.decode(block, bytes, usize::MAX, |_, field| {
            fields += usize::from(field.is_sound);
        });
        assert_eq!(decoded, Ok(Shown::Whole));
        encoder.begin(out);
        encoder.status(out, StatusCode::OK);
        ANSWER.iter().for_each(|(name, value)| encoder.line(out, name, value));
        fields + bytes.len() + out.len()
    }
}
