//! The rights that `init --dry-run` prints for PostgreSQL suffice for everything that the service does.

use std::process::Output;

use serde_json::Value;
use uuid::Uuid;

use crate::environment::Environment;

fn pairs(plan: &Value, list: &str) -> Vec<String> {
    let of_rows = |pair: &&Value| pair[0] == "postgres";
    plan[list].as_array().unwrap().iter().filter(of_rows).map(|pair| pair[1].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_works_with_just_the_rights_that_a_dry_run_prints() {
    let environment = Environment::new().await;
    let plan = || serde_json::from_str::<Value>(&environment.fine(&["init", "--dry-run", "--json"])).unwrap();
    let before = pairs(&plan(), "rights");
    assert!(before.iter().any(|statement| statement.contains("GRANT CONNECT, CREATE ON DATABASE")), "{before:?}");
    // The application has its table, which it owns.
    for statement in pairs(&plan(), "statements") {
        if statement.contains("EXTENSION") || (statement.contains("unified") && !statement.contains("PUBLICATION")) {
            environment.sql(&statement).await;
        }
    }
    let role = format!("service_{}", &environment.name[..12]);
    for statement in pairs(&plan(), "rights") {
        let statement = statement.replace("chunk_sync_service", &role).replace("'PASSWORD'", "'of-the-role'");
        environment.sql(&statement).await;
    }
    let (_, place) = environment.database.rsplit_once('@').unwrap();
    let url = format!("postgres://{role}:of-the-role@{place}");
    let fine = |arguments: &[&str]| {
        let output = environment.program(arguments).env("CHUNK_SYNC__POSTGRES__URL", &url).output().unwrap();
        let Output { status, stdout, stderr } = output;
        let (out, err) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
        assert!(status.success(), "{arguments:?}: {out}{err}");
        out.into_owned()
    };
    fine(&["init"]);
    fine(&["doctor"]);
    let run = environment.go_on(&[], &[("CHUNK_SYNC__POSTGRES__URL", &url)]);
    environment.publish(20);
    let id = Uuid::new_v4();
    environment
        .sql(&format!(
            "INSERT INTO unified.chunks (id, content, chunk_type, created_at, updated_at)
             VALUES ('{id}', 'a row of the application', 'text', now(), now())"
        ))
        .await;
    environment.visible("its node", || environment.has_node(id)).await;
    environment.sql(&format!("DELETE FROM unified.chunks WHERE id = '{id}'")).await;
    environment.visible("its end", || async { !environment.has_node(id).await }).await;
    environment.settled().await;
    run.terminate();
    fine(&["backfill"]);
    fine(&["run", "--drain"]);
    fine(&["status"]);
    let report: Value = serde_json::from_str(&fine(&["verify", "--json"])).unwrap();
    assert_eq!((&report["consistent"], &report["chunks"]), (&true.into(), &20.into()), "{report}");
    environment.sql(&format!("DROP OWNED BY {role} CASCADE; DROP ROLE {role}")).await;
}
