//! Commands that several files send.

use redis::Cmd;

/// `XADD` of these fields; the server assigns the id.
pub(super) fn add_command<V: redis::ToRedisArgs>(stream: &str, fields: &[(impl redis::ToRedisArgs, V)]) -> Cmd {
    let mut command = redis::cmd("XADD");
    command.arg(stream).arg("*");
    for (name, value) in fields {
        command.arg(name).arg(value);
    }
    command
}
