//! The creation of tables, and the adaptation to existing ones.

use std::sync::Arc;

use chunk_sync_connectors::postgres::{PostgresConfig, PostgresRecords};
use chunk_sync_engine::ports::{Applied, ConflictLog as _, FaultClass, SystemOfRecord as _};
use chunk_sync_testkit::merging::Merging as _;
use chunk_sync_testkit::states::{awkward, states, write};

use crate::fixture::{Database, Pg15, Pg18};

/// A table as another program may have created it, with other types and additional columns.
const OTHERS: &str = "
    CREATE SCHEMA unified;
    CREATE TYPE unified.kind AS ENUM ('text', 'code', 'mixed');
    CREATE TABLE unified.chunks (
        note text DEFAULT 'theirs', legacy_id bigint, id uuid NOT NULL, content text NOT NULL, summary varchar,
        chunk_type unified.kind NOT NULL DEFAULT 'text', dense_vector real[], sparse_vector json,
        embedding_model varchar(99), source_type varchar(20) NOT NULL, source_url text, relative_path text,
        start_line smallint, end_line integer, start_char integer, end_char integer,
        project_id uuid, dataset_id uuid, cognee_dataset_id uuid, language text, file_extension text, is_code boolean,
        confidence real, graph_node_id text, entity_refs json NOT NULL, metadata json NOT NULL,
        created_at timestamp NOT NULL, updated_at timestamp, indexed_at timestamp, cognified_at timestamptz,
        seq bigint GENERATED ALWAYS AS IDENTITY, \"odd \"\"name\" int
    );
    CREATE UNIQUE INDEX ON unified.chunks (id);";

async fn all_come_back(records: &PostgresRecords) {
    let states: Vec<_> = awkward().into_iter().chain(states(20)).collect();
    let writes: Vec<_> = states.iter().map(|state| write(state, 5)).collect();
    for applied in records.apply(&writes).await {
        assert!(matches!(applied, Applied::Written), "{applied:?}");
    }
    let ids: Vec<_> = states.iter().map(|state| state.chunk.id).collect();
    for (state, seen) in states.iter().zip(records.fetch_documents(&ids).await.unwrap()) {
        let differing = seen.unwrap().document.differing(&records.expect(state));
        assert!(differing.is_empty(), "{differing:?} of {}", state.chunk.content);
    }
}

#[tokio::test]
async fn a_table_of_another_program_holds_every_state() {
    let database = Database::fresh::<Pg15>().await;
    database.meddle(OTHERS).await;
    let records = database.prepared().await;
    all_come_back(&records).await;
    let row =
        database.one("SELECT count(DISTINCT note), max(note), count(DISTINCT chunk_type) FROM unified.chunks").await;
    assert_eq!((row.get::<_, i64>(0), row.get::<_, &str>(1), row.get::<_, i64>(2)), (1, "theirs", 3));
}

#[tokio::test]
async fn a_vector_of_another_length_leaves_its_column_empty_and_is_not_lost() {
    let database = Database::fresh::<Pg18>().await;
    database.meddle("CREATE SCHEMA ext; CREATE EXTENSION vector SCHEMA ext").await;
    let records = database.prepared().await;
    database
        .meddle(
            "ALTER TABLE unified.chunks ALTER dense_vector TYPE ext.vector(3), \
             ALTER sparse_vector TYPE ext.sparsevec(7), ALTER confidence TYPE real",
        )
        .await;
    records.prepare().await.unwrap();
    all_come_back(&records).await;
    let row = database
        .one("SELECT count(dense_vector), (SELECT count(*) FROM chunk_sync.embeddings) FROM unified.chunks")
        .await;
    assert_eq!(row.get::<_, i64>(0), 0);
    assert!(row.get::<_, i64>(1) > 20);
}

#[tokio::test]
async fn the_statements_of_a_dry_run_leave_nothing_to_do() {
    for database in [Database::fresh::<Pg15>().await, Database::fresh::<Pg18>().await] {
        let records = database.records().await;
        let statements = records.statements().await.unwrap();
        assert_eq!(records.statements().await.unwrap(), statements, "the dry run changed the database");
        database.meddle(&statements.join(";\n")).await;
        assert!(records.statements().await.unwrap().is_empty());
        records.prepare().await.unwrap();
        all_come_back(&records).await;
    }
}

#[tokio::test]
async fn vectors_have_the_types_of_pgvector_if_it_is_available() {
    let types = "SELECT string_agg(format_type(atttypid, atttypmod), ' ' ORDER BY attnum) FROM pg_attribute
        WHERE attrelid = 'unified.chunks'::regclass AND attname IN ('dense_vector', 'sparse_vector')";
    let (old, new) = (Database::fresh::<Pg15>().await, Database::fresh::<Pg18>().await);
    for (database, expected) in [(old, "real[] jsonb"), (new, "vector(768) sparsevec(30522)")] {
        database.prepared().await;
        assert_eq!(database.one(types).await.get::<_, &str>(0), expected);
    }
}

#[tokio::test]
async fn without_the_right_to_create_the_extension_vectors_are_plain_arrays() {
    let database = Database::fresh::<Pg18>().await;
    let role = database.role("NOSUPERUSER").await;
    database.meddle(&format!("GRANT CREATE ON DATABASE {} TO {}", database.name, role.name)).await;
    let records = PostgresRecords::connect(role.config()).await.unwrap();
    records.prepare().await.unwrap();
    all_come_back(&records).await;
    // The right to create is needed only once.
    database.meddle(&format!("REVOKE CREATE ON DATABASE {} FROM {}", database.name, role.name)).await;
    records.prepare().await.unwrap();
    let other = PostgresRecords::connect(PostgresConfig { schema: "elsewhere".into(), ..role.config() }).await.unwrap();
    assert_eq!(other.prepare().await.unwrap_err().class, FaultClass::Denied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_prepare_at_the_same_time_all_succeed() {
    let database = Database::fresh::<Pg18>().await;
    let instances = (0..6).map(|_| {
        let config = database.config();
        tokio::spawn(async move { PostgresRecords::connect(config).await.unwrap().prepare().await })
    });
    for instance in instances.collect::<Vec<_>>() {
        instance.await.unwrap().unwrap();
    }
    assert!(database.one("SELECT count(*) = max(version) FROM chunk_sync.schema_version").await.get::<_, bool>(0));
}

#[tokio::test]
async fn names_with_special_characters_are_quoted() {
    let database = Database::fresh::<Pg15>().await;
    let (schema, table) = ("a\"; DROP TABLE x; --".to_owned(), "täble'$1".to_owned());
    let config = PostgresConfig { schema, table, ..database.config() };
    let records = PostgresRecords::connect(config).await.unwrap();
    records.prepare().await.unwrap();
    all_come_back(&records).await;
}

#[tokio::test]
async fn a_table_with_another_case_is_offered_and_none_is_created() {
    let database = Database::fresh::<Pg15>().await;
    let own = PostgresConfig { schema: "public".into(), table: "Chunk".into(), ..database.config() };
    PostgresRecords::connect(own.clone()).await.unwrap().prepare().await.unwrap();
    for (schema, table) in [("public", "chunk"), ("public", "CHUNK"), ("Public", "Chunk")] {
        let config = PostgresConfig { schema: schema.into(), table: table.into(), ..database.config() };
        let records = PostgresRecords::connect(config).await.unwrap();
        for fault in [records.prepare().await.unwrap_err(), records.statements().await.unwrap_err()] {
            assert_eq!(fault.class, FaultClass::Misconfigured, "{fault}");
            assert!(fault.message.contains("public.\"Chunk\""), "{fault}");
        }
    }
    let made = database.one("SELECT count(*) FROM pg_class WHERE lower(relname) = 'chunk' AND relkind = 'r'").await;
    assert_eq!(made.get::<_, i64>(0), 1);
    all_come_back(&PostgresRecords::connect(own).await.unwrap()).await;
}

#[tokio::test]
async fn columns_of_domains_hold_what_their_types_hold() {
    let database = Database::fresh::<Pg18>().await;
    let domains = "CREATE SCHEMA unified; CREATE DOMAIN unified.short AS varchar(20); \
        CREATE DOMAIN unified.named AS unified.short CHECK (VALUE <> ''); CREATE DOMAIN unified.filled AS text NOT NULL; \
        CREATE DOMAIN unified.facts AS jsonb; CREATE DOMAIN unified.line AS integer CHECK (VALUE >= 0); \
        CREATE DOMAIN unified.share AS real; CREATE DOMAIN unified.moment AS timestamptz; \
        CREATE EXTENSION vector; CREATE DOMAIN unified.dense AS vector(3);";
    let others = OTHERS.replace("CREATE SCHEMA unified;", domains);
    let others = others
        .replace("content text NOT NULL", "content unified.filled")
        .replace("source_type varchar(20)", "source_type unified.named")
        .replace("end_line integer", "end_line unified.line")
        .replace("confidence real", "confidence unified.share")
        .replace("metadata json", "metadata unified.facts")
        .replace("cognified_at timestamptz", "cognified_at unified.moment")
        .replace("dense_vector real[]", "dense_vector unified.dense");
    database.meddle(&others).await;
    all_come_back(&database.prepared().await).await;
}

#[tokio::test]
async fn a_column_that_rounds_vectors_is_refused_before_anything_is_made() {
    let database = Database::fresh::<Pg18>().await;
    let table = OTHERS.replace("dense_vector real[]", "dense_vector halfvec(3072)");
    database.meddle(&format!("CREATE EXTENSION vector; {table}")).await;
    let records = database.records().await;
    let fault = records.prepare().await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Misconfigured);
    let remedy = "ALTER TABLE \"unified\".\"chunks\" ALTER COLUMN dense_vector TYPE vector(3072)";
    assert!(fault.message.contains(remedy), "{fault}");
    assert_eq!(records.statements().await.unwrap_err().message, fault.message);
    assert!(!database.one("SELECT to_regnamespace('chunk_sync') IS NOT NULL").await.get::<_, bool>(0));
    database.meddle(remedy).await;
    database
        .meddle("CREATE INDEX ON unified.chunks USING hnsw ((dense_vector::halfvec(3072)) halfvec_cosine_ops)")
        .await;
    records.prepare().await.unwrap();
    all_come_back(&records).await;
}

#[tokio::test]
async fn an_unsuitable_table_is_refused_with_the_remedy() {
    let database = Database::fresh::<Pg15>().await;
    let records = database.prepared().await;
    for (harm, remedy) in [
        ("DROP COLUMN entity_refs", "ALTER TABLE \"unified\".\"chunks\" ADD COLUMN entity_refs jsonb"),
        ("ALTER summary SET NOT NULL", "ALTER TABLE \"unified\".\"chunks\" ALTER COLUMN summary DROP NOT NULL"),
        ("ADD theirs int NOT NULL", "ALTER TABLE \"unified\".\"chunks\" ALTER COLUMN \"theirs\" DROP NOT NULL"),
        ("DROP CONSTRAINT chunks_pkey", "ALTER TABLE \"unified\".\"chunks\" ADD PRIMARY KEY (id)"),
    ] {
        database.meddle(&format!("ALTER TABLE unified.chunks {harm}")).await;
        let fault = records.prepare().await.unwrap_err();
        assert_eq!(fault.class, FaultClass::Misconfigured, "{harm}");
        assert!(fault.message.contains(remedy), "{harm}: {}", fault.message);
        database.meddle(remedy).await;
        records.prepare().await.unwrap();
    }
    database.meddle("ALTER TABLE unified.chunks ALTER is_code TYPE text").await;
    let fault = records.prepare().await.unwrap_err();
    assert!(fault.message.contains("is_code") && fault.message.contains("boolean"), "{}", fault.message);
}

#[tokio::test]
async fn tables_of_an_older_version_are_migrated_and_keep_their_contents() {
    let database = Database::fresh::<Pg15>().await;
    let records = database.prepared().await;
    all_come_back(&records).await;
    // The state after the first migration.
    let older = "DO $$ DECLARE name text; BEGIN \
        FOR name IN SELECT tablename FROM pg_tables WHERE schemaname = 'chunk_sync' \
            AND tablename NOT IN ('records', 'outbox', 'embeddings', 'schema_version') \
        LOOP EXECUTE format('DROP TABLE chunk_sync.%I', name); END LOOP; \
        ALTER TABLE chunk_sync.records DROP COLUMN merged_at, DROP COLUMN swept, DROP COLUMN reserved, \
        DROP COLUMN reserved_stripped; \
        ALTER TABLE chunk_sync.outbox RENAME TO debts; \
        ALTER INDEX chunk_sync.outbox_by_age RENAME TO debts_by_age; \
        ALTER INDEX chunk_sync.outbox_pkey RENAME TO debts_pkey; \
        DELETE FROM chunk_sync.schema_version WHERE version > 1; END $$";
    database.meddle(older).await;
    let held = records.counts().await.unwrap();
    assert_eq!(records.open_conflicts().await.unwrap_err().class, FaultClass::Misconfigured);
    records.prepare().await.unwrap();
    assert_eq!(records.open_conflicts().await.unwrap(), 0);
    assert_eq!(records.counts().await.unwrap(), held);
}

#[tokio::test]
async fn tables_of_a_newer_version_are_refused() {
    let database = Database::fresh::<Pg15>().await;
    let records = database.prepared().await;
    database.meddle("INSERT INTO chunk_sync.schema_version (version) VALUES (1000)").await;
    let fault = records.prepare().await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Misconfigured);
    assert!(fault.message.contains("1000"), "{}", fault.message);
}

#[tokio::test]
async fn the_layout_is_read_again_after_the_table_is_altered() {
    let database = Database::fresh::<Pg15>().await;
    let records = Arc::new(database.prepared().await);
    all_come_back(&records).await;
    database
        .meddle("ALTER TABLE unified.chunks ALTER confidence TYPE real, ALTER end_char TYPE integer, ADD note text")
        .await;
    // The first call may fail with a transient fault, which must not persist.
    let state = states(1).remove(0);
    let first = records.apply(&[write(&state, 8)]).await.remove(0);
    assert!(!matches!(&first, Applied::Failed(fault) if !fault.policy().retries()), "{first:?}");
    let again = records.fetch_documents(&[state.chunk.id]).await;
    assert!(again.is_ok() || records.fetch_documents(&[state.chunk.id]).await.is_ok(), "{again:?}");
    assert!(records.apply(&[write(&state, 9)]).await[0].is_durable());
}

#[tokio::test]
async fn before_the_tables_exist_every_call_fails_with_the_remedy() {
    let database = Database::fresh::<Pg15>().await;
    let records = database.records().await;
    let fault = records.counts().await.unwrap_err();
    assert_eq!(fault.class, FaultClass::Misconfigured);
    assert!(fault.message.contains("chunk-sync init"), "{}", fault.message);
    database.prepared().await;
    assert_eq!(records.counts().await.unwrap().chunks, 0);
}
