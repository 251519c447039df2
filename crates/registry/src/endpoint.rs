//! A registry's name → the places to ask, in order. Pure.

use crate::options::{InsecureRegistry, RegistryOptions};
use std::fmt;
use std::net::IpAddr;

/// One place to ask.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "three independent facts; every combination occurs"
)]
pub(crate) struct Endpoint {
    /// Plain HTTP.
    pub(crate) plain: bool,
    /// False: any certificate will do, and TLS may be left out.
    pub(crate) verify: bool,
    /// `host[:port]`.
    pub(crate) authority: String,
    /// It is not the registry itself: it gets no credentials, and its failures are not final.
    pub(crate) mirror: bool,
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.plain { "http" } else { "https" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

/// Plans where to ask for images of `registry`. `addresses` are those its name resolves to.
///
/// As docker does, an insecure registry is first tried with (unverified) TLS and then without.
pub(crate) fn plan(
    registry: &str,
    addresses: &[IpAddr],
    options: &RegistryOptions,
) -> Vec<Endpoint> {
    let mirrors = options.mirrors.get(registry).into_iter().flatten();
    let mut endpoints: Vec<Endpoint> = mirrors
        .map(|mirror| Endpoint {
            plain: mirror.plain,
            verify: !is_insecure(&mirror.authority, &[], options),
            authority: mirror.authority.clone(),
            mirror: true,
        })
        .collect();
    let insecure = is_insecure(registry, addresses, options);
    let itself = |plain| Endpoint {
        plain,
        verify: !insecure,
        authority: authority(registry).to_owned(),
        mirror: false,
    };
    endpoints.push(itself(false));
    if insecure {
        endpoints.push(itself(true));
    }
    endpoints
}

/// The default registry's API lives under another name than its references.
fn authority(registry: &str) -> &str {
    match registry {
        "docker.io" => "registry-1.docker.io",
        other => other,
    }
}

/// The host of `host[:port]`, without an IPv6 address's brackets.
pub(crate) fn host(registry: &str) -> &str {
    if let Some((address, _)) = registry.strip_prefix('[').and_then(|r| r.split_once(']')) {
        return address;
    }
    registry.split(':').next().unwrap_or(registry)
}

/// Says whether `registry` may be spoken to without verified TLS.
fn is_insecure(registry: &str, addresses: &[IpAddr], options: &RegistryOptions) -> bool {
    // The default registry is never insecure, whatever address its name is made to have.
    if registry == "docker.io" {
        return false;
    }
    let host = host(registry);
    let literal: Option<IpAddr> = host.parse().ok();
    let addresses: Vec<IpAddr> = literal.iter().chain(addresses).copied().collect();
    let listed = options.insecure.iter().any(|insecure| match insecure {
        InsecureRegistry::Host(name) => name == &registry.to_ascii_lowercase(),
        InsecureRegistry::Range(range) => addresses.iter().any(|ip| range.contains(*ip)),
    });
    listed || host == "localhost" || addresses.iter().any(|ip| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plans() {
        let check =
            |registry: &str, addresses: &[&str], options: &RegistryOptions, expected: &[&str]| {
                let addresses: Vec<IpAddr> = addresses.iter().map(|a| a.parse().unwrap()).collect();
                let shown: Vec<String> = plan(registry, &addresses, options)
                    .iter()
                    .map(|e| {
                        let trust = if e.verify { "" } else { " unverified" };
                        format!("{e}{trust}{}", if e.mirror { " mirror" } else { "" })
                    })
                    .collect();
                assert_eq!(shown, expected, "{registry}");
            };
        let plain = RegistryOptions::default();
        check(
            "docker.io",
            &["127.0.0.1"],
            &plain,
            &["https://registry-1.docker.io"],
        );
        check("ghcr.io", &["1.2.3.4"], &plain, &["https://ghcr.io"]);
        for local in ["localhost:5000", "127.0.0.1:5000", "[::1]:5000"] {
            let expected = [
                format!("https://{local} unverified"),
                format!("http://{local} unverified"),
            ];
            check(local, &[], &plain, &[&expected[0], &expected[1]]);
        }
        check(
            "reg.test:5000",
            &["127.0.0.2"],
            &plain,
            &[
                "https://reg.test:5000 unverified",
                "http://reg.test:5000 unverified",
            ],
        );
        let flags = RegistryOptions::parse(
            &["http://mirror:5000".into(), "https://second.example".into()],
            &["10.0.0.0/8".into(), "Reg.example".into()],
        )
        .unwrap();
        check(
            "docker.io",
            &[],
            &flags,
            &[
                "http://mirror:5000 mirror",
                "https://second.example mirror",
                "https://registry-1.docker.io",
            ],
        );
        check(
            "far.example",
            &["11.0.0.1"],
            &flags,
            &["https://far.example"],
        );
        check(
            "near.example",
            &["10.1.2.3"],
            &flags,
            &[
                "https://near.example unverified",
                "http://near.example unverified",
            ],
        );
        check(
            "reg.example",
            &[],
            &flags,
            &[
                "https://reg.example unverified",
                "http://reg.example unverified",
            ],
        );
    }
}
