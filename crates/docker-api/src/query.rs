//! Query parameters, read as docker reads them.

use crate::ApiError;
use axum::extract::FromRequestParts;
use axum::extract::Query;
use http::request::Parts;
use serde::Deserialize;
use std::collections::{BTreeMap, HashMap};
use std::str::FromStr;

/// The parameters of one request.
#[derive(Debug, Default)]
pub(crate) struct Params(HashMap<String, String>);

impl<S: Send + Sync> FromRequestParts<S> for Params {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, ApiError> {
        let pairs = Query::<Vec<(String, String)>>::from_request_parts(parts, state)
            .await
            .map_err(|error| ApiError::bad_request(error.to_string()))?;
        // Of repeated parameters the first counts, as in Go.
        let mut params = HashMap::new();
        for (name, value) in pairs.0 {
            params.entry(name).or_insert(value);
        }
        Ok(Self(params))
    }
}

impl Params {
    /// Returns a parameter that is there and not empty.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        let value = self.0.get(name).map(String::as_str);
        value.filter(|value| !value.is_empty())
    }

    /// Everything but nothing, `0`, `no`, `false` and `none` is true.
    pub(crate) fn flag(&self, name: &str) -> bool {
        self.flag_or(name, false)
    }

    /// The same, with what an absent parameter means.
    pub(crate) fn flag_or(&self, name: &str, absent: bool) -> bool {
        match self.0.get(name) {
            None => absent,
            Some(value) => {
                let value = value.trim().to_ascii_lowercase();
                !matches!(value.as_str(), "" | "0" | "no" | "false" | "none")
            }
        }
    }

    /// Returns a parameter that must parse if it is there.
    pub(crate) fn parsed<T: FromStr>(&self, name: &str) -> Result<Option<T>, ApiError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let value = text.parse();
        let invalid = |_| ApiError::bad_request(format!("invalid value for {name}: {text:?}"));
        value.map(Some).map_err(invalid)
    }

    /// Returns a time, `seconds[.fraction]` since 1970, in nanoseconds; 0 means none.
    pub(crate) fn time_ns(&self, name: &str) -> Result<Option<i64>, ApiError> {
        let Some(text) = self.text(name) else {
            return Ok(None);
        };
        let time = unix_ns(text).ok_or_else(|| {
            ApiError::bad_request(format!("invalid value for {name:?}: {text:?}"))
        })?;
        Ok(Some(time).filter(|time| *time != 0))
    }

    /// Returns `filters`: a JSON map of lists, or of maps to booleans as older clients send it.
    pub(crate) fn filters(&self) -> Result<BTreeMap<String, Vec<String>>, ApiError> {
        let Some(text) = self.text("filters") else {
            return Ok(BTreeMap::new());
        };
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Values {
            List(Vec<String>),
            Set(BTreeMap<String, bool>),
        }
        let filters: BTreeMap<String, Values> = serde_json::from_str(text)
            .map_err(|error| ApiError::bad_request(format!("invalid filter: {error}")))?;
        let flat = filters.into_iter().map(|(key, values)| {
            let values = match values {
                Values::List(values) => values,
                Values::Set(values) => {
                    let on = values.into_iter().filter(|(_, on)| *on);
                    on.map(|(value, _)| value).collect()
                }
            };
            (key, values)
        });
        Ok(flat.collect())
    }
}

fn unix_ns(text: &str) -> Option<i64> {
    if let Ok(time) =
        time::OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339)
    {
        return i64::try_from(time.unix_timestamp_nanos()).ok();
    }
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let digits: String = fraction
        .chars()
        .chain("000000000".chars())
        .take(9)
        .collect();
    let nanoseconds: i64 = digits.parse().ok()?;
    let seconds: i64 = seconds.parse().ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(nanoseconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn params(pairs: &[(&str, &str)]) -> Params {
        let pairs = pairs.iter();
        Params(
            pairs
                .map(|(a, b)| ((*a).to_owned(), (*b).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn flags() {
        for yes in ["1", "true", "yes", "True", "x"] {
            assert!(params(&[("a", yes)]).flag("a"), "{yes}");
        }
        for no in ["", "0", "no", "FALSE", "none"] {
            assert!(!params(&[("a", no)]).flag("a"), "{no}");
        }
        assert!(params(&[]).flag_or("a", true));
    }

    #[test]
    fn times() {
        let check = |text: &str, expected| assert_eq!(unix_ns(text), expected, "{text}");
        check("1", Some(1_000_000_000));
        check("1.5", Some(1_500_000_000));
        check("1136073845.000000001", Some(1_136_073_845_000_000_001));
        check("1970-01-01T00:00:01Z", Some(1_000_000_000));
        check("x", None);
        check("1.x", None);
    }

    #[test]
    fn both_forms_of_filters() {
        let expected: BTreeMap<String, Vec<String>> =
            [("label".to_owned(), vec!["a".to_owned()])].into();
        let list = params(&[("filters", r#"{"label":["a"]}"#)]);
        assert_eq!(list.filters().unwrap(), expected);
        let set = params(&[("filters", r#"{"label":{"a":true,"b":false}}"#)]);
        assert_eq!(set.filters().unwrap(), expected);
        params(&[("filters", "[]")]).filters().unwrap_err();
    }
}
