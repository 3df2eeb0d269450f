//! What a node refused, for people to mend: bounded, whatever the node says.

use fastgate::{
    admin::v1::{NodeFault, NodeRefusal},
    node::v1::{EntityError, Nack},
};

use crate::domain::Namespace;

/// Faults of a refusal that are told in one line.
const TOLD: usize = 5;

/// Characters of that line.
const LINE: usize = 1024;

/// Faults that are kept.
const FAULTS: usize = 20;

/// Characters that are kept of each part of a fault.
const TEXT: usize = 512;

/// What a node refused and has not got over, of each namespace.
#[derive(Default)]
pub(super) struct Refusals {
    keys: Option<NodeRefusal>,
    config: Option<NodeRefusal>,
}

impl Refusals {
    pub(super) fn add(&mut self, nack: &Nack) {
        let Some(ns) = Namespace::of(nack.ns()) else { return };
        let name = match ns {
            Namespace::Keys => "keys",
            Namespace::Config => "config",
        };
        *self.of(ns) = Some(NodeRefusal {
            namespace: name.into(),
            revision: nack.revision,
            faults: nack.errors.iter().take(FAULTS).map(fault).collect(),
            fault_count: u32::try_from(nack.errors.len()).unwrap_or(u32::MAX),
        });
    }

    /// Notes that the node took a revision.
    pub(super) fn get_over(&mut self, ns: Namespace, revision: u64) {
        self.of(ns).take_if(|refusal| refusal.revision <= revision);
    }

    /// The one people are to mend first.
    pub(super) fn shown(&self) -> Option<NodeRefusal> {
        self.config.clone().or_else(|| self.keys.clone())
    }

    fn of(&mut self, ns: Namespace) -> &mut Option<NodeRefusal> {
        match ns {
            Namespace::Keys => &mut self.keys,
            Namespace::Config => &mut self.config,
        }
    }
}

impl<'a> FromIterator<&'a Nack> for Refusals {
    fn from_iter<I: IntoIterator<Item = &'a Nack>>(nacks: I) -> Self {
        let mut refusals = Self::default();
        nacks.into_iter().for_each(|nack| refusals.add(nack));
        refusals
    }
}

/// A refusal in one line.
pub(super) fn told(nack: &Nack) -> String {
    let told: Vec<_> = nack.errors.iter().take(TOLD).map(ToString::to_string).collect();
    cut(&format!("revision {}: {}", nack.revision, told.join("; ")), LINE)
}

fn fault(error: &EntityError) -> NodeFault {
    NodeFault {
        kind: error.kind().noun().into(),
        id: cut(&error.id, TEXT),
        field: cut(&error.field, TEXT),
        message: cut(&error.message, TEXT),
    }
}

fn cut(text: &str, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", text.get(..end).unwrap_or_default()),
        None => text.to_owned(),
    }
}
