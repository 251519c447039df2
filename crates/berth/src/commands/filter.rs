//! `--filter name=value`: to the API's JSON map of lists.

use crate::failure::Failure;
use std::collections::BTreeMap;

/// Gives the value of the `filters` parameter; none if there is nothing to filter by.
///
/// # Errors
/// A filter without `=`.
pub(crate) fn filters(list: &[String]) -> Result<Option<String>, Failure> {
    let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for filter in list {
        let (name, value) = filter.split_once('=').ok_or_else(|| {
            Failure::new(format!("invalid argument {filter:?} for --filter: bad format of filter (expected name=value)"))
        })?;
        let name = name.trim().to_ascii_lowercase();
        map.entry(name).or_default().push(value.trim().to_owned());
    }
    if map.is_empty() {
        return Ok(None);
    }
    serde_json::to_string(&map)
        .map(Some)
        .map_err(|error| Failure::from_chain(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn to_json() {
        let list = [
            "label=a=b".to_owned(),
            "Label=c".to_owned(),
            "status=exited".to_owned(),
        ];
        assert_eq!(
            filters(&list).unwrap().as_deref(),
            Some(r#"{"label":["a=b","c"],"status":["exited"]}"#)
        );
        assert_eq!(filters(&[]), Ok(None));
        filters(&["x".to_owned()]).unwrap_err();
    }
}
