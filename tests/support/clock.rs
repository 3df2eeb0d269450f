//! Clocks that are wrong.

use std::{fs, path::PathBuf};

/// What gives a program a wall clock that is so many hours off. Its monotonic clock stays as it is:
/// that is what a clock that was set wrong looks like.
pub(crate) fn off_by(hours: i32) -> Vec<(&'static str, String)> {
    if hours == 0 {
        return Vec::new();
    }
    vec![
        ("LD_PRELOAD", library().display().to_string()),
        ("FAKETIME", format!("{hours:+}h")),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ]
}

/// The one for programs of many threads, as Debian installs it.
fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders
        .map(|folder| folder.path().join("faketime/libfaketimeMT.so.1"))
        .find(|library| library.exists())
        .expect("faketime is not installed: apt-get install faketime")
}
