//! The rights that the service needs, as rules of an ACL.

/// The commands that the service sends itself.
const COMMANDS: &str = "+ping +info +role +time +select +get +set +pttl +xadd +xread +xack +xdel +xinfo +eval \
                        +evalsha +script|load +memory|usage";

/// The commands of its scripts, besides those.
const OF_SCRIPTS: &str = "+exists +hget +hset +hdel +hkeys +hgetall +hincrby +xlen +xrange +xclaim +xpending +xgroup \
                          +xreadgroup +xtrim";

/// The command that creates a user with these rights. `PASSWORD` stands for the password.
#[must_use]
pub fn rights(stream: &str, dead_stream: &str) -> String {
    let keys = [stream.to_owned(), format!("{stream}:*"), dead_stream.to_owned()];
    let keys: Vec<String> = keys.iter().map(|key| format!("~{key}")).collect();
    format!(
        "ACL SETUSER chunk-sync on >PASSWORD resetkeys {} resetchannels -@all {COMMANDS} {OF_SCRIPTS}",
        keys.join(" ")
    )
}
