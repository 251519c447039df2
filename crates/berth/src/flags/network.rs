//! `--network`, `--ip`, `--network-alias` and the like.

use super::mount::fields;
use super::{ContainerArgs, FlagError};
use client::wire::{EndpointConfig, IpamConfig, NetworkingConfig};

/// Gives the network mode (the first network) and what is asked of each endpoint.
pub(crate) fn networking(args: &ContainerArgs) -> Result<(String, NetworkingConfig), FlagError> {
    let mut config = NetworkingConfig::default();
    let mut mode = None;
    for text in &args.network {
        let (name, endpoint) = network(text)?;
        if mode.is_none() {
            mode = Some(name.clone());
        }
        if is_mode(&name) && endpoint == EndpointConfig::default() {
            continue;
        }
        if config
            .endpoints_config
            .insert(name.clone(), endpoint)
            .is_some()
        {
            return Err(FlagError::new(format!(
                "network {name:?} is specified multiple times"
            )));
        }
    }
    let mode = mode.unwrap_or_else(|| "default".to_owned());
    let flags = from_flags(args);
    if flags != EndpointConfig::default() {
        if mode == "host" || mode == "none" || mode.starts_with("container:") {
            return Err(FlagError::new(format!(
                "conflicting options: addresses, aliases and links cannot be used with --network {mode}"
            )));
        }
        let endpoint = config.endpoints_config.entry(mode.clone()).or_default();
        merge(endpoint, flags, &mode)?;
    }
    Ok((mode, config))
}

/// Modes need no endpoint: the daemon knows what to do.
fn is_mode(name: &str) -> bool {
    matches!(name, "default" | "bridge" | "host" | "none") || name.starts_with("container:")
}

fn from_flags(args: &ContainerArgs) -> EndpointConfig {
    let ipam = IpamConfig {
        ipv4_address: args.ip.clone().unwrap_or_default(),
        ipv6_address: args.ip6.clone().unwrap_or_default(),
        link_local_ips: args.link_local_ip.clone(),
    };
    // Links on the default bridge are the host configuration's business.
    let links = match args.network.first() {
        Some(name) if !is_mode(name) => args.link.clone(),
        _ => Vec::new(),
    };
    EndpointConfig {
        ipam_config: (ipam != IpamConfig::default()).then_some(ipam),
        links,
        aliases: args.network_alias.clone(),
        mac_address: args.mac_address.clone().unwrap_or_default(),
        ..EndpointConfig::default()
    }
}

fn merge(
    endpoint: &mut EndpointConfig,
    flags: EndpointConfig,
    mode: &str,
) -> Result<(), FlagError> {
    let twice = |what: &str| {
        FlagError::new(format!(
            "conflicting options: cannot specify both --{what} and per-network {what} for {mode}"
        ))
    };
    if flags.ipam_config.is_some() && endpoint.ipam_config.is_some() {
        return Err(twice("ip"));
    }
    if !flags.aliases.is_empty() && !endpoint.aliases.is_empty() {
        return Err(twice("network-alias"));
    }
    endpoint.ipam_config = endpoint.ipam_config.take().or(flags.ipam_config);
    endpoint.aliases.extend(flags.aliases);
    endpoint.links.extend(flags.links);
    if endpoint.mac_address.is_empty() {
        endpoint.mac_address = flags.mac_address;
    }
    Ok(())
}

/// Reads `NAME` or `name=NAME,alias=A,ip=1.2.3.4`.
fn network(text: &str) -> Result<(String, EndpointConfig), FlagError> {
    if !text.contains('=') {
        if text.is_empty() {
            return Err(FlagError::new("the network's name is empty"));
        }
        return Ok((text.to_owned(), EndpointConfig::default()));
    }
    let mut name = None;
    let mut endpoint = EndpointConfig::default();
    for field in fields(text)? {
        let (key, value) = field
            .split_once('=')
            .ok_or_else(|| FlagError::new(format!("invalid field '{field}' in '{text}'")))?;
        let ipam = || IpamConfig::default();
        match key {
            "name" => name = Some(value.to_owned()),
            "alias" => endpoint.aliases.push(value.to_owned()),
            "ip" => {
                value.clone_into(&mut endpoint.ipam_config.get_or_insert_with(ipam).ipv4_address);
            }
            "ip6" => {
                value.clone_into(&mut endpoint.ipam_config.get_or_insert_with(ipam).ipv6_address);
            }
            "link-local-ip" => endpoint
                .ipam_config
                .get_or_insert_with(ipam)
                .link_local_ips
                .push(value.to_owned()),
            "mac-address" => value.clone_into(&mut endpoint.mac_address),
            "gw-priority" => {
                endpoint.gw_priority = value
                    .parse()
                    .map_err(|_| FlagError::new(format!("invalid gw-priority: {value}")))?;
            }
            "driver-opt" => {
                let (key, value) = value
                    .split_once('=')
                    .ok_or_else(|| FlagError::new(format!("invalid driver-opt: {value}")))?;
                endpoint
                    .driver_opts
                    .insert(key.to_owned(), value.to_owned());
            }
            _ => return Err(FlagError::new(format!("invalid field key {key}"))),
        }
    }
    match name {
        Some(name) if !name.is_empty() => Ok((name, endpoint)),
        _ => Err(FlagError::new(format!("no network name in '{text}'"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(args: &[&str], mode: &str, expected: &serde_json::Value) {
        let args = super::super::container::parse(args);
        let (found_mode, config) = networking(&args).unwrap();
        assert_eq!(found_mode, mode);
        assert_eq!(serde_json::to_value(config).unwrap(), *expected);
    }

    #[test]
    fn endpoints() {
        use serde_json::json;
        check(&["x"], "default", &json!({}));
        check(&["--network", "host", "x"], "host", &json!({}));
        check(
            &[
                "--net=mine",
                "--ip",
                "10.0.0.5",
                "--network-alias",
                "db",
                "x",
            ],
            "mine",
            &json!({"EndpointsConfig": {"mine": {
                "IPAMConfig": {"IPv4Address": "10.0.0.5"}, "Aliases": ["db"]}}}),
        );
        check(
            &["--network", "name=a,alias=x", "--network", "b", "x"],
            "a",
            &json!({"EndpointsConfig": {"a": {"Aliases": ["x"]}, "b": {}}}),
        );
    }

    #[test]
    fn conflicts() {
        for args in [
            &["--network", "none", "--ip", "10.0.0.1", "x"][..],
            &["--network", "a", "--network", "a", "x"],
            &["--network", "name=a,alias=x", "--network-alias", "y", "x"],
            &["--network", "alias=x", "x"],
        ] {
            assert!(
                networking(&super::super::container::parse(args)).is_err(),
                "{args:?}"
            );
        }
    }
}
