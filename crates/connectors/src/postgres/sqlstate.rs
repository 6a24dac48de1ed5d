//! The fault class of a SQLSTATE. Source: PostgreSQL's manual, appendix "PostgreSQL Error Codes".

use chunk_sync_engine::ports::FaultClass;

/// The class of a SQLSTATE: first the codes that differ from their class, then the class by the first two characters.
pub(super) fn class(code: &str) -> FaultClass {
    match code {
        // Completion unknown, or ended by a time limit.
        "40003" | "57014" | "25P03" | "25P04" => FaultClass::Timeout,
        "42501" => FaultClass::Denied,
        // Disk or memory of the server is full, or the server has become a standby. Not contention.
        "53100" | "53200" | "25006" => FaultClass::Unavailable,
        "55000" | "57P04" => FaultClass::Misconfigured,
        "XX001" | "XX002" => FaultClass::Corrupt,
        _ => kind(code.get(..2).unwrap_or_default()),
    }
}

fn kind(kind: &str) -> FaultClass {
    match kind {
        // Rollback, insufficient resources, object in use, snapshot too old.
        "40" | "53" | "55" | "72" => FaultClass::Busy,
        "28" => FaultClass::Denied,
        // Feature not supported; unknown statement, database, schema, table or column; syntax; configuration file.
        "0A" | "26" | "3D" | "3F" | "42" | "F0" => FaultClass::Misconfigured,
        // The value, a constraint, a trigger or a program limit refuses the row.
        "09" | "21" | "22" | "23" | "27" | "2F" | "38" | "39" | "44" | "54" | "P0" => FaultClass::Rejected,
        // Connection, operator intervention, system errors, and every other failure of the server.
        _ => FaultClass::Unavailable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_code_has_the_class_with_the_right_reaction() {
        for (expected, codes) in [
            (FaultClass::Busy, &["40001", "40P01", "55P03", "55006", "53300"][..]),
            (FaultClass::Unavailable, &["08006", "57P01", "57P02", "57P03", "53100", "58030", "25006", "XX000"]),
            (FaultClass::Timeout, &["57014", "25P03"]),
            (FaultClass::Denied, &["28000", "28P01", "42501"]),
            (FaultClass::Misconfigured, &["3D000", "3F000", "42P01", "42703", "42704", "42804", "0A000"]),
            (FaultClass::Rejected, &["22021", "22P05", "22001", "22003", "22000", "23502", "23514", "54000", "P0001"]),
            (FaultClass::Corrupt, &["XX001", "XX002"]),
        ] {
            for code in codes {
                assert_eq!(class(code), expected, "{code}");
            }
        }
    }

    #[test]
    fn an_unknown_code_is_unavailable() {
        for code in ["", "Z", "ZZ999"] {
            assert_eq!(class(code), FaultClass::Unavailable, "{code}");
        }
    }
}
