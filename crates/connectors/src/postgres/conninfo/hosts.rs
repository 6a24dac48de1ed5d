//! The lists `host`, `hostaddr` and `port`.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::{Host, Refused};

/// The default port.
const PORT: u16 = 5432;

/// Combines the three lists. An empty host is the default socket; an empty port the default port; one port serves all.
pub(super) fn endpoints(
    hosts: Option<&str>,
    addresses: Option<&str>,
    ports: Option<&str>,
    sockets: &Path,
) -> Result<Vec<(Host, u16)>, Refused> {
    let list = |text: Option<&str>| -> Vec<String> {
        text.map_or_else(Vec::new, |text| text.split(',').map(|part| part.trim().to_owned()).collect())
    };
    let (hosts, addresses, ports) = (list(hosts), list(addresses), list(ports));
    if !hosts.is_empty() && !addresses.is_empty() && hosts.len() != addresses.len() {
        return Err(Refused(format!(
            "there are {} values of host and {} of hostaddr; write as many of one as of the other",
            hosts.len(),
            addresses.len()
        )));
    }
    let count = hosts.len().max(addresses.len()).max(1);
    if ports.len() > 1 && ports.len() != count {
        return Err(Refused(format!(
            "there are {} ports for {count} hosts; write one port, or one per host",
            ports.len()
        )));
    }
    (0..count)
        .map(|endpoint| {
            let host = host(hosts.get(endpoint), addresses.get(endpoint), sockets)?;
            Ok((host, port(ports.get(endpoint).or(ports.first()))?))
        })
        .collect()
}

fn host(host: Option<&String>, address: Option<&String>, sockets: &Path) -> Result<Host, Refused> {
    let given = |text: Option<&String>| text.filter(|text| !text.is_empty()).cloned();
    let (host, address) = (given(host), given(address));
    let parsed = address.as_deref().map(|text| {
        let wrong = || Refused(format!("hostaddr `{text}` is no IP address; write a name in host instead"));
        text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().map_err(|_| wrong())
    });
    let parsed = parsed.transpose()?;
    Ok(match (host, parsed) {
        (Some(name), Some(_)) if is_directory(&name) => {
            return Err(Refused(format!("host `{name}` is a directory and has a hostaddr; remove one of them")));
        }
        (Some(name), None) if is_directory(&name) => Host::Unix(name.into()),
        (Some(name), address) => Host::Tcp { name, address },
        (None, Some(address)) => Host::Tcp { name: address.to_string(), address: Some(address) },
        (None, None) => Host::Unix(sockets.to_owned()),
    })
}

fn is_directory(host: &str) -> bool {
    host.starts_with('/') || host.starts_with('@')
}

/// Checks every port of the list.
pub(super) fn check_ports(list: &str) -> Result<(), Refused> {
    list.split(',').try_for_each(|text| port(Some(&text.trim().to_owned())).map(drop))
}

fn port(text: Option<&String>) -> Result<u16, Refused> {
    let Some(text) = text.filter(|text| !text.is_empty()) else { return Ok(PORT) };
    let port = text.parse().ok().filter(|port| *port != 0);
    // The text may be the end of a password whose special characters were not encoded.
    port.ok_or_else(|| {
        Refused(
            "a port is no number between 1 and 65535; write special characters of a password as %40 (@), %2F (/)"
                .into(),
        )
    })
}

/// The path of the socket in `directory`.
pub(super) fn socket(directory: &Path, port: u16) -> PathBuf {
    directory.join(format!(".s.PGSQL.{port}"))
}
