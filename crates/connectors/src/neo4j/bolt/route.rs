//! The routing table of a database: which servers take writes, and which servers know that.

use std::time::Duration;

use super::value::Value;

/// The shortest time that a table is used, whatever the server states.
const LEAST: Duration = Duration::from_secs(1);

/// A routing table. Its addresses have the form `host:port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in super::super) struct Route {
    pub(in super::super) writers: Vec<String>,
    pub(in super::super) routers: Vec<String>,
    /// How long the table may be used.
    pub(in super::super) valid: Duration,
    /// Whether one server has all the roles. It may name itself by an address that is not reachable from here.
    pub(in super::super) single: bool,
}

impl Route {
    /// Parses the field `rt` of the response to ROUTE: `{ttl, servers: [{role, addresses: [..]}]}`.
    pub(super) fn of(table: &Value) -> Option<Self> {
        let Value::Map(table) = table else { return None };
        let (Some(Value::Integer(seconds)), Some(Value::List(servers))) = (table.get("ttl"), table.get("servers"))
        else {
            return None;
        };
        let (mut writers, mut routers, mut all) = (Vec::new(), Vec::new(), Vec::new());
        for server in servers {
            let Value::Map(server) = server else { return None };
            let (Some(Value::Text(role)), Some(Value::List(addresses))) = (server.get("role"), server.get("addresses"))
            else {
                return None;
            };
            let addresses = addresses.iter().filter_map(|address| match address {
                Value::Text(address) => Some(address.clone()),
                _ => None,
            });
            let addresses: Vec<_> = addresses.collect();
            all.extend(addresses.iter().cloned());
            match role.as_str() {
                "WRITE" => writers.extend(addresses),
                "ROUTE" => routers.extend(addresses),
                _ => {}
            }
        }
        let single = !writers.is_empty() && all.iter().all(|address| *address == writers[0]);
        let valid = Duration::from_secs(u64::try_from(*seconds).unwrap_or_default()).max(LEAST);
        Some(Self { writers, routers, valid, single })
    }
}
