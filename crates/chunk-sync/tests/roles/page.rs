//! The status page in a real browser on the real servers: under load, and while something is wrong. `cargo xtask browser` runs
//! it; screenshots go to the directory in CHUNK_SYNC_SHOTS.

#[path = "../browser/driver.rs"]
mod driver;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chunk_sync_testkit::qdrant_server::{Options, QdrantServer};

use crate::environment::{Environment, Role, Service, free_port, lines, variable};
use crate::proxy::{LinkState, Proxy, port_of};
use driver::Browser;

const READY: &str = "return document.getElementById('state').textContent === 'Ready' && \
    [...document.querySelectorAll('#stores .pill')].every(pill => pill.textContent === 'In sync')";

/// An installation with a role for replication whose right can be taken away, and a link to Neo4j that can be cut.
struct Scene {
    environment: Environment,
    _vectors: QdrantServer,
    link: Proxy,
    role: String,
    variables: Vec<(&'static str, String)>,
    address: String,
}

impl Scene {
    async fn new() -> Self {
        let environment = Environment::new(&[Role::Postgres, Role::Redis, Role::Neo4j]).await;
        let vectors = QdrantServer::start(&environment.dir().join("qdrant"), &Options::default()).await;
        environment.also(&format!("qdrant.url = '{}'", vectors.url()));
        environment.fine(&["init"]);
        let role = format!("replicates_{}", &environment.name[..12]);
        environment.sql(&format!("CREATE ROLE {role} LOGIN REPLICATION PASSWORD 'of-the-role'")).await;
        let database = environment.database();
        let (_, place) = database.rsplit_once('@').unwrap();
        let replication = format!("postgres://{role}:of-the-role@{place}");
        let graph = variable("NEO4J_URL");
        let link = Proxy::to(port_of(&graph)).await;
        let address = format!("127.0.0.1:{}", free_port());
        let variables = vec![
            ("CHUNK_SYNC__POSTGRES__REPLICATION_URL", replication),
            ("CHUNK_SYNC__NEO4J__URL", link.url(&graph)),
            ("CHUNK_SYNC__SCRUB__ENABLED", "true".to_owned()),
            ("CHUNK_SYNC__SCRUB__INTERVAL", "10s".to_owned()),
            ("CHUNK_SYNC__HTTP__LISTEN", address.clone()),
            ("CHUNK_SYNC__WORKER__PATIENCE", "2s".to_owned()),
        ];
        Self { environment, _vectors: vectors, link, role, variables, address }
    }

    fn run(&self) -> Service {
        let variables: Vec<_> = self.variables.iter().map(|(name, value)| (*name, value.as_str())).collect();
        self.environment.start_with(&variables)
    }

    /// Takes the right to replicate away, and ends the replication connection.
    async fn forbid_replication(&self) {
        let Self { environment, role, .. } = self;
        environment
            .sql(&format!(
                "ALTER ROLE {role} NOREPLICATION;
                 SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots
                 WHERE slot_name = 'chunk_sync_slot_{}' AND active",
                environment.name
            ))
            .await;
    }
}

/// Publishes chunks, some of them again, until `ends` is set.
fn load(environment: &Environment, ends: &AtomicBool) {
    let all = lines(1_000);
    // Few enough that a busy machine writes to the graph what was held back within the time that a test waits.
    for batch in all.chunks(3).cycle() {
        if ends.load(Ordering::Relaxed) {
            return;
        }
        environment.publish_lines(batch);
        std::thread::sleep(Duration::from_millis(150));
    }
}

/// A screenshot of the wide screen and of the phone.
fn both(browser: &Browser, name: &str) {
    browser.emulate(false, "light");
    browser.shot(name);
    browser.emulate(true, "dark");
    browser.shot(&format!("{name}-phone"));
    assert_eq!(browser.run("return document.documentElement.scrollWidth <= innerWidth"), true, "{name}");
    browser.emulate(false, "light");
}

/// Waits until the page names a reason with these words.
fn reason(browser: &Browser, words: &str) {
    browser.until(&format!("return document.getElementById('reasons').textContent.includes('{words}')"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs chromium and chromedriver; run `cargo xtask browser`"]
async fn the_page_names_what_is_wrong_and_what_to_do() {
    let scene = Arc::new(Scene::new().await);
    let mut run = scene.run();
    let ends = Arc::new(AtomicBool::new(false));
    let loading = tokio::task::spawn_blocking({
        let (scene, ends) = (Arc::clone(&scene), Arc::clone(&ends));
        move || load(&scene.environment, &ends)
    });
    let browser = Browser::open(1200, 900);
    browser.go(&scene.address);
    browser.until("return document.querySelectorAll('#flow .line').length > 0");

    tokio::time::sleep(Duration::from_secs(20)).await;
    both(&browser, "load");
    browser.emulate(false, "dark");
    browser.shot("load-dark");

    scene.link.turns(LinkState::Cut);
    browser.until("return document.getElementById('state').textContent === 'Ready, but Neo4j fails'");
    browser.until("return /[1-9][0-9]* chunks in its outbox/.test(document.getElementById('stores').textContent)");
    tokio::time::sleep(Duration::from_secs(5)).await;
    both(&browser, "store-behind");
    scene.link.turns(LinkState::Fair);
    ends.store(true, Ordering::Relaxed);
    loading.await.unwrap();
    browser.until(READY);

    scene.environment.cypher("MATCH (c:Chunk) WITH c LIMIT 3 DETACH DELETE c").await;
    browser.until("return document.getElementById('differing').textContent.includes('missing in Neo4j')");
    both(&browser, "differs");
    browser.until("return document.getElementById('consistency').textContent === '100'");

    scene.forbid_replication().await;
    reason(&browser, "Capture: not running");
    reason(&browser, "REPLICATION");
    both(&browser, "capture-down");
    scene.environment.sql(&format!("ALTER ROLE {} REPLICATION", scene.role)).await;
    browser.until(READY);

    scene.environment.sql("TRUNCATE unified.chunks").await;
    reason(&browser, "--absent delete");
    browser.until("return document.getElementById('figures').textContent.includes('Deletions held')");
    both(&browser, "deletions-held");

    run.kill();
    browser.until("return document.getElementById('silence').textContent.startsWith('The service does not respond')");
    both(&browser, "killed");
    run = scene.run();
    browser.until("return document.getElementById('silence').hidden");
    reason(&browser, "--absent delete");
    assert_eq!(browser.errors(), Vec::<String>::new());
    drop(run);
    scene.environment.sql(&format!("DROP ROLE {}", scene.role)).await;
}
