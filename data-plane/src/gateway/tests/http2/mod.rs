//! HTTP/2 as clients speak it, well or badly: by frames where it is about frames, by hyper's client
//! where it is about requests.
//!
//! Each row of a table begins with the section of RFC 9113 it is about. Where that leaves a choice,
//! the row takes every right reaction. A table tells of all rows that fail at once.

mod answers;
mod attacks;
mod bodies;
mod client;
mod cost;
mod frames;
mod headers;
mod streams;

/// The stream of the request that tells whether a connection goes on: above those of all rows.
const AFTER: u32 = 99;

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "{} rows fail:\n{}", wrong.len(), wrong.join("\n"));
}
