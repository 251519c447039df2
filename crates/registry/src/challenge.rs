//! `WWW-Authenticate`: what a registry wants to see (RFC 9110 §11.6.1, docker's token spec).
//!
//! Registries send these from the other side of the network, so the parser takes any bytes.

/// A challenge that we can answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// Name and password with each request.
    Basic,
    /// A token from `realm`.
    Bearer {
        /// URL of the token server.
        realm: String,
        /// Who the token is for.
        service: Option<String>,
        /// What it allows.
        scope: Option<String>,
    },
}

/// Longest header that is looked at.
const HEADER_BYTES_MAX: usize = 8 * 1024;

/// Reads one header's value, which may hold several challenges; unknown schemes are left out.
pub(crate) fn parse(header: &str) -> Vec<Challenge> {
    if header.len() > HEADER_BYTES_MAX {
        return Vec::new();
    }
    let mut challenges = Vec::new();
    let mut rest = header.trim_start();
    while !rest.is_empty() {
        let (scheme, after) = token(rest);
        if scheme.is_empty() {
            // Not a scheme: step over one character, so that each turn makes progress.
            rest = skip(rest.get(rest.chars().next().map_or(1, char::len_utf8)..));
            continue;
        }
        let (parameters, after) = parameters(after);
        challenges.extend(answerable(scheme, &parameters));
        rest = skip(Some(after));
    }
    challenges
}

fn answerable(scheme: &str, parameters: &[(String, String)]) -> Option<Challenge> {
    let get = |name: &str| {
        let found = parameters
            .iter()
            .find(|(key, _)| key.eq_ignore_ascii_case(name));
        found
            .map(|(_, value)| value.clone())
            .filter(|value| !value.is_empty())
    };
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    Some(Challenge::Bearer {
        realm: get("realm")?,
        service: get("service"),
        scope: get("scope"),
    })
}

/// Reads `name=value` pairs until something else comes: the next scheme, or the end.
fn parameters(mut rest: &str) -> (Vec<(String, String)>, &str) {
    let mut found = Vec::new();
    loop {
        let start = skip(Some(rest));
        let (name, after) = token(start);
        let after = after.trim_start();
        let Some(after) = after.strip_prefix('=').filter(|_| !name.is_empty()) else {
            return (found, start);
        };
        let (value, after) = value(after.trim_start());
        found.push((name.to_owned(), value));
        rest = after;
    }
}

fn value(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text
            .find(|c: char| c == ',' || c.is_whitespace())
            .unwrap_or(text.len());
        let (value, rest) = text.split_at(end);
        return (value.to_owned(), rest);
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return (value, quoted.get(at + 1..).unwrap_or("")),
            '\\' => value.extend(chars.next().map(|(_, escaped)| escaped)),
            c => value.push(c),
        }
    }
    // The closing quote is missing: what there is, is the value.
    (value, "")
}

fn token(text: &str) -> (&str, &str) {
    let part = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
    text.split_at(text.find(|c| !part(c)).unwrap_or(text.len()))
}

fn skip(text: Option<&str>) -> &str {
    text.unwrap_or("")
        .trim_start_matches(|c: char| c == ',' || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn bearer(realm: &str, service: Option<&str>, scope: Option<&str>) -> Challenge {
        Challenge::Bearer {
            realm: realm.to_owned(),
            service: service.map(str::to_owned),
            scope: scope.map(str::to_owned),
        }
    }

    #[test]
    fn what_registries_send() {
        let check = |header: &str, expected: &[Challenge]| {
            assert_eq!(parse(header), expected, "{header}");
        };
        check(
            r#"Bearer realm="https://auth.docker.io/token",service="registry.docker.io",scope="repository:library/ubuntu:pull,push""#,
            &[bearer(
                "https://auth.docker.io/token",
                Some("registry.docker.io"),
                Some("repository:library/ubuntu:pull,push"),
            )],
        );
        check(r#"Basic realm="Registry""#, &[Challenge::Basic]);
        check("basic", &[Challenge::Basic]);
        check(
            "BEARER realm=https://a/t , service = b",
            &[bearer("https://a/t", Some("b"), None)],
        );
        check(
            r#"Negotiate, Bearer realm="https://a/t", Basic realm="x""#,
            &[bearer("https://a/t", None, None), Challenge::Basic],
        );
        check(r#"Bearer realm="a\"b""#, &[bearer("a\"b", None, None)]);
        check(
            r#"Bearer realm="unclosed"#,
            &[bearer("unclosed", None, None)],
        );
        check(r#"Bearer service="x""#, &[]);
        check("", &[]);
        check("=,=\u{e9}\"", &[]);
    }

    proptest! {
        #[test]
        fn never_panics(header: String) {
            let _challenges = parse(&header);
        }

        #[test]
        fn quoted_values_round_trip(realm in "[ -~]{1,40}", scope in "[a-z:,/*]{1,30}") {
            let escaped = realm.replace('\\', "\\\\").replace('"', "\\\"");
            let header = format!(r#"Bearer realm="{escaped}",scope="{scope}""#);
            prop_assert_eq!(parse(&header), vec![bearer(&realm, None, Some(&scope))]);
        }
    }
}
