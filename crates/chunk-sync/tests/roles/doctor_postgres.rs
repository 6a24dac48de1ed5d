//! `doctor` on broken set-ups of PostgreSQL and on a sound one, as a person sees it.

use crate::environment::{Environment, Role};

/// A broken set-up: statements that break it, variables, what `doctor` must print, and statements that repair it.
struct Broken<'a> {
    name: &'a str,
    before: String,
    variables: Vec<(&'a str, String)>,
    words: &'a [&'a str],
    after: String,
}

impl<'a> Broken<'a> {
    fn by_sql(name: &'a str, before: impl Into<String>, words: &'a [&'a str], after: impl Into<String>) -> Self {
        Self { name, before: before.into(), variables: Vec::new(), words, after: after.into() }
    }

    fn by_url(name: &'a str, url: String, words: &'a [&'a str]) -> Self {
        Self { variables: vec![("CHUNK_SYNC__POSTGRES__URL", url)], ..Self::by_sql(name, "", words, "") }
    }
}

fn broken(environment: &Environment, role: &str) -> Vec<Broken<'static>> {
    let (name, url) = (&environment.name, &environment.database());
    let (_, place) = url.rsplit_once('@').unwrap();
    let (server, _) = url.rsplit_once('/').unwrap();
    let publication = format!("unified_chunks_pub_{name}");
    let of_role = format!("postgres://{role}:of-the-role@{place}");
    let other_case = Broken {
        variables: vec![("CHUNK_SYNC__POSTGRES__TABLE", "unified.\"Chunks\"".to_owned())],
        ..Broken::by_sql("a table in another case", "", &["\"Chunks\" is gone", "init --adopt"], "")
    };
    let hidden = Broken {
        variables: vec![("CHUNK_SYNC__POSTGRES__URL", of_role.clone())],
        ..Broken::by_sql(
            "row level security",
            format!(
                "GRANT ALL ON SCHEMA unified, chunk_sync TO {role}; GRANT ALL ON ALL TABLES IN SCHEMA unified, chunk_sync \
                 TO {role}; ALTER TABLE unified.chunks ENABLE ROW LEVEL SECURITY"
            ),
            &["BYPASSRLS"],
            "ALTER TABLE unified.chunks DISABLE ROW LEVEL SECURITY",
        )
    };
    vec![
        Broken::by_url("a role that is not there", format!("postgres://stranger:x@{place}"), &["stranger"]),
        Broken::by_url("a database that is not there", format!("{server}/nowhere"), &["nowhere"]),
        Broken::by_url("a closed port", "postgres://u:p@127.0.0.1:1/d".to_owned(), &["NO ANSWER", "127.0.0.1:1"]),
        Broken::by_url("TLS that the server has not", format!("{url}?sslmode=require"), &["TLS"]),
        Broken::by_url("a role without rights", of_role, &["lacks rights", "GRANT", "REPLICATION"]),
        Broken::by_sql(
            "a read-only database",
            format!("ALTER DATABASE chunk_sync_{name} SET default_transaction_read_only = on"),
            &["read-only", "make room", "0 without answer"],
            format!("SET transaction_read_only = off; ALTER DATABASE chunk_sync_{name} RESET ALL"),
        ),
        Broken::by_sql(
            "no replica identity",
            "ALTER TABLE unified.chunks REPLICA IDENTITY NOTHING",
            &["REPLICA IDENTITY"],
            "ALTER TABLE unified.chunks REPLICA IDENTITY DEFAULT",
        ),
        Broken::by_sql(
            "a column that was dropped",
            "ALTER TABLE unified.chunks DROP COLUMN language",
            &["ADD COLUMN language text"],
            "ALTER TABLE unified.chunks ADD COLUMN language text",
        ),
        Broken::by_sql(
            "a publication without the table",
            format!("ALTER PUBLICATION {publication} DROP TABLE unified.chunks"),
            &["ALTER PUBLICATION", "ADD TABLE"],
            format!("ALTER PUBLICATION {publication} ADD TABLE unified.chunks (id)"),
        ),
        other_case,
        hidden,
    ]
}

/// The exit code of `doctor`, and what it prints about PostgreSQL.
fn doctor(environment: &Environment, arguments: &[&str], variables: &[(&str, String)]) -> (Option<i32>, String) {
    let mut command = environment.program(&[&["doctor"][..], arguments].concat());
    let output = command.envs(variables.iter().map(|(name, value)| (name, value))).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eleven_broken_databases_are_reported_with_the_remedy_and_a_sound_one_is_not() {
    let environment = Environment::new(&[Role::Postgres, Role::Neo4j]).await;
    environment.fine(&["init"]);
    let (code, text) = doctor(&environment, &[], &[]);
    eprintln!("== a sound set-up: exit {code:?}\n{text}");
    assert!(code == Some(0) && text.contains("0 failed, 0 without answer"), "{text}");
    let role = format!("doctored_{}", &environment.name[..12]);
    environment.sql(&format!("CREATE ROLE {role} LOGIN PASSWORD 'of-the-role'")).await;
    for Broken { name, before, variables, words, after } in broken(&environment, &role) {
        environment.sql(&before).await;
        let (code, text) = doctor(&environment, &["--problems"], &variables);
        environment.sql(&after).await;
        eprintln!("== {name}: exit {code:?}\n{text}");
        assert!(matches!(code, Some(1 | 3)), "{name}: {code:?}: {text}");
        assert!(!text.contains("of-the-role"), "{text}");
        for words in words {
            assert!(text.contains(words), "{name}: no `{words}` in:\n{text}");
        }
    }
    assert_eq!(doctor(&environment, &[], &[]).0, Some(0), "every repair took effect");
    environment.sql(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).await;
}
