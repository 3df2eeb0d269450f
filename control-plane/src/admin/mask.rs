//! Updates: which fields of what was sent replace those of what is stored.

use fastgate::model::Violations;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, Kind, MessageDescriptor, Value};
use prost_types::FieldMask;

use crate::error::Error;

/// Which fields of a kind of object an update may touch.
pub(super) struct Updatable {
    /// The full name of its message, such as `fastgate.admin.v1.Key`.
    pub(super) message: &'static str,
    /// Set by the server or fixed at creation: an update passes over them.
    pub(super) fixed: &'static [&'static str],
}

impl Updatable {
    /// `stored` with the fields of `sent` that the mask names: without a mask those that are set,
    /// with `*` all.
    pub(super) fn merge<M: Message + Default>(
        &self,
        pool: &DescriptorPool,
        stored: &M,
        sent: &M,
        mask: Option<&FieldMask>,
    ) -> Result<M, Error> {
        let broken = |_| Error::Bug("a message does not fit its descriptor");
        let message = pool.get_message_by_name(self.message);
        let message = message.ok_or(Error::Bug("an updatable message has no descriptor"))?;
        let mut merged = DynamicMessage::new(message.clone());
        merged.transcode_from(stored).map_err(broken)?;
        let mut patch = DynamicMessage::new(message.clone());
        patch.transcode_from(sent).map_err(broken)?;
        for name in self.named(&message, &patch, mask)? {
            replace(&mut merged, &mut patch, &name);
        }
        merged.transcode_to().map_err(broken)
    }

    fn named(
        &self,
        message: &MessageDescriptor,
        patch: &DynamicMessage,
        mask: Option<&FieldMask>,
    ) -> Result<Vec<String>, Error> {
        let fields = || message.fields().map(|field| field.name().to_owned());
        let mut named: Vec<String> = match mask.map(|mask| mask.paths.as_slice()).unwrap_or(&[]) {
            [] => fields().filter(|name| patch.has_field_by_name(name)).collect(),
            [all] if all == "*" => fields().collect(),
            paths => {
                let mut faults = Violations::default();
                for path in paths {
                    if !names_field(message, path) {
                        let known: Vec<_> = fields().filter(|name| !self.is_fixed(name)).collect();
                        let known = known.join(", ");
                        faults.add(
                            "update_mask",
                            format!(
                                "names '{path}', which is no field: use '*' or some of {known}"
                            ),
                        );
                    }
                }
                faults.or(paths.to_vec())?
            }
        };
        named.retain(|name| !self.is_fixed(name));
        Ok(named)
    }

    fn is_fixed(&self, path: &str) -> bool {
        self.fixed.iter().any(|name| path.split('.').next() == Some(*name))
    }
}

/// Whether a path such as `recording.success_sample` leads to a field; those of lists have none.
fn names_field(message: &MessageDescriptor, path: &str) -> bool {
    let (name, below) =
        path.split_once('.').map_or((path, None), |(name, below)| (name, Some(below)));
    let Some(field) = message.get_field_by_name(name) else { return false };
    match (below, field.kind()) {
        (None, _) => true,
        // Times and the like are values.
        (Some(below), Kind::Message(part)) if part.package_name() == message.package_name() => {
            !field.is_list() && !field.is_map() && names_field(&part, below)
        }
        (Some(_), _) => false,
    }
}

/// Puts the field of `patch` at a path in place of that of `merged`; one that is absent takes it away.
fn replace(merged: &mut DynamicMessage, patch: &mut DynamicMessage, path: &str) {
    let Some((name, below)) = path.split_once('.') else {
        match patch.take_field_by_name(path) {
            Some(value) => merged.set_field_by_name(path, value),
            None => merged.clear_field_by_name(path),
        }
        return;
    };
    if !merged.has_field_by_name(name) && !patch.has_field_by_name(name) {
        return;
    }
    if let (Some(Value::Message(merged)), Some(Value::Message(patch))) =
        (merged.get_field_by_name_mut(name), patch.get_field_by_name_mut(name))
    {
        replace(merged, patch, below);
    }
}

#[cfg(test)]
mod tests {
    use fastgate::admin::v1::{Recording, Route, Target};

    use super::*;

    fn merge(stored: &Route, sent: &Route, paths: Option<&[&str]>) -> Result<Route, Error> {
        let pool = DescriptorPool::decode(fastgate::FILE_DESCRIPTOR_SET).expect("descriptors");
        let routes = Updatable { message: "fastgate.admin.v1.Route", fixed: &["route_id", "etag"] };
        let mask = paths.map(|paths| FieldMask {
            paths: paths.iter().map(|path| (*path).to_owned()).collect(),
        });
        routes.merge(&pool, stored, sent, mask.as_ref())
    }

    fn stored() -> Route {
        Route {
            route_id: "r".into(),
            path: "/a".into(),
            timeout: Some(3.0),
            targets: vec![Target { url: "http://a".into(), ..Target::default() }],
            ..Route::default()
        }
    }

    #[test]
    fn without_a_mask_set_fields_replace() {
        let sent = Route { path: "/b".into(), auth_required: Some(false), ..Route::default() };
        for mask in [None, Some(&[][..])] {
            let merged = merge(&stored(), &sent, mask).expect("merged");
            let wanted = Route { path: "/b".into(), auth_required: Some(false), ..stored() };
            assert_eq!(merged, wanted);
        }
    }

    #[test]
    fn a_masked_field_that_is_absent_is_cleared() {
        let merged = merge(&stored(), &Route::default(), Some(&["timeout"])).expect("merged");
        assert_eq!(merged, Route { timeout: None, ..stored() });
    }

    #[test]
    fn a_path_reaches_into_a_part_and_leaves_the_rest_of_it() {
        let part = |sample, bytes| {
            let recording = Recording {
                success_sample: sample,
                request_body_bytes: bytes,
                ..Recording::default()
            };
            Route { recording: Some(recording), ..stored() }
        };
        let sample = Some(&["recording.success_sample"][..]);
        for (before, sent, after) in [
            (part(Some(0.5), 7), part(Some(0.1), 9), part(Some(0.1), 7)),
            (part(Some(0.5), 7), stored(), part(None, 7)),
            (stored(), part(Some(0.1), 9), part(Some(0.1), 0)),
            (stored(), stored(), stored()),
        ] {
            assert_eq!(merge(&before, &sent, sample).expect("merged"), after);
        }
        let all = merge(&part(Some(0.5), 7), &stored(), Some(&["recording"])).expect("merged");
        assert_eq!(all, stored());
    }

    #[test]
    fn a_star_replaces_all_but_fixed_fields() {
        let sent = Route { route_id: "x".into(), path: "/b".into(), ..Route::default() };
        let merged = merge(&stored(), &sent, Some(&["*"])).expect("merged");
        assert_eq!(merged, Route { route_id: "r".into(), path: "/b".into(), ..Route::default() });
    }

    #[test]
    fn unknown_paths_are_refused_and_fixed_ones_passed_over() {
        for path in [
            "nope",
            "targets.url",
            "",
            "Path",
            "*.x",
            "path.x",
            "recording.x",
            "recording.",
            "timeout.seconds",
            "created_at.seconds",
        ] {
            assert!(merge(&stored(), &stored(), Some(&[path])).is_err(), "{path}");
        }
        let sent = Route { route_id: "x".into(), etag: "y".into(), ..Route::default() };
        assert_eq!(merge(&stored(), &sent, Some(&["route_id", "etag"])).expect("merged"), stored());
    }
}
