//! Troubles of ordinary installations. Each happens, lasts for a while, and is over when its function returns; what it did
//! to the stores by hand stays for the repair.

use neo4rs::query;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::sleep;
use tokio_postgres::{Client, NoTls};
use uuid::Uuid;

use super::application::{Application, chunk, fields, published};
use super::hardships::{self, WHILE};
use super::installation::Installation;
use super::stream;
use crate::proxy::{LinkState, Proxy};

/// The function of an application's or operator's trigger that sets the time of an update, as `moddatetime` does.
const TOUCH: &str = "CREATE OR REPLACE FUNCTION public.touch() RETURNS trigger LANGUAGE plpgsql AS
    $$ BEGIN NEW.updated_at := clock_timestamp(); RETURN NEW; END $$;
    CREATE TRIGGER touch BEFORE UPDATE ON unified.chunks FOR EACH ROW EXECUTE FUNCTION public.touch()";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Trouble {
    ServiceKilled,
    ServiceStopped,
    RowsLocked,
    RowsHidden,
    RightRevoked,
    DatabaseReadOnly,
    TableSwapped,
    TableUnpublished,
    SessionsTerminated,
    TransactionLeftOpen,
    TimesSetByTrigger,
    RowsChangedInBulk,
    EventsMalformed,
    RedisCut,
    QdrantStalled,
    Neo4jCut,
    Neo4jStalled,
    StoresDamaged,
    ConnectionsIdle,
    ChunkRefused,
    RowOversized,
    RowsInFlood,
    ChunkHeavy,
    EntryDeleted,
    ClientsSlow,
    RedisFull,
    StreamTrimmed,
    LimitWrong,
    HubGrown,
}

impl Trouble {
    pub(crate) const ALL: [Self; 29] = [
        Self::ServiceKilled,
        Self::ServiceStopped,
        Self::RowsLocked,
        Self::RowsHidden,
        Self::RightRevoked,
        Self::DatabaseReadOnly,
        Self::TableSwapped,
        Self::TableUnpublished,
        Self::SessionsTerminated,
        Self::TransactionLeftOpen,
        Self::TimesSetByTrigger,
        Self::RowsChangedInBulk,
        Self::EventsMalformed,
        Self::RedisCut,
        Self::QdrantStalled,
        Self::Neo4jCut,
        Self::Neo4jStalled,
        Self::StoresDamaged,
        Self::ConnectionsIdle,
        Self::ChunkRefused,
        Self::RowOversized,
        Self::RowsInFlood,
        Self::ChunkHeavy,
        Self::EntryDeleted,
        Self::ClientsSlow,
        Self::RedisFull,
        Self::StreamTrimmed,
        Self::LimitWrong,
        Self::HubGrown,
    ];

    /// All, or those that `CHUNK_SYNC_FIELD_TROUBLES` names, separated by commas.
    pub(crate) fn selected() -> Vec<Self> {
        let names = std::env::var("CHUNK_SYNC_FIELD_TROUBLES").unwrap_or_default();
        let is_named = |trouble: &Self| names.split(',').any(|name| name == format!("{trouble:?}"));
        let named: Vec<Self> = Self::ALL.into_iter().filter(is_named).collect();
        if named.is_empty() { Self::ALL.to_vec() } else { named }
    }

    /// Makes the trouble, and ends it.
    pub(crate) async fn make(self, on: &Installation, application: &Application, random: u64) {
        match self {
            Self::ServiceKilled => on.signal("KILL").await,
            Self::ServiceStopped => {
                on.signal("STOP").await;
                sleep(WHILE).await;
                on.signal("CONT").await;
            }
            Self::RowsLocked => lock(on, random).await,
            Self::RowsHidden => {
                let (hide, show) = ("ENABLE ROW LEVEL SECURITY", "DISABLE ROW LEVEL SECURITY");
                let force = "ALTER TABLE unified.chunks FORCE ROW LEVEL SECURITY; ALTER TABLE unified.chunks";
                between(on, &format!("{force} {hide}"), &format!("ALTER TABLE unified.chunks {show}")).await;
            }
            Self::RightRevoked => {
                let (revoke, grant) = ("REVOKE ALL ON unified.chunks FROM", "GRANT ALL ON unified.chunks TO");
                let role = "chunk_sync_field";
                between(on, &format!("{revoke} {role}"), &format!("{grant} {role}")).await;
            }
            Self::DatabaseReadOnly => read_only(on).await,
            Self::TableSwapped => swap(on, application).await,
            Self::TableUnpublished => unpublish(on, application).await,
            Self::SessionsTerminated => terminate(on).await,
            Self::TransactionLeftOpen => {
                let client = superuser(on).await;
                client.batch_execute("BEGIN; CREATE TABLE public.left_open (a int)").await.unwrap();
                sleep(WHILE).await;
            }
            Self::TimesSetByTrigger => between(on, TOUCH, "DROP TRIGGER touch ON unified.chunks").await,
            Self::RowsChangedInBulk => bulk(on, application).await,
            Self::EventsMalformed => malformed(on, application).await,
            Self::RedisCut => link(&on.redis, LinkState::Cut).await,
            Self::QdrantStalled => link(&on.qdrant, LinkState::Stalled).await,
            Self::Neo4jCut => link(&on.neo4j, LinkState::Cut).await,
            Self::Neo4jStalled => link(&on.neo4j, LinkState::Stalled).await,
            Self::StoresDamaged => damage(on, random).await,
            Self::ConnectionsIdle => idle(on).await,
            Self::ChunkRefused => hardships::refuse(on, application).await,
            Self::RowOversized => hardships::oversize(on, application).await,
            Self::RowsInFlood => hardships::flood(on).await,
            Self::ChunkHeavy => hardships::heavy(on).await,
            Self::EntryDeleted => hardships::delete_entry(on, application).await,
            Self::ClientsSlow => hardships::dawdle(on).await,
            Self::RedisFull => stream::fill_memory(on).await,
            Self::StreamTrimmed => stream::trim(on, application).await,
            Self::LimitWrong => stream::limit(on).await,
            Self::HubGrown => stream::grow_hub(on).await,
        }
        sleep(WHILE / 2).await;
    }
}

async fn superuser(on: &Installation) -> Client {
    let (client, connection) = tokio_postgres::connect(&on.environment.database, NoTls).await.unwrap();
    tokio::spawn(connection);
    client
}

async fn sql(on: &Installation, statement: &str) {
    on.environment.sql(statement).await;
}

/// Executes the first statement, and the second one a while later.
async fn between(on: &Installation, first: &str, second: &str) {
    sql(on, first).await;
    sleep(WHILE).await;
    sql(on, second).await;
}

async fn terminate(on: &Installation) {
    let of = "datname = current_database() AND usename = 'chunk_sync_field'";
    sql(on, &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {of}")).await;
}

/// Locks rows that the publisher changes, as an open transaction of a person does.
async fn lock(on: &Installation, random: u64) {
    let client = superuser(on).await;
    client.batch_execute("BEGIN").await.unwrap();
    let ids: Vec<Uuid> = (0..5).map(|number| published(random.wrapping_add(number))).collect();
    client.execute("SELECT id FROM unified.chunks WHERE id = ANY($1) FOR UPDATE", &[&ids]).await.unwrap();
    sleep(WHILE).await;
    client.batch_execute("ROLLBACK").await.unwrap();
}

/// As a host does whose disk is nearly full. New sessions are affected, so the old ones end.
async fn read_only(on: &Installation) {
    let database = format!("chunk_sync_{}", on.environment.name);
    sql(on, &format!("ALTER ROLE chunk_sync_field IN DATABASE {database} SET default_transaction_read_only = on"))
        .await;
    terminate(on).await;
    sleep(WHILE).await;
    sql(on, &format!("ALTER ROLE chunk_sync_field IN DATABASE {database} RESET default_transaction_read_only")).await;
}

/// Another, emptier table takes the name for a while, during which the application does not write. Then an operator accepts
/// the table that has the name again.
async fn swap(on: &Installation, application: &Application) {
    let _turn = application.maintenance.write().await;
    let swap = "CREATE TABLE unified.chunks_new (LIKE unified.chunks INCLUDING ALL);
                ALTER TABLE unified.chunks_new OWNER TO chunk_sync_field;
                ALTER TABLE unified.chunks RENAME TO chunks_old; ALTER TABLE unified.chunks_new RENAME TO chunks";
    let back = "DROP TABLE unified.chunks; ALTER TABLE unified.chunks_old RENAME TO chunks";
    between(on, &format!("BEGIN; {swap}; COMMIT"), &format!("BEGIN; {back}; COMMIT")).await;
    on.fine(&["init", "--adopt"]);
}

/// Another session takes the table out of the publication; the service puts it back and looks for what it missed. The application
/// deletes nothing meanwhile: an absent row after a gap waits for an operator.
async fn unpublish(on: &Installation, application: &Application) {
    let _turn = application.maintenance.write().await;
    let publication = format!("unified_chunks_pub_{}", on.environment.name);
    sql(on, &format!("ALTER PUBLICATION {publication} DROP TABLE unified.chunks")).await;
    let there = format!("SELECT count(*) FROM pg_publication_tables WHERE pubname = '{publication}'");
    on.environment.visible("the published table", || async { on.environment.count(&there).await == 1 }).await;
}

/// One statement changes every row that the application wrote, and another one deletes a quarter of them.
async fn bulk(on: &Installation, application: &Application) {
    let _turn = application.maintenance.write().await;
    let client = superuser(on).await;
    let update = "UPDATE unified.chunks SET content = content || '!', updated_at = now()
                  WHERE content LIKE 'written%' RETURNING id, content";
    let updated = client.query(update, &[]).await.unwrap();
    application.expected().contents.extend(updated.iter().map(|row| (row.get(0), row.get(1))));
    let delete =
        "DELETE FROM unified.chunks WHERE content LIKE 'written%' AND id < '40000000-0000-0000-0000-000000000000'
                  RETURNING id";
    let deleted = client.query(delete, &[]).await.unwrap();
    for row in deleted {
        application.expected().contents.remove(&row.get::<_, Uuid>(0));
    }
}

/// Entries that must become dead letters; the good events around them must not.
async fn malformed(on: &Installation, application: &Application) {
    let id = Uuid::new_v4();
    let with = |pointer: &str, value: Value| {
        let mut chunk = chunk(id, "a malformed chunk");
        *chunk.pointer_mut(pointer).unwrap() = value;
        fields("create", &chunk)
    };
    let mut future = fields("create", &chunk(id, "a chunk of the future"));
    future.retain(|(name, _)| *name != "timestamp");
    future.push(("timestamp", "2099-01-01T00:00:00Z".to_owned()));
    let mut unknown = fields("creation", &chunk(id, "an event of an unknown type"));
    unknown.push(("writer", "operator".to_owned()));
    let entries = [
        with("/content", json!("x".repeat(80 << 10))),
        with("/content", json!("\u{1b}]0;title\u{7} short \u{0}")),
        with("/metadata/updated_at", json!("yesterday")),
        with("/location/end_char", json!(-1)),
        with("/graph/entities/0/confidence", json!(7)),
        with("/id", json!("no id")),
        with("/source", json!("x".repeat(5 << 20))),
        future,
        unknown,
        vec![("chunk", "{".to_owned())],
    ];
    for entry in entries {
        let id = on.environment.add(&entry).await;
        application.expected().malformed.insert(id);
    }
}

async fn link(proxy: &Proxy, state: LinkState) {
    proxy.turns(state);
    sleep(WHILE * 2).await;
    proxy.turns(LinkState::Fair);
}

/// Deletes a point and the node of another chunk by hand.
async fn damage(on: &Installation, random: u64) {
    on.environment.delete_points(&[published(random)]).await;
    let delete = query("MATCH (c:Chunk {id: $id}) DETACH DELETE c");
    on.environment.cypher(delete.param("id", published(random + 1).to_string())).await;
}

/// Idle connections do not keep a health check from its answer.
async fn idle(on: &Installation) {
    let mut connections = Vec::new();
    for _ in 0..300 {
        // The server may close or refuse some; the check below decides.
        connections.extend(TcpStream::connect(("127.0.0.1", on.http)).await.ok());
    }
    on.environment.visible("/healthz beside idle connections", || on.is_healthy()).await;
    drop(connections);
}
