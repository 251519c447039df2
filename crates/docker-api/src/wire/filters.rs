//! The `filters` query parameter of docker's list endpoints.

use serde::Deserialize;
use std::collections::BTreeMap;

/// Filters by name; each with the values of which one must match.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Filters(BTreeMap<String, Vec<String>>);

/// As clients write them: a list, or (before API 1.22, and still by some) an object of `true`s.
#[derive(Deserialize)]
#[serde(untagged)]
enum Values {
    List(Vec<String>),
    Set(BTreeMap<String, bool>),
}

impl Filters {
    /// Reads the parameter; absent or empty is no filter.
    pub(crate) fn parse(parameter: Option<&str>) -> Result<Self, String> {
        let text = parameter.unwrap_or_default();
        if text.is_empty() {
            return Ok(Self::default());
        }
        let all: BTreeMap<String, Values> =
            serde_json::from_str(text).map_err(|error| format!("invalid filters: {error}"))?;
        let lists = all.into_iter().map(|(name, values)| {
            let values = match values {
                Values::List(values) => values,
                Values::Set(set) => set.into_keys().collect(),
            };
            (name, values)
        });
        Ok(Self(lists.collect()))
    }

    /// Fails on a filter that is not one of `known`, with docker's words.
    pub(crate) fn only(self, known: &[&str]) -> Result<Self, String> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(format!("invalid filter '{name}'")),
            None => Ok(self),
        }
    }

    /// Returns the values of one filter; empty if it was not given.
    pub(crate) fn values(&self, name: &str) -> &[String] {
        self.0.get(name).map_or(&[], Vec::as_slice)
    }

    /// Tells whether one of a filter's values matches, or there is no such filter.
    pub(crate) fn any(&self, name: &str, matches: impl Fn(&str) -> bool) -> bool {
        match self.values(name) {
            [] => true,
            values => values.iter().any(|value| matches(value)),
        }
    }

    /// Tells whether every value of the `label` filter, `key` or `key=value`, is a label.
    pub(crate) fn labels(&self, labels: &BTreeMap<String, String>) -> bool {
        self.values("label")
            .iter()
            .all(|wanted| match wanted.split_once('=') {
                Some((key, value)) => labels.get(key).is_some_and(|v| v == value),
                None => labels.contains_key(wanted),
            })
    }

    /// Returns a filter that is true or false; none if it was not given.
    pub(crate) fn flag(&self, name: &str) -> Result<Option<bool>, String> {
        match self.values(name) {
            [] => Ok(None),
            [value] => match value.as_str() {
                "true" | "1" => Ok(Some(true)),
                "false" | "0" => Ok(Some(false)),
                _ => Err(format!("invalid value for filter '{name}': {value:?}")),
            },
            _ => Err(format!("filter '{name}' takes one value")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_spellings_are_read() {
        let list = Filters::parse(Some(r#"{"name":["a","b"],"label":["x=1"]}"#)).unwrap();
        let set = Filters::parse(Some(r#"{"name":{"a":true,"b":true},"label":{"x=1":true}}"#));
        assert_eq!(list, set.unwrap());
        assert!(list.any("name", |name| name == "b") && !list.any("name", |name| name == "c"));
        assert!(list.any("id", |_| false));
        assert!(list.labels(&[("x".to_owned(), "1".to_owned())].into()));
        assert!(!list.labels(&[("x".to_owned(), "2".to_owned())].into()));
        assert_eq!(Filters::parse(Some("")).unwrap(), Filters::default());
        assert_eq!(list.only(&["name"]).unwrap_err(), "invalid filter 'label'");
        Filters::parse(Some("[1]")).unwrap_err();
    }
}
