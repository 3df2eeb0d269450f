//! What a collector wants to be told with every call, such as a token: a file of `name: value` lines.

use std::{fs, io, path::Path};

use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataMap};

/// Bytes of such a file.
const SIZE: u64 = 64 << 10;

/// Says what is wrong with such a file, and nothing of its values.
pub(crate) fn check_headers(path: &Path) -> Result<(), String> {
    read(path).map(drop).map_err(|fault| format!("{}: {fault}", path.display()))
}

/// Reads such a file. Its values are never printed.
///
/// # Errors
/// What is wrong with it, by line.
pub(super) fn read(path: &Path) -> io::Result<MetadataMap> {
    if fs::metadata(path)?.len() > SIZE {
        return Err(io::Error::other(
            "give lines such as 'authorization: Bearer ...', few of them",
        ));
    }
    let text = fs::read_to_string(path)?;
    let mut headers = MetadataMap::new();
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    for (at, line) in lines {
        let (name, value) = parse(line).ok_or_else(|| {
            let mend = "give a name and a value, such as 'authorization: Bearer ...'";
            io::Error::other(format!("line {} is no header: {mend}", at + 1))
        })?;
        headers.append(name, value);
    }
    if headers.is_empty() {
        return Err(io::Error::other("is empty: give lines such as 'authorization: Bearer ...'"));
    }
    Ok(headers)
}

fn parse(line: &str) -> Option<(AsciiMetadataKey, AsciiMetadataValue)> {
    let (name, value) = line.split_once(':')?;
    let name = name.trim().to_ascii_lowercase();
    // Those are the protocol's own.
    let is_reserved = name.starts_with("grpc-") || ["te", "content-type"].contains(&&*name);
    let mut value: AsciiMetadataValue = value.trim().parse().ok()?;
    value.set_sensitive(true);
    let is_given = !is_reserved && !value.is_empty();
    AsciiMetadataKey::from_bytes(name.as_bytes())
        .ok()
        .filter(|_| is_given)
        .map(|name| (name, value))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> io::Result<MetadataMap> {
        let file = tempfile::NamedTempFile::new().expect("a file");
        fs::write(file.path(), text).expect("written");
        read(file.path())
    }

    #[test]
    fn headers_are_lines_of_name_and_value() {
        let headers =
            of("Authorization: Bearer a:b \n\nx-team:one\r\nx-team: two\n").expect("sound");
        assert_eq!(headers.get("authorization").expect("given"), "Bearer a:b");
        let teams: Vec<_> = headers.get_all("x-team").iter().collect();
        assert_eq!(teams, ["one", "two"]);
        assert!(!format!("{headers:?}").contains("Bearer"), "{headers:?}");
    }

    #[test]
    fn what_is_no_header_is_told_by_its_line_and_not_repeated() {
        for (text, told) in [
            ("", "is empty"),
            ("\n \n", "is empty"),
            ("x-a: 1\nhidden", "line 2 is no header"),
            ("hidden:", "line 1 is no header"),
            (": hidden", "line 1 is no header"),
            ("a name: hidden", "line 1 is no header"),
            ("x-a: hid\u{7}den", "line 1 is no header"),
            ("x-bin: hidden", "line 1 is no header"),
            ("grpc-timeout: hidden", "line 1 is no header"),
        ] {
            let fault = of(text).expect_err(text).to_string();
            assert!(fault.starts_with(told) && !fault.contains("hidden"), "{text}: {fault}");
        }
    }
}
