//! The same script over gRPC and over REST must read the same, and as it did before.

use std::{collections::HashMap, fmt::Write as _};

use http::Method;
use serde_json::{Value as Json, json};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::{
    plane::{Answer, Plane},
    script::{self, Step},
};

macro_rules! golden {
    ($($name:ident: $script:expr;)*) => {$(
        #[tokio::test]
        async fn $name() {
            let over_grpc = transcript($script, Way::Grpc).await;
            let over_rest = transcript($script, Way::Rest).await;
            pretty_assert(&over_grpc, &over_rest);
            insta::assert_snapshot!(over_grpc);
        }
    )*};
}

golden! {
    keys_read_the_same_both_ways: script::keys();
    routes_read_the_same_both_ways: script::routes();
    plans_read_the_same_both_ways: script::plans();
    config_reads_the_same_both_ways: script::config();
    rollouts_read_the_same_both_ways: script::rollouts();
    environments_read_the_same_both_ways: script::environments();
    logs_and_access_read_the_same_both_ways: script::logs_and_access();
}

#[derive(Clone, Copy)]
enum Way {
    Grpc,
    Rest,
}

/// Plays a script on a new control plane and writes down what came back.
async fn transcript(script: Vec<Step>, way: Way) -> String {
    let plane = Plane::start().await;
    let mut names = Names::default();
    let mut out = String::new();
    for step in script {
        let (verb, path) = (step.verb.clone(), names.fill(step.path));
        let answer = match way {
            Way::Rest => {
                let body = match &step.body {
                    Json::Null => String::new(),
                    body => names.fill(&body.to_string()),
                };
                from_rest(&step.verb, &plane.rest(verb, &path, body).await)
            }
            Way::Grpc => {
                let request = names.fill(&step.request.to_string());
                let request = serde_json::from_str(&request).expect("json");
                plane.grpc(step.rpc, &request).await.unwrap_or_else(|status| from_status(&status))
            }
        };
        let mut answer = without_nulls(answer);
        names.replace("", &mut answer);
        let shown = serde_json::to_string_pretty(&answer).expect("json");
        writeln!(out, "# {}\n{} {} = {}\n{shown}\n", step.what, step.verb, step.path, step.rpc)
            .expect("written");
    }
    out
}

fn from_status(status: &Status) -> Json {
    let details = status.get_error_details();
    let info = details.error_info().expect("an error info");
    let fields = details.bad_request().map(|bad| bad.field_violations.as_slice());
    let fields = fields.unwrap_or_default().iter().map(|v| json!([v.field, v.description]));
    json!({
        "REFUSED": http_of(status.code()),
        "reason": info.reason,
        "message": status.message(),
        "fields": fields.collect::<Vec<_>>(),
    })
}

fn from_rest(verb: &Method, answer: &Answer) -> Json {
    let body = answer.json();
    if answer.status < 400 {
        let is_empty = answer.body.is_empty();
        assert_eq!(answer.status == 204, is_empty, "{verb}: only 204 has no body");
        return if is_empty { json!({}) } else { body };
    }
    assert_eq!(answer.headers["content-type"], "application/problem+json");
    assert_eq!(body["status"], answer.status);
    let errors = body["errors"].as_array().cloned().unwrap_or_default();
    let fields: Vec<_> = errors.iter().map(|e| json!([e["field"], e["detail"]])).collect();
    json!({
        "REFUSED": answer.status,
        "reason": body["reason"],
        "message": body["detail"],
        "fields": fields,
    })
}

/// What REST must answer where gRPC answers with this code.
fn http_of(code: Code) -> u16 {
    match code {
        Code::InvalidArgument => 400,
        Code::NotFound => 404,
        Code::AlreadyExists | Code::Aborted | Code::FailedPrecondition => 409,
        other => panic!("the script does not expect {other:?}"),
    }
}

/// gRPC has no null, and a secret that is not shown is empty there.
fn without_nulls(json: Json) -> Json {
    match json {
        Json::Object(object) => object
            .into_iter()
            .filter(|(name, value)| !(value.is_null() || is_rarely_shown(name) && value == ""))
            .map(|(name, value)| (name, without_nulls(value)))
            .collect(),
        Json::Array(items) => items.into_iter().map(without_nulls).collect(),
        other => other,
    }
}

/// Whether REST leaves it out where it is empty.
fn is_rarely_shown(name: &str) -> bool {
    name.ends_with("_value") || name == "hash"
}

/// Stands in for what differs from run to run.
#[derive(Default)]
struct Names {
    by_value: HashMap<String, String>,
    counts: HashMap<&'static str, usize>,
}

impl Names {
    /// Puts real values where a step names them.
    fn fill(&self, text: &str) -> String {
        self.by_value.iter().fold(text.to_owned(), |text, (value, name)| {
            text.replace(&format!("{{{name}}}"), value)
        })
    }

    /// Puts names where an answer holds values of this run.
    fn replace(&mut self, field: &str, json: &mut Json) {
        match json {
            Json::Object(object) => {
                object.iter_mut().for_each(|(field, value)| self.replace(field, value));
            }
            Json::Array(items) => items.iter_mut().for_each(|item| self.replace(field, item)),
            Json::String(text) => {
                if let Some(name) = self.name(field, text) {
                    *text = name;
                } else {
                    // Ids stand in texts too; an etag is too short to be looked for.
                    for (value, name) in self.by_value.iter().filter(|(v, _)| v.len() > 32) {
                        *text = text.replace(value, name);
                    }
                }
            }
            _ => {}
        }
    }

    fn name(&mut self, field: &str, text: &str) -> Option<String> {
        if field.ends_with("_at") || field == "timestamp" {
            return Some(if text.starts_with("2999") { text.into() } else { "TIME".into() });
        }
        if field.ends_with("_value") {
            let is_secret = text.len() > 40 && text.starts_with("fg");
            return Some(if is_secret { "SECRET".into() } else { text.into() });
        }
        let kind = match field {
            "etag" if !text.is_empty() => "etag",
            "next_page_token" if !text.is_empty() => "page",
            _ => ["key", "rt", "tok"].into_iter().find(|kind| {
                let id = text.strip_prefix(kind).and_then(|rest| rest.strip_prefix('-'));
                id.is_some_and(|id| id.len() == 32 && id.bytes().all(|b| b.is_ascii_hexdigit()))
            })?,
        };
        if let Some(name) = self.by_value.get(text) {
            return Some(name.clone());
        }
        let count = self.counts.entry(kind).or_default();
        *count += 1;
        let name = format!("{kind}-{count}");
        self.by_value.insert(text.to_owned(), name.clone());
        Some(name)
    }
}

/// Shows where two transcripts part, not both whole.
fn pretty_assert(grpc: &str, rest: &str) {
    let differs = grpc.lines().zip(rest.lines()).position(|(one, other)| one != other);
    if let Some(line) = differs {
        let near = |text: &str| {
            text.lines().skip(line.saturating_sub(12)).take(20).collect::<Vec<_>>().join("\n")
        };
        panic!("gRPC and REST differ at line {line}\n{}\n--- REST\n{}", near(grpc), near(rest));
    }
    assert_eq!(grpc.len(), rest.len());
}
