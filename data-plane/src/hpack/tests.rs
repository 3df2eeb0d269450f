//! Both sides together, and the examples of the RFC.

use http::StatusCode;
use proptest::prelude::*;

use super::{Broken, Decoder, Encoder, MAX_TABLE, Name, Placed, Shown};
use crate::head::Kind;

const ROOM: usize = 64 * 1024;

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<_> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

/// The fields of a block, as `name: value`.
fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<String>, Broken> {
    let mut fields = Vec::new();
    let mut out = b"before".to_vec();
    let shown = decoder.decode(block, &mut out, ROOM, |out, placed| {
        let text = |part| String::from_utf8_lossy(part).into_owned();
        fields.push(format!("{}: {}", text(placed.name_in(out)), text(placed.value_in(out))));
    })?;
    assert_eq!(shown, Shown::Whole);
    assert!(out.starts_with(b"before"));
    Ok(fields)
}

/// What is in a table, the newest first.
fn table(decoder: &mut Decoder) -> Vec<String> {
    (62..=126).map_while(|index| read(decoder, &[0x80 | index]).ok()).flatten().collect()
}

/// Blocks of one connection: their bytes, their fields, and what is in the table afterwards.
type Example = (&'static str, &'static [&'static str], &'static [&'static str]);

fn check(example: &[Example]) {
    let mut decoder = Decoder::new();
    for (block, fields, entries) in example {
        assert_eq!(read(&mut decoder, &bytes(block)).as_deref(), Ok(&own(fields)[..]), "{block}");
        assert_eq!(table(&mut decoder), *entries, "{block}");
    }
}

fn own(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

const DATE_21: &str = "date: Mon, 21 Oct 2013 20:13:21 GMT";
const DATE_22: &str = "date: Mon, 21 Oct 2013 20:13:22 GMT";
const PRIVATE: &str = "cache-control: private";
const LOCATION: &str = "location: https://www.example.com";
const COOKIE: &str = "set-cookie: foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
const GZIP: &str = "content-encoding: gzip";
const AUTHORITY: &str = ":authority: www.example.com";
const CUSTOM: &str = "custom-key: custom-value";
const NO_CACHE: &str = "cache-control: no-cache";

const REQUESTS: [&[&str]; 3] = [
    &[":method: GET", ":scheme: http", ":path: /", AUTHORITY],
    &[":method: GET", ":scheme: http", ":path: /", AUTHORITY, NO_CACHE],
    &[":method: GET", ":scheme: https", ":path: /index.html", AUTHORITY, CUSTOM],
];

const AFTER_REQUESTS: [&[&str]; 3] =
    [&[AUTHORITY], &[NO_CACHE, AUTHORITY], &[CUSTOM, NO_CACHE, AUTHORITY]];

const RESPONSES: [&[&str]; 3] = [
    &[":status: 302", PRIVATE, DATE_21, LOCATION],
    &[":status: 307", PRIVATE, DATE_21, LOCATION],
    &[":status: 200", PRIVATE, DATE_22, LOCATION, GZIP, COOKIE],
];

/// In 256 bytes.
const AFTER_RESPONSES: [&[&str]; 3] = [
    &[LOCATION, DATE_21, PRIVATE, ":status: 302"],
    &[":status: 307", LOCATION, DATE_21, PRIVATE],
    &[COOKIE, GZIP, DATE_22],
];

#[test]
fn fields_are_read_in_every_form() {
    // RFC 7541 appendix C.2
    let custom = "custom-key: custom-header";
    for (block, field, entries) in [
        ("400a 6375 7374 6f6d 2d6b 6579 0d63 7573 746f 6d2d 6865 6164 6572", custom, 1),
        ("040c 2f73 616d 706c 652f 7061 7468", ":path: /sample/path", 0),
        ("1008 7061 7373 776f 7264 0673 6563 7265 74", "password: secret", 0),
        ("82", ":method: GET", 0),
    ] {
        let mut decoder = Decoder::new();
        assert_eq!(read(&mut decoder, &bytes(block)), Ok(vec![field.to_owned()]));
        assert_eq!(table(&mut decoder).len(), entries, "{block}");
    }
}

#[test]
fn requests_are_read_as_the_rfc_says() {
    // RFC 7541 appendices C.3 and C.4
    for blocks in [
        [
            "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
            "8286 84be 5808 6e6f 2d63 6163 6865",
            "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
        ],
        [
            "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
            "8286 84be 5886 a8eb 1064 9cbf",
            "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
        ],
    ] {
        check(&[0, 1, 2].map(|nth| (blocks[nth], REQUESTS[nth], AFTER_REQUESTS[nth])));
    }
}

#[test]
fn responses_are_read_as_the_rfc_says() {
    // RFC 7541 appendices C.5 and C.6, behind an update of the table's size to 256
    for blocks in [
        [
            "3fe1 01 4803 3330 3258 0770 7269 7661 7465 611d 4d6f 6e2c 2032 3120 4f63 7420 3230
             3133 2032 303a 3133 3a32 3120 474d 546e 1768 7474 7073 3a2f 2f77 7777 2e65 7861 6d70
             6c65 2e63 6f6d",
            "4803 3330 37c1 c0bf",
            "88c1 611d 4d6f 6e2c 2032 3120 4f63 7420 3230 3133 2032 303a 3133 3a32 3220 474d 54c0
             5a04 677a 6970 7738 666f 6f3d 4153 444a 4b48 514b 425a 584f 5157 454f 5049 5541 5851
             5745 4f49 553b 206d 6178 2d61 6765 3d33 3630 303b 2076 6572 7369 6f6e 3d31",
        ],
        [
            "3fe1 01 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0
             82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3",
            "4883 640e ffc1 c0bf",
            "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad
             94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160
             65c0 03ed 4ee5 b106 3d50 07",
        ],
    ] {
        check(&[0, 1, 2].map(|nth| (blocks[nth], RESPONSES[nth], AFTER_RESPONSES[nth])));
    }
}

#[test]
fn what_was_found_out_about_a_field_is_kept_with_it() {
    let (host, other) = (Name::Regular(Kind::Host), Name::Regular(Kind::Other));
    let long = "a long value with a control character near its end \x7f.";
    for (name, value, what, has_sound_name, has_sound_value) in [
        (":method", "GET", Name::Method, true, true),
        (":path", " /", Name::Path, true, false),
        (":Path", "/", Name::OtherPseudo, false, true),
        (":protocol", "websocket", Name::OtherPseudo, true, true),
        (":", "", Name::OtherPseudo, false, true),
        ("::path", "", Name::OtherPseudo, false, true),
        ("", "x", other, false, true),
        ("host", "a", host, true, true),
        ("Host", "a", host, false, true),
        ("x_api_key", "a", Name::Regular(Kind::Twin), true, true),
        ("a b", "", other, false, true),
        ("a:b", "", other, false, true),
        ("a\u{e4}", "", other, false, true),
        ("!#$%&'*+-.^_`|~09az", "", other, true, true),
        ("a", "\u{e4} \t~", other, true, true),
        ("a", "b\t", other, true, false),
        ("a", "b ", other, true, false),
        ("a", "\tb", other, true, false),
        ("a", "b\0b", other, true, false),
        ("a", "b\r\nb", other, true, false),
        ("a", long, other, true, false),
    ] {
        let text = |text: &str| [&[text.len() as u8], text.as_bytes()].concat();
        // As it is, by the table, and by its name in the table with a sound value.
        let block = [&[0x40], &*text(name), &*text(value), &[0xbe, 0x7e, 1, b'v']].concat();
        let mut found = Vec::new();
        let taken = |_: &mut Vec<u8>, placed: Placed| found.push((placed.name, placed.is_sound));
        let read = Decoder::new().decode(&block, &mut Vec::new(), ROOM, taken);
        assert_eq!(read, Ok(Shown::Whole));
        let is_sound = has_sound_name && has_sound_value;
        let expected = [(what, is_sound), (what, is_sound), (what, has_sound_name)];
        assert_eq!(found, expected, "{name:?} {value:?}");
    }
    for byte in 0..=255_u8 {
        let token = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz".contains(&byte);
        let text = byte == b'\t' || !byte.is_ascii_control();
        for (block, is_sound) in
            [([0, 3, b'a', byte, b'a', 0], token), ([0, 1, b'a', 3, b'a', byte], text)]
        {
            let block = [&block[..], if block[1] == 3 { &[] } else { b"a" }].concat();
            let taken = |_: &mut Vec<u8>, placed: Placed| assert_eq!(placed.is_sound, is_sound);
            let read = Decoder::new().decode(&block, &mut Vec::new(), ROOM, taken);
            assert_eq!(read, Ok(Shown::Whole), "{byte}");
        }
    }
}

#[test]
fn what_is_no_header_block_is_refused() {
    for (block, broken) in [
        ("80", Broken::Index),
        ("be", Broken::Index),
        ("7e0161", Broken::Index),
        ("4001610162 bf", Broken::Index),
        ("ff80808008", Broken::Index),
        ("ff8080808000", Broken::Integer),
        ("ffffffffffffffffff7f", Broken::Integer),
        ("007fffffffff0f", Broken::Integer),
        ("ff", Broken::Cut),
        ("ff80", Broken::Cut),
        ("40", Broken::Cut),
        ("41", Broken::Cut),
        ("4003 6161", Broken::Cut),
        ("4001 61", Broken::Cut),
        ("4001 61 02 61", Broken::Cut),
        ("4001 61 82 1f", Broken::Cut),
        ("0f", Broken::Cut),
        ("3f", Broken::Cut),
        // Huffman: padding of eight bits, of zeros, too long, an end within, nothing but an end
        ("41 82 1fff", Broken::Huffman),
        ("41 81 18", Broken::Huffman),
        ("41 81 1e", Broken::Huffman),
        ("41 81 ff", Broken::Huffman),
        ("41 85 1fffffffff", Broken::Huffman),
        ("41 84 fffffffc", Broken::Huffman),
        ("41 84 ffffffff", Broken::Huffman),
        ("41 85 fffffffc1f", Broken::Huffman),
        ("3fe21f", Broken::TableSize),
        ("82 20", Broken::TableSize),
        ("202020", Broken::TableSize),
        ("203fe11f20 82", Broken::TableSize),
        ("20 82 3fe11f", Broken::TableSize),
    ] {
        assert_eq!(read(&mut Decoder::new(), &bytes(block)), Err(broken), "{block}");
        // The same where nothing is shown any more.
        if bytes(block)[0] & 0xe0 != 0x20 {
            let behind = bytes(&format!("84{block}"));
            let unseen = Decoder::new().decode(&behind, &mut Vec::new(), 0, |_, _| {});
            assert_eq!(unseen, Err(broken), "{block}");
        }
    }
    for sound in ["", "20", "203fe11f", "3fe11f 82", "4180", "41811f", "ff808000", "7fe1ff7f00"] {
        let result = read(&mut Decoder::new(), &bytes(sound));
        let is_index = sound.starts_with("ff") || sound.starts_with("7f");
        let expected = if is_index { Some(Broken::Index) } else { None };
        assert_eq!(result.err(), expected, "{sound}");
    }
}

#[test]
fn a_block_without_room_is_followed_and_the_table_stays_right() {
    // a: 1, b: 22 and c: 333 are put in, the first is shown once more
    let block = bytes("4001610131 4001620232 32 40016303333333 c0 82");
    for (max, fields, shown) in [
        (0, 0, Shown::Part),
        (1, 0, Shown::Part),
        (2, 1, Shown::Part),
        (4, 1, Shown::Part),
        (5, 2, Shown::Part),
        (8, 2, Shown::Part),
        (9, 3, Shown::Part),
        (11, 4, Shown::Part),
        (20, 4, Shown::Part),
        (21, 5, Shown::Whole),
    ] {
        // What was cut off counts like what was left.
        for cuts in [false, true] {
            let mut decoder = Decoder::new();
            let (mut out, mut seen) = (b"+".to_vec(), 0);
            let result = decoder.decode(&block, &mut out, max + 1, |out, placed| {
                seen += 1;
                if cuts {
                    out.truncate(placed.start);
                }
            });
            assert_eq!((result, seen), (Ok(shown), fields), "{max}");
            assert!(out.len() <= max + 1);
            assert_eq!(table(&mut decoder), ["c: 333", "b: 22", "a: 1"], "{max}");
        }
    }
}

#[test]
fn little_input_does_not_become_much_work() {
    // A name of 4,000 bytes, then 30,000 times the same with an empty value.
    let name = [&[0x40, 0x7f, 0xa1, 0x1e][..], &[b'n'; 4000], &[0]].concat();
    let again = [&name[..], &[0x7e, 0].repeat(30_000)].concat();
    let result = Decoder::new().decode(&again, &mut Vec::new(), ROOM, |_, _| {});
    assert_eq!(result, Err(Broken::Excess));
    let shown = [&name[..], &[0xbe].repeat(60_000)].concat();
    let (mut out, mut seen) = (Vec::new(), 0);
    let result = Decoder::new().decode(&shown, &mut out, ROOM, |out, placed| {
        seen += 1;
        out.truncate(placed.start);
    });
    assert_eq!((result, seen, out.len()), (Ok(Shown::Part), ROOM / 4000, 0));
}

/// A block of a status, if it is a number, and some lines.
fn write(encoder: &mut Encoder, status: u16, lines: &[(&str, &str)]) -> Vec<u8> {
    let mut out = Vec::new();
    encoder.begin(&mut out);
    if let Ok(status) = StatusCode::from_u16(status) {
        encoder.status(&mut out, status);
    }
    for (name, value) in lines {
        encoder.line(&mut out, name.as_bytes(), value.as_bytes());
    }
    out
}

#[test]
fn lines_are_written_in_full_once_and_by_number_then() {
    let mut encoder = Encoder::new();
    let lines = [
        ("Content-Type", "text/html"),
        ("Date", "now"),
        ("X-Custom", "a"),
        ("X-Request-Id", "1"),
        ("Set-Cookie", "s"),
    ];
    let rest = b"\x00\x0cx-request-id\x011\x1f\x28\x01s";
    let first =
        [&b"\x48\x03201\x5f\x09text/html\x0f\x12\x03now\x40\x08x-custom\x01a"[..], rest].concat();
    assert_eq!(write(&mut encoder, 201, &lines), first);
    let again = [&b"\xc0\xbf\x0f\x12\x03now\xbe"[..], rest].concat();
    assert_eq!(write(&mut encoder, 201, &lines), again);
    // A name in the table, and statuses that are in every table.
    assert_eq!(write(&mut encoder, 200, &[("x-custom", "b")]), b"\x88\x7e\x01b");
    let statuses = [200, 204, 206, 304, 400, 404, 500];
    let written = statuses.map(|status| write(&mut encoder, status, &[]));
    assert_eq!(written, [8, 9, 10, 11, 12, 13, 14].map(|index| vec![0x80 | index]));
    // A number of three bytes; names of any length in lower case.
    let long = "X".repeat(200);
    let block = write(&mut encoder, 0, &[(&long, "")]);
    assert_eq!(block, [b"\x00\x7f\x49", long.to_ascii_lowercase().as_bytes(), b"\x00"].concat());
}

#[test]
fn lines_that_change_or_are_large_do_not_fill_the_table() {
    let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
    let large = "l".repeat(MAX_TABLE / 4);
    for nth in 0..100 {
        let value = nth.to_string();
        let lines = [("server", "s"), ("x-changes", &value), ("etag", &value), ("large", &large)];
        let block = write(&mut encoder, 0, &lines);
        let fields = lines.map(|(name, value)| format!("{name}: {value}"));
        assert_eq!(read(&mut decoder, &block).as_deref(), Ok(&fields[..]));
        assert!(nth == 0 || block.starts_with(&[0xbe + nth.min(4)]), "the server is found");
    }
    let changes = (0..4).rev().map(|nth| format!("x-changes: {nth}"));
    assert_eq!(table(&mut decoder), changes.chain(["server: s".to_owned()]).collect::<Vec<_>>());
}

#[test]
fn table_sizes_are_told_before_the_next_block() {
    let mut encoder = Encoder::new();
    let line = [("vary", "accept")];
    let full = b"\x7b\x06accept";
    for (sizes, begin, line_written) in [
        (&[][..], &b""[..], &full[..]),
        (&[4096, 65536, u32::MAX], b"", b"\xbe"),
        (&[100, 5000], b"\x3f\x45\x3f\xe1\x1f", b"\xbe"),
        (&[0, 4096], b"\x20\x3f\xe1\x1f", full),
        (&[30, 0], b"\x20", b"\x0f\x2c\x06accept"),
        (&[], b"", b"\x0f\x2c\x06accept"),
        (&[4000, 20, 168], b"\x3f\x89\x01", full),
        (&[200, 167, 41], b"\x3f\x0a", b"\x0f\x2c\x06accept"),
        (&[200, 43, 4096], b"\x3f\xe1\x1f", full),
    ] {
        for size in sizes {
            encoder.set_max_size(*size);
        }
        let block = write(&mut encoder, 0, &line);
        assert_eq!(block, [begin, line_written].concat(), "{sizes:?}");
    }
}

fn name() -> impl Strategy<Value = String> {
    let known: &[_] =
        &["content-type", "Vary", "Date", "Set-Cookie", "x-request-id", "X-Custom", ""];
    prop_oneof![
        6 => prop::sample::select(known).prop_map(str::to_owned),
        2 => "[a-cA-C-]{1,3}",
        1 => "[a-zA-Z-]{28,40}",
    ]
}

fn value() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        6 => prop::sample::select(&["text/html", "no-cache", "1", ""][..]).prop_map(Vec::from),
        3 => prop::collection::vec(any::<u8>(), 0..200),
        1 => prop::collection::vec(any::<u8>(), 0..1500),
    ]
}

/// Settings before a block, its status and its lines.
type Block = (Vec<u32>, u16, Vec<(String, Vec<u8>)>);

fn block() -> impl Strategy<Value = Block> {
    let size = prop_oneof![0..200_u32, 0..10_000_u32, any::<u32>()];
    let sizes = prop_oneof![4 => Just(Vec::new()), 1 => prop::collection::vec(size, 1..4)];
    (sizes, 200..600_u16, prop::collection::vec((name(), value()), 0..12))
}

proptest! {
    #[test]
    fn what_was_written_is_read(blocks in prop::collection::vec(block(), 1..10)) {
        let (mut encoder, mut decoder) = (Encoder::new(), Decoder::new());
        for (sizes, status, lines) in blocks {
            for size in sizes {
                encoder.set_max_size(size);
            }
            let mut block = Vec::new();
            encoder.begin(&mut block);
            encoder.status(&mut block, StatusCode::from_u16(status).expect("a status"));
            let mut expected = vec![(b":status".to_vec(), status.to_string().into_bytes())];
            for (name, value) in lines {
                encoder.line(&mut block, name.as_bytes(), &value);
                expected.push((name.to_ascii_lowercase().into_bytes(), value));
            }
            let mut fields = Vec::new();
            let shown = decoder.decode(&block, &mut Vec::new(), 100_000, |out, placed| {
                assert_eq!(Name::of(placed.name_in(out)), placed.name);
                fields.push((placed.name_in(out).to_vec(), placed.value_in(out).to_vec()));
            });
            prop_assert_eq!((shown, fields), (Ok(Shown::Whole), expected));
        }
    }

    #[test]
    fn no_bytes_make_a_decoder_panic_or_write_too_much(
        blocks in prop::collection::vec(
            prop::collection::vec(prop_oneof![any::<u8>(), 0x3d..0x45_u8, 0x80..0xc8_u8, 0..4_u8], 0..60),
            1..6,
        ),
        max in 0..300_usize,
    ) {
        // One that sees all, and one that sees little.
        let (mut one, mut other) = (Decoder::new(), Decoder::new());
        for block in blocks {
            let mut little = b"before".to_vec();
            let (mut all, mut fields, mut some) = (Vec::new(), Vec::new(), Vec::new());
            let whole = one.decode(&block, &mut all, usize::MAX, |out, placed| {
                fields.push(out[placed.start..].to_vec());
            });
            let part = other.decode(&block, &mut little, max, |out, placed| {
                some.push(out[placed.start..].to_vec());
            });
            prop_assert_eq!(whole.err(), part.err());
            if whole.is_err() {
                break;
            }
            prop_assert_eq!(part == Ok(Shown::Whole), little.len() == all.len() + 6);
            prop_assert!(little.len() <= max.max(6));
            prop_assert!(fields.starts_with(&some));
        }
    }
}
