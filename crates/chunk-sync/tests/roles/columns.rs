//! The columns of the table change while the service captures it.

use crate::environment::{Environment, Role};

async fn row(environment: &Environment, columns: &str, values: &str) {
    environment
        .sql(&format!(
            "INSERT INTO unified.chunks (id, content, chunk_type, created_at, updated_at{columns})
             VALUES (gen_random_uuid(), 'a row between changes of columns', 'text', now(), now(){values})"
        ))
        .await;
}

/// The finding of `doctor` about the table, as a person reads it.
fn doctor(environment: &Environment) -> String {
    let output = environment.program(&["doctor", "--problems"]).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn columns_are_added_retyped_renamed_and_dropped_and_every_row_arrives() {
    let environment = Environment::new(&[Role::Postgres, Role::Neo4j]).await;
    environment.fine(&["init"]);
    let service = environment.start_with(&[]);
    row(&environment, "", "").await;
    let mut rows = 1;
    environment.until_nodes("the row before", rows).await;
    for (change, columns, values) in [
        ("ALTER TABLE unified.chunks ADD COLUMN owner_name text DEFAULT 'unknown'", ", owner_name", ", 'Ann'"),
        ("ALTER TABLE unified.chunks ALTER COLUMN relative_path TYPE varchar(2000)", ", relative_path", ", 'a/b.rs'"),
        ("ALTER TABLE unified.chunks ALTER COLUMN start_line TYPE bigint", ", start_line, end_line", ", 7, 9"),
        ("ALTER TABLE unified.chunks RENAME COLUMN owner_name TO owned_by", ", owned_by", ", 'Ben'"),
        ("ALTER TABLE unified.chunks DROP COLUMN owned_by", "", ""),
    ] {
        environment.sql(change).await;
        row(&environment, columns, values).await;
        rows += 1;
        environment.until_nodes(change, rows).await;
    }
    // Columns that the service needs: it waits, and `doctor` names what went.
    for (change, words, repair) in [
        (
            "ALTER TABLE unified.chunks DROP COLUMN language",
            "ADD COLUMN language text",
            "ALTER TABLE unified.chunks ADD COLUMN language text",
        ),
        (
            "ALTER TABLE unified.chunks RENAME COLUMN summary TO abstract",
            "summary",
            "ALTER TABLE unified.chunks RENAME COLUMN abstract TO summary",
        ),
    ] {
        environment.sql(change).await;
        row(&environment, "", "").await;
        rows += 1;
        let text = doctor(&environment);
        assert!(text.contains(words), "{change}: no `{words}` in:\n{text}");
        eprintln!("== {change}\n{text}");
        environment.sql(repair).await;
        environment.until_nodes(change, rows).await;
    }
    environment.settled();
    service.terminate();
    environment.assert_equal(usize::try_from(rows).unwrap());
    assert_eq!(environment.fine(&["dead", "list"])["total"], 0);
}
