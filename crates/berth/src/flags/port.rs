//! `-p` and `--expose`.

use super::FlagError;
use super::mount::fields;
use client::wire::PortBinding;
use std::net::IpAddr;

/// A range of ports, both ends included.
type Range = (u16, u16);

/// One published port: `80/tcp`, and where.
pub(crate) type Published = (String, PortBinding);

/// Reads `[[ip:]host:]container[/proto]`, where ports may be ranges.
pub(crate) fn publish(text: &str) -> Result<Vec<Published>, FlagError> {
    if text.contains('=') {
        return publish(&long_form(text)?);
    }
    let bad = |what: &str| FlagError::new(format!("invalid {what}: {text}"));
    let (spec, protocol) = protocol(text)?;
    let (front, container) = match spec.rsplit_once(':') {
        Some((front, container)) => (Some(front), container),
        None => (None, spec),
    };
    let (ip, host) = match front {
        None => ("", ""),
        Some(front) if front.starts_with('[') => {
            let (ip, rest) = front[1..]
                .split_once(']')
                .ok_or_else(|| bad("IP address"))?;
            (ip, rest.strip_prefix(':').unwrap_or(rest))
        }
        Some(front) => front.rsplit_once(':').unwrap_or(("", front)),
    };
    if !ip.is_empty() && ip.parse::<IpAddr>().is_err() {
        return Err(FlagError::new(format!("invalid IP address: {ip}")));
    }
    if container.is_empty() {
        return Err(FlagError::new(format!("no port specified: {text}<empty>")));
    }
    let container = range(container).ok_or_else(|| bad("containerPort"))?;
    let host = match host {
        "" => None,
        host => Some(range(host).ok_or_else(|| bad("hostPort"))?),
    };
    let count = u32::from(container.1 - container.0);
    let binding = |port: String| PortBinding {
        host_ip: ip.to_owned(),
        host_port: port,
    };
    match host {
        Some((first, last)) if u32::from(last - first) != count && count > 0 => {
            Err(bad("ranges specified for container and host Ports"))
        }
        // One port of the container, any of a range of the host's.
        Some((first, last)) if count == 0 && first != last => Ok(vec![(
            format!("{}/{protocol}", container.0),
            binding(format!("{first}-{last}")),
        )]),
        _ => Ok((container.0..=container.1)
            .enumerate()
            .map(|(index, port)| {
                let host = host.map_or(String::new(), |(first, _)| {
                    (usize::from(first) + index).to_string()
                });
                (format!("{port}/{protocol}"), binding(host))
            })
            .collect()),
    }
}

/// Reads `--expose 7000-7002/udp`.
pub(crate) fn expose(text: &str) -> Result<Vec<String>, FlagError> {
    let (ports, protocol) = protocol(text)?;
    let (first, last) = range(ports)
        .ok_or_else(|| FlagError::new(format!("invalid range format for --expose: {text}")))?;
    Ok((first..=last)
        .map(|port| format!("{port}/{protocol}"))
        .collect())
}

fn protocol(text: &str) -> Result<(&str, &str), FlagError> {
    match text.split_once('/') {
        None => Ok((text, "tcp")),
        Some((rest, protocol @ ("tcp" | "udp" | "sctp"))) => Ok((rest, protocol)),
        Some((_, protocol)) => Err(FlagError::new(format!("invalid proto: {protocol}"))),
    }
}

fn range(text: &str) -> Option<Range> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let range = (first.parse().ok()?, last.parse().ok()?);
    (range.0 <= range.1).then_some(range)
}

/// Turns `target=80,published=8080,protocol=tcp` into the short form.
fn long_form(text: &str) -> Result<String, FlagError> {
    let (mut target, mut published, mut protocol) = (None, None, "tcp".to_owned());
    for field in fields(text)? {
        match field.split_once('=') {
            Some(("target", port)) => target = Some(port.to_owned()),
            Some(("published", port)) => published = Some(port.to_owned()),
            Some(("protocol", name)) => name.clone_into(&mut protocol),
            _ => {
                return Err(FlagError::new(format!(
                    "invalid field '{field}' in '{text}'"
                )));
            }
        }
    }
    let plain = |port: &str| !port.contains('=');
    match (target, published) {
        (Some(target), _) if !plain(&target) => {
            Err(FlagError::new(format!("invalid port: {target}")))
        }
        (_, Some(published)) if !plain(&published) => {
            Err(FlagError::new(format!("invalid port: {published}")))
        }
        (_, _) if protocol.contains('=') => {
            Err(FlagError::new(format!("invalid proto: {protocol}")))
        }
        (Some(target), Some(published)) => Ok(format!("{published}:{target}/{protocol}")),
        (Some(target), None) => Ok(format!("{target}/{protocol}")),
        (None, _) => Err(FlagError::new(format!("no target port in '{text}'"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn published() {
        let check = |text: &str, expected: &[(&str, &str, &str)]| {
            let found = publish(text).unwrap();
            let found: Vec<_> = found
                .iter()
                .map(|(port, at)| (port.as_str(), at.host_ip.as_str(), at.host_port.as_str()))
                .collect();
            assert_eq!(found, expected, "{text}");
        };
        check("80", &[("80/tcp", "", "")]);
        check("8080:80", &[("80/tcp", "", "8080")]);
        check("127.0.0.1:8080:80/udp", &[("80/udp", "127.0.0.1", "8080")]);
        check("127.0.0.1::80", &[("80/tcp", "127.0.0.1", "")]);
        check("[::1]:8080:80", &[("80/tcp", "::1", "8080")]);
        check("8000-9000:80", &[("80/tcp", "", "8000-9000")]);
        check("80-81:90-91", &[("90/tcp", "", "80"), ("91/tcp", "", "81")]);
        check("target=80,published=8080", &[("80/tcp", "", "8080")]);
        for bad in [
            "", "x", "80:", "1-3:1-2", "80/icmp", "a:80:80", "70000", "9-8", "foo=1",
        ] {
            assert!(publish(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn exposed() {
        assert_eq!(expose("7000-7001/udp").unwrap(), ["7000/udp", "7001/udp"]);
        expose("x").unwrap_err();
    }

    proptest! {
        #[test]
        fn never_panics(text in "[0-9a-z:/=,.\\[\\]-]{0,24}") {
            publish(&text).ok();
            expose(&text).ok();
        }
    }
}
