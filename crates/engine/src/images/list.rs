//! list: images, filtered and in docker's order.

use super::{Image, ImageError, Images};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Which images a list shows. Conditions of one kind are alternatives; kinds add up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ImageFilter {
    /// Only untagged ones, or only tagged ones.
    pub dangling: Option<bool>,
    /// Only those with all these labels; the value may be left open.
    pub labels: Vec<(String, Option<String>)>,
    /// Only those with none of these labels.
    pub without_labels: Vec<(String, Option<String>)>,
    /// Only those named by one of these patterns (`*` and `?` within a name).
    pub references: Vec<String>,
    /// Only those created before this image.
    pub before: Option<String>,
    /// Only those created after this image.
    pub since: Option<String>,
    /// Only those created before this time, Unix seconds.
    pub until_unix_s: Option<i64>,
}

impl Images {
    /// Lists images, newest first.
    ///
    /// # Errors
    /// `before` or `since` name no image.
    pub fn list(&self, filter: &ImageFilter) -> Result<Vec<Arc<Image>>, ImageError> {
        let created_of = |name: &Option<String>| match name {
            Some(name) => self.resolve(name).map(|image| Some(image.created_unix_s())),
            None => Ok(None),
        };
        let before = created_of(&filter.before)?;
        let since = created_of(&filter.since)?;
        let mut images: Vec<Arc<Image>> = self
            .0
            .catalog
            .all()
            .iter()
            .map(|known| Arc::clone(&known.image))
            .filter(|image| before.is_none_or(|before| image.created_unix_s() < before))
            .filter(|image| since.is_none_or(|since| image.created_unix_s() > since))
            .filter(|image| filter.accepts(image))
            .collect();
        images.sort_by_key(|image| std::cmp::Reverse((image.created_unix_s(), image.id)));
        Ok(images)
    }
}

impl ImageFilter {
    /// Judges what an image alone decides.
    pub(super) fn accepts(&self, image: &Image) -> bool {
        let labels = &image.config.config.labels;
        let is_dangling = image.references.is_empty();
        self.dangling.is_none_or(|wanted| wanted == is_dangling)
            && self.labels.iter().all(|wanted| has_label(labels, wanted))
            && !self
                .without_labels
                .iter()
                .any(|wanted| has_label(labels, wanted))
            && self
                .until_unix_s
                .is_none_or(|until| image.created_unix_s() < until)
            && self.accepts_name(image)
    }

    fn accepts_name(&self, image: &Image) -> bool {
        let names = || image.references.iter().chain(&image.digests);
        self.references.is_empty()
            || self.references.iter().any(|pattern| {
                names().any(|reference| {
                    matches_pattern(pattern, &reference.familiar())
                        || matches_pattern(pattern, &reference.familiar_name())
                        || matches_pattern(pattern, &reference.to_string())
                })
            })
    }
}

fn has_label(labels: &BTreeMap<String, String>, wanted: &(String, Option<String>)) -> bool {
    let (name, value) = wanted;
    labels
        .get(name)
        .is_some_and(|actual| value.as_ref().is_none_or(|value| value == actual))
}

/// A shell pattern over one name, as Go's `path.Match` takes it, without character classes: `*`
/// stops at a slash.
fn matches_pattern(pattern: &str, name: &str) -> bool {
    let (pattern, name) = (pattern.as_bytes(), name.as_bytes());
    let (mut p, mut n) = (0, 0);
    // Where the last star was, and how much it has swallowed so far: linear memory, no recursion.
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(b'?') if name.get(n) != Some(&b'/') => (p, n) = (p + 1, n + 1),
            Some(byte) if name.get(n) == Some(byte) => (p, n) = (p + 1, n + 1),
            _ => match star {
                Some((at, swallowed)) if name.get(swallowed) != Some(&b'/') => {
                    star = Some((at, swallowed + 1));
                    (p, n) = (at + 1, swallowed + 1);
                }
                _ => return false,
            },
        }
    }
    pattern.iter().skip(p).all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn patterns() {
        let check = |pattern: &str, name: &str, expected: bool| {
            assert_eq!(matches_pattern(pattern, name), expected, "{pattern} {name}");
        };
        check("busybox", "busybox", true);
        check("busy*", "busybox:latest", true);
        check("*:latest", "busybox:latest", true);
        check("*/*:1", "me/app:1", true);
        check("*", "me/app", false);
        check("b?sybox", "busybox", true);
        check("b?", "b/", false);
        check("", "", true);
        check("a*b*c", "aXbYbZc", true);
        check("a*b*c", "aXbYbZ", false);
    }

    proptest! {
        #[test]
        fn a_name_matches_itself(name in "[a-z/:.]{0,20}") {
            prop_assert!(matches_pattern(&name, &name));
        }

        #[test]
        fn never_panics(pattern in "[a*?/]{0,12}", name in "[a/]{0,12}") {
            let _matched = matches_pattern(&pattern, &name);
        }
    }
}
