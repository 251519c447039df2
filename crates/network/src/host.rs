//! What must be so on the host side: bridges with their address, forwarding.

use crate::link::{LinkIndex, Links, MacAddress};
use model::ipam::Cidr;
use std::io::{self, Write};
use std::path::Path;

/// Makes a bridge unless it exists, gives it its address and brings it up.
///
/// Published ports are reachable over the host's loopback, so packets with a loopback address may
/// leave through the bridge (`route_localnet`); the firewall keeps them from coming in.
///
/// # Errors
/// As the kernel answers, and [`io::ErrorKind::AlreadyExists`] if the name belongs to a device of
/// another kind.
pub fn ensure_bridge(
    links: &mut Links,
    name: &str,
    address: Cidr,
    mtu: Option<u32>,
) -> io::Result<LinkIndex> {
    let index = match links.find(name)? {
        Some(link) if link.kind == "bridge" => link.index,
        Some(link) => {
            let message = format!("{name} exists and is no bridge ({})", link.kind);
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
        }
        None => {
            links.create_bridge(name, MacAddress::of_address(address.address()), mtu)?;
            links
                .find(name)?
                .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?
                .index
        }
    };
    links.add_address(index, address)?;
    set_device_option(name, "route_localnet", "1")?;
    links.set_up(index)?;
    Ok(index)
}

/// Turns on IPv4 forwarding in the calling thread's namespace, unless it is on.
///
/// # Errors
/// As write(2) on the setting.
pub fn enable_forwarding() -> io::Result<()> {
    let path = Path::new("/proc/sys/net/ipv4/ip_forward");
    if std::fs::read(path)?.starts_with(b"0") {
        write_setting(path, "1")?;
    }
    Ok(())
}

/// Sets an IPv4 option of a device (`/proc/sys/net/ipv4/conf/<device>/…`).
///
/// # Errors
/// As write(2) on the setting.
pub fn set_device_option(device: &str, option: &str, value: &str) -> io::Result<()> {
    let path = Path::new("/proc/sys/net/ipv4/conf")
        .join(device)
        .join(option);
    write_setting(&path, value)
}

/// Writes a kernel setting; never makes a file where the kernel has none.
pub(crate) fn write_setting(path: &Path, value: &str) -> io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).open(path)?;
    file.write_all(value.as_bytes())
}
