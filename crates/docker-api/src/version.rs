//! The API version of a request: taken from the path's `/v1.NN` prefix, which is cut off before
//! routing, so that every route exists with and without it.

use crate::ApiError;
use axum::extract::FromRequestParts;
use http::request::Parts;
use http::uri::{PathAndQuery, Uri};
use std::convert::Infallible;
use std::fmt;

/// A version of the API, `major.minor`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ApiVersion {
    /// Always 1 so far.
    pub major: u32,
    /// Counts up.
    pub minor: u32,
}

impl ApiVersion {
    /// The oldest version answered.
    pub const OLDEST: Self = Self::new(1, 24);
    /// The newest version answered, and the one meant when a path names none.
    pub const NEWEST: Self = Self::new(1, 56);

    /// Makes a version of its numbers.
    #[must_use]
    pub const fn new(major: u32, minor: u32) -> Self {
        Self { major, minor }
    }

    /// True from `1.minor` on.
    #[must_use]
    pub fn at_least(self, minor: u32) -> bool {
        self >= Self::new(1, minor)
    }
}

impl fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.major, self.minor)
    }
}

impl<S: Send + Sync> FromRequestParts<S> for ApiVersion {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts
            .extensions
            .get::<Self>()
            .copied()
            .unwrap_or(Self::NEWEST))
    }
}

/// Cuts the version off the path.
///
/// # Errors
/// Docker's words for a version that is too old or too new.
pub(crate) fn split(uri: &Uri) -> Result<(ApiVersion, Uri), ApiError> {
    let Some((version, rest)) = prefix(uri.path()) else {
        return Ok((ApiVersion::NEWEST, uri.clone()));
    };
    if version < ApiVersion::OLDEST {
        return Err(ApiError::bad_request(format!(
            "client version {version} is too old. Minimum supported API version is {}, \
             please upgrade your client to a newer version",
            ApiVersion::OLDEST
        )));
    }
    if version > ApiVersion::NEWEST {
        return Err(ApiError::bad_request(format!(
            "client version {version} is too new. Maximum supported API version is {}",
            ApiVersion::NEWEST
        )));
    }
    let path = if rest.is_empty() { "/" } else { rest };
    let path_and_query = match uri.query() {
        Some(query) => format!("{path}?{query}"),
        None => path.to_owned(),
    };
    let path_and_query: PathAndQuery = path_and_query
        .parse()
        .map_err(|_| ApiError::bad_request("malformed path"))?;
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = Some(path_and_query);
    let uri = Uri::from_parts(parts).map_err(|_| ApiError::bad_request("malformed path"))?;
    Ok((version, uri))
}

fn prefix(path: &str) -> Option<(ApiVersion, &str)> {
    let path = path.strip_prefix("/v")?;
    let (version, rest) = match path.find('/') {
        Some(end) => path.split_at(end),
        None => (path, ""),
    };
    let (major, minor) = version.split_once('.')?;
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
        digits.then(|| text.parse::<u32>().ok()).flatten()
    };
    Some((ApiVersion::new(number(major)?, number(minor)?), rest))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, expected: Result<(u32, &str), &str>) {
        let split = split(&uri.parse().unwrap());
        match (split, expected) {
            (Ok((version, rest)), Ok((minor, path))) => {
                assert_eq!((version.minor, rest.to_string().as_str()), (minor, path));
            }
            (Err(error), Err(words)) => assert!(error.message().contains(words), "{uri}"),
            (got, _) => panic!("{uri}: {got:?}"),
        }
    }

    #[test]
    fn prefixes() {
        check("/v1.41/info", Ok((41, "/info")));
        check(
            "/v1.24/containers/json?all=1",
            Ok((24, "/containers/json?all=1")),
        );
        check("/info", Ok((56, "/info")));
        check("/volumes", Ok((56, "/volumes")));
        check("/version", Ok((56, "/version")));
        check("/v1.x/info", Ok((56, "/v1.x/info")));
        check("/v1.56", Ok((56, "/")));
        check("/v1.23/info", Err("client version 1.23 is too old"));
        check("/v1.57/info", Err("client version 1.57 is too new"));
        check("/v2.0/info", Err("too new"));
    }
}
