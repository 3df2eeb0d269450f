//! What the docs list is what the programs have: every setting, every metric, and nothing else.

use std::collections::BTreeSet;

use crate::support::{Client, Gate, program, run, run_ok};

#[test]
fn every_setting_is_listed() {
    for name in ["fastgate-control-plane", "fastgate-data-plane", "fgctl"] {
        let help = run_ok(program(name).arg("--help"));
        let mut flags: BTreeSet<_> = help.lines().filter_map(flag).collect();
        flags.retain(|flag| !["--help", "--version"].contains(&flag.as_str()));
        let listed = rows("SETTINGS.md", name);
        let listed_flags = listed.iter().flat_map(|row| words(&row[0]));
        assert_eq!(flags, listed_flags.filter(|word| word.starts_with("--")).collect(), "{name}");
        let listed_variables = listed.iter().flat_map(|row| words(&row[1]));
        assert_eq!(variables(&help), listed_variables.collect(), "{name}");
        if name != "fgctl" {
            let of_file = flags.iter().filter(|flag| *flag != "--config");
            let of_file = of_file.map(|flag| flag[2..].replace('-', "_"));
            assert_eq!(fields_of_file(name), of_file.collect(), "{name}");
        }
    }
}

#[tokio::test]
async fn every_metric_is_listed() {
    let gate = Gate::with_nodes(1).with_node_args(&["--audit-file=/dev/null"]);
    let gate = gate.with_certificates("30d").start().await;
    // A metric with labels is shown once it has counted.
    gate.revisions().await;
    for (server, title) in [(&gate.nodes[0].ops, "Nodes"), (&gate.admin, "Control plane")] {
        let listed = rows("METRICS.md", title).into_iter();
        let listed = listed.map(|row| (words(&row[0]).concat(), row[1].trim().to_owned()));
        assert_eq!(metrics(server).await, listed.collect());
    }
}

/// Name and kind of every metric.
async fn metrics(server: &Client) -> BTreeSet<(String, String)> {
    let text = String::from_utf8(server.get("/metrics").await.body.to_vec()).expect("text");
    let kinds = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    kinds.map(|(name, kind)| (name.to_owned(), kind.to_owned())).collect()
}

/// The flag a line of help begins with.
fn flag(line: &str) -> Option<String> {
    let mut words = line.split_whitespace().take(2);
    words
        .find(|word| word.starts_with("--") || !word.starts_with('-'))
        .filter(|word| word.starts_with("--"))
        .map(str::to_owned)
}

/// The environment variables a help text names.
fn variables(help: &str) -> BTreeSet<String> {
    let names = help.split(|c: char| !c.is_ascii_uppercase() && c != '_');
    let ours = |name: &&str| name.starts_with("FASTGATE_") || name.starts_with("FGCTL_");
    names.filter(ours).map(str::to_owned).collect()
}

/// What a program says may stand in its file.
fn fields_of_file(name: &str) -> BTreeSet<String> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    std::fs::write(file.path(), "no_such_field: 1\n").expect("written");
    let refused = run(program(name).arg("--config").arg(file.path()));
    let said = String::from_utf8(refused.stderr).expect("text");
    let (_, fields) = said.split_once(": use one of ").expect("names the fields");
    fields.trim().split(", ").map(str::to_owned).collect()
}

/// The rows of the table below a title, without its head.
fn rows(page: &str, title: &str) -> Vec<Vec<String>> {
    let path = format!("{}/deploy/docs/{page}", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(path).expect(page);
    let (_, below) = text.split_once(&format!("\n## {title}\n")).expect(title);
    let table = below.lines().skip_while(|line| !line.starts_with('|'));
    let rows = table.take_while(|line| line.starts_with('|')).skip(2);
    rows.map(|row| row.split('|').skip(1).map(str::to_owned).collect()).collect()
}

/// What stands in backticks in a cell.
fn words(cell: &str) -> Vec<String> {
    cell.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}
