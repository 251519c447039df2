//! Paths with query strings, escaped.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// What RFC 3986 leaves unreserved stays readable.
const ESCAPED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// A path segment may also hold what image references are made of.
const ESCAPED_IN_PATH: &AsciiSet = &ESCAPED.remove(b'/').remove(b':').remove(b'@');

/// A request target under construction.
#[derive(Debug, Clone)]
pub struct Query {
    target: String,
    separator: char,
}

impl Query {
    /// Starts with a path; each `{}` is replaced by the next argument, escaped.
    ///
    /// ```
    /// # use client::Query;
    /// let target = Query::new("/containers/{}/kill", &["a b"]).with("signal", "TERM");
    /// assert_eq!(target.finish(), "/containers/a%20b/kill?signal=TERM");
    /// ```
    #[must_use]
    pub fn new(path: &str, arguments: &[&str]) -> Self {
        let mut arguments = arguments.iter();
        let mut target = String::with_capacity(path.len() + 64);
        for (index, part) in path.split("{}").enumerate() {
            if index > 0 {
                let argument = arguments.next().copied().unwrap_or_default();
                target.extend(utf8_percent_encode(argument, ESCAPED_IN_PATH));
            }
            target.push_str(part);
        }
        Self {
            target,
            separator: '?',
        }
    }

    /// Adds a parameter.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.target.push(self.separator);
        self.separator = '&';
        self.target.push_str(name);
        self.target.push('=');
        self.target.extend(utf8_percent_encode(value, ESCAPED));
        self
    }

    /// Adds a parameter if there is a value.
    #[must_use]
    pub fn with_some(self, name: &str, value: Option<&str>) -> Self {
        match value {
            Some(value) => self.with(name, value),
            None => self,
        }
    }

    /// Adds `name=1` if it is so.
    #[must_use]
    pub fn flag(self, name: &str, on: bool) -> Self {
        if on { self.with(name, "1") } else { self }
    }

    /// Returns the target.
    #[must_use]
    pub fn finish(self) -> String {
        self.target
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes() {
        let target = Query::new("/images/{}/json", &["localhost:5000/a@sha256:b"]).finish();
        assert_eq!(target, "/images/localhost:5000/a@sha256:b/json");
        let target = Query::new("/containers/{}/start", &["../x?y"])
            .with("k", "ctrl-p,ctrl-q&x=1")
            .flag("v", true)
            .flag("w", false)
            .finish();
        assert_eq!(
            target,
            "/containers/../x%3Fy/start?k=ctrl-p%2Cctrl-q%26x%3D1&v=1"
        );
    }
}
