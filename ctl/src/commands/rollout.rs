//! `fgctl rollout`.

use fastgate::admin::v1::{
    GetRolloutRequest, PauseRolloutRequest, ResumeRolloutRequest, RingStatus, Rollout,
    UndoRolloutRequest, rollout::State,
};

use crate::{
    cli::{Form, RolloutCommand},
    client::Client,
    error::Error,
    output::{Output, Rows, time},
};

pub(super) async fn run(
    command: RolloutCommand,
    client: &Client,
    output: &mut Output<'_>,
) -> Result<(), Error> {
    let (mut rollouts, environment) = (client.rollouts(), client.environment());
    let answer = match command {
        RolloutCommand::Status => rollouts.get_rollout(GetRolloutRequest { environment }).await?,
        RolloutCommand::Pause => {
            rollouts.pause_rollout(PauseRolloutRequest { environment }).await?
        }
        RolloutCommand::Resume => {
            rollouts.resume_rollout(ResumeRolloutRequest { environment }).await?
        }
        RolloutCommand::Undo => rollouts.undo_rollout(UndoRolloutRequest { environment }).await?,
    };
    let rollout = answer.into_inner();
    if output.form() != Form::Table {
        return output.object("Rollout", &rollout);
    }
    output.text(&format!("{}\n", summary(&rollout)))?;
    output.rows(rows(&rollout))
}

/// How a rollout is, in one line.
pub(super) fn summary(rollout: &Rollout) -> String {
    let Rollout { base_revision, target_revision, ring, reason, .. } = rollout;
    let state = match rollout.state() {
        State::Running => format!("in ring {ring}"),
        State::Paused => format!("paused in ring {ring}"),
        State::Stopped => format!("stopped in ring {ring}"),
        State::Done => "done".to_owned(),
        State::RolledBack => format!("rolled back from ring {ring}"),
        State::Undone => format!("undone from ring {ring}"),
        State::Unspecified => "in a state only a newer fgctl knows".to_owned(),
    };
    let since = time(rollout.moved_at.as_ref());
    let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
    format!("revision {target_revision}, from {base_revision}, is {state} since {since}{why}")
}

fn rows(rollout: &Rollout) -> Rows {
    let of = |count: u64, value: String| if count == 0 { String::new() } else { value };
    let percent = |rate: f64| format!("{:.1} %", rate * 100.0);
    let row = |ring: &RingStatus| {
        let (now, before) = (ring.requests, ring.requests_before);
        vec![
            ring.name.clone(),
            format!("{} of {}", ring.nodes_done, ring.nodes),
            now.to_string(),
            of(now, percent(ring.error_rate)),
            of(now, format!("{:.1}", ring.p99_ms)),
            of(before, percent(ring.error_rate_before)),
            of(before, format!("{:.1}", ring.p99_ms_before)),
        ]
    };
    Rows {
        noun: "rings",
        header: &[
            "RING",
            "NODES DONE",
            "REQUESTS",
            "ERRORS",
            "P99 MS",
            "ERRORS BEFORE",
            "P99 MS BEFORE",
        ],
        rows: rollout.rings.iter().map(row).collect(),
        more: false,
    }
}
