//! Where limits stand, as people are told it.

use fastgate::{
    admin::v1::LimitStanding,
    model::{Cost, Counts, Fallback, Limit, Measure},
};

use crate::limits::{Inspection, Limiter, Scope, State, Subject};

/// Limits that are asked about. It holds nothing of a snapshot.
pub(crate) struct Standings {
    node_id: String,
    /// Whether Redis is set and away.
    is_away: bool,
    inspection: Inspection,
    rules: Vec<Rule>,
}

/// One of them.
struct Rule {
    limit: Limit,
    /// Units there must be for a request to pass.
    needs: i64,
    told: LimitStanding,
}

/// Where one stands, and whether it would let a request pass.
pub(crate) struct Stands {
    pub(crate) told: LimitStanding,
    pub(crate) says: Says,
}

/// What a limit would say to a request now.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Says {
    Pass,
    /// It is used up.
    Wait,
    /// It can't be counted, and is `closed`.
    Closed,
}

impl Standings {
    /// None yet. `node_id` is named where the node counts for itself.
    pub(crate) fn new(node_id: &str, limiter: &Limiter) -> Self {
        Self {
            node_id: node_id.to_owned(),
            is_away: limiter.state() == State::Fallback,
            inspection: limiter.inspect(),
            rules: Vec::new(),
        }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    /// Adds one; answers come in the order of these.
    pub(crate) fn add(
        &mut self,
        subject: Subject<'_>,
        scope: Scope<'_>,
        limit: &Limit,
        cost: &Cost,
    ) {
        self.inspection.add(subject, scope, *limit, cost);
        let counts = match subject {
            Subject::Route(_) => Counts::All,
            Subject::Key(_) | Subject::ResetKey(..) | Subject::Address(_) => Counts::Each,
        };
        let (kind, named) = scope.label();
        let name = named.map_or(kind, |name| name.as_str());
        let told = LimitStanding {
            name: format!("{}{}", kind, named.map_or("", |name| name.as_str())),
            route_id: scope.route_id().map_or_else(String::new, ToString::to_string),
            limit: Some(limit.to_wire(name, counts, cost)),
            ..LimitStanding::default()
        };
        self.rules.push(Rule { limit: *limit, needs: needs(limit, cost), told });
    }

    /// Looks where all stand.
    ///
    /// # Errors
    /// Why that can't be said.
    pub(crate) async fn look(self) -> Result<Vec<Stands>, String> {
        let Self { node_id, is_away, inspection, rules } = self;
        let counted_by = if inspection.is_shared() { "redis".to_owned() } else { node_id };
        let found = inspection.look().await.map_err(|unseen| unseen.to_string())?;
        let stands = rules.into_iter().zip(found).map(|(rule, found)| {
            let Rule { limit, needs, mut told } = rule;
            told.remaining = i64::try_from(found.remaining).unwrap_or(i64::MAX);
            told.reset = i64::try_from(found.reset).unwrap_or(i64::MAX);
            told.counted_by.clone_from(&counted_by);
            let says = says(&limit, told.remaining >= needs, is_away);
            Stands { told, says }
        });
        Ok(stands.collect())
    }
}

/// Units there must be: all it takes at once, or any, where what it takes is known only later.
fn needs(limit: &Limit, cost: &Cost) -> i64 {
    match (limit.measure, cost) {
        (Measure::Tokens(_), Cost::Fixed(units)) => units.get().into(),
        (Measure::Tokens(_), Cost::Charged(_)) | (Measure::Concurrent(_), _) => 1,
    }
}

fn says(limit: &Limit, has_room: bool, is_away: bool) -> Says {
    match limit.fallback {
        _ if limit.shadow => Says::Pass,
        Fallback::Open if is_away => Says::Pass,
        Fallback::Closed if is_away => Says::Closed,
        _ if has_room => Says::Pass,
        _ => Says::Wait,
    }
}
