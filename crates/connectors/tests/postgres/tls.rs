//! A server with TLS: every `sslmode` with right and wrong certificates, certificates of clients, channel binding; for the
//! rows and for the replication connection alike.

use std::path::Path;
use std::sync::Arc;

use chunk_sync_connectors::postgres::{CaptureConfig, Plugin, PostgresConfig, Publish, examine};
use chunk_sync_engine::ports::Level;
use chunk_sync_testkit::eventually;
use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, KeyUsagePurpose, date_time_ymd,
};

use crate::fixture::{Pg18, Server as _};
use crate::own_server::{OwnServer, PASSWORD};

type Authority = CertifiedIssuer<'static, KeyPair>;

fn authority() -> Authority {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.distinguished_name.push(DnType::CommonName, "an authority of the test");
    CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
}

/// Certificate and key, in PEM.
struct Identity {
    certificate: String,
    key: String,
}

fn identity(authority: &Authority, name: &str, last_year: i32) -> Identity {
    let mut params = CertificateParams::new([name.to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(last_year, 1, 1);
    let key = KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, authority).unwrap();
    Identity { certificate: certificate.pem(), key: key.serialize_pem() }
}

const RULES: &str = "hostssl all certified 127.0.0.1/32 cert\nhost all hashed 127.0.0.1/32 md5\n\
    host all all 127.0.0.1/32 scram-sha-256\n";

/// Levels of the findings about the rows and the replication, and all texts.
async fn seen(rows: &str, replication: &str) -> (bool, bool, String) {
    let config = PostgresConfig::new(rows.into(), Arc::default());
    let capture = CaptureConfig {
        url: replication.into(),
        publication: "tls_pub".to_owned(),
        publish: Publish::Least,
        slot: "tls_slot".to_owned(),
        plugin: Plugin::default(),
        silence: CaptureConfig::SILENCE,
    };
    let found = examine(&config, &capture).await;
    let is_ok = |subject: &str| found.iter().any(|f| f.subject == subject && f.level == Level::Ok);
    (is_ok("server"), is_ok("replication"), format!("{found:?}"))
}

async fn connects(rows: &str, replication: &str) -> Result<(), String> {
    let (by_rows, by_replication, text) = seen(rows, replication).await;
    if by_rows && by_replication { Ok(()) } else { Err(format!("{rows}: {text}")) }
}

/// Both connections are refused, and the text has `words`.
async fn is_refused(plain: &str, url: &str, words: &str) -> Result<(), String> {
    let (by_rows, _, text) = seen(url, plain).await;
    if by_rows || !text.contains(words) {
        return Err(format!("rows by {url}: {text}"));
    }
    let (_, by_replication, text) = seen(plain, url).await;
    if by_replication || !text.contains(words) {
        return Err(format!("replication by {url}: {text}"));
    }
    Ok(())
}

fn file(directory: &Path, name: &str, content: &str) -> String {
    let path = directory.join(name);
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    path.display().to_string()
}

struct Files {
    _directory: tempfile::TempDir,
    ca: String,
    certificate: String,
    key: String,
}

struct Setup {
    server: OwnServer,
    authority: Authority,
    files: Files,
}

impl Setup {
    async fn start() -> Self {
        let authority = authority();
        let directory = tempfile::tempdir().unwrap();
        let client = identity(&authority, "certified", 2100);
        let files = Files {
            ca: file(directory.path(), "ca.pem", &authority.pem()),
            certificate: file(directory.path(), "client.pem", &client.certificate),
            key: file(directory.path(), "client.key", &client.key),
            _directory: directory,
        };
        let mut server = OwnServer::new(RULES);
        let right = identity(&authority, "db.test", 2100);
        let certificate = server.write("server.pem", &right.certificate);
        let key = server.write("server.key", &right.key);
        let ca = server.write("ca.pem", &authority.pem());
        let settings = [
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", certificate.display()),
            format!("ssl_key_file={}", key.display()),
            format!("ssl_ca_file={}", ca.display()),
            "wal_level=logical".to_owned(),
        ];
        server.start(&settings.each_ref().map(String::as_str)).await;
        let roles = format!(
            "CREATE ROLE certified SUPERUSER LOGIN; SET password_encryption = 'md5'; \
             CREATE ROLE hashed SUPERUSER LOGIN PASSWORD '{PASSWORD}'"
        );
        server.client().await.batch_execute(&roles).await.unwrap();
        Self { server, authority, files }
    }

    /// The server under the name `db.test`.
    fn url(&self, user: &str, options: &str) -> String {
        let port = self.server.port;
        format!("postgres://{user}@db.test:{port}/postgres?hostaddr=127.0.0.1&{options}")
    }

    fn by_password(&self, options: &str) -> String {
        self.url(&format!("postgres:{PASSWORD}"), options)
    }

    async fn present(&self, identity: &Identity) {
        self.server.write("server.pem", &identity.certificate);
        self.server.write("server.key", &identity.key);
        self.server.client().await.batch_execute("SELECT pg_reload_conf()").await.unwrap();
    }

    async fn certificates(&self) {
        let ca = &self.files.ca;
        let modes = ["require&sslrootcert", "verify-ca&sslrootcert", "verify-full&sslrootcert"];
        let modes = modes.map(|mode| self.by_password(&format!("sslmode={mode}={ca}")));
        let unverified =
            ["disable", "allow", "prefer", "require"].map(|mode| self.by_password(&format!("sslmode={mode}")));
        let plain = &unverified[0];
        for (identity, words, accepted) in [
            (identity(&self.authority, "db.test", 2100), "", 3),
            (identity(&self.authority, "other.test", 2100), "other.test", 2),
            (identity(&self.authority, "db.test", 2021), "expired", 0),
            (identity(&authority(), "db.test", 2100), "sslrootcert", 0),
        ] {
            self.present(&identity).await;
            for url in modes.iter().skip(accepted) {
                eventually(|| is_refused(plain, url, words)).await;
            }
            for url in modes.iter().take(accepted).chain(&unverified) {
                eventually(|| connects(url, url)).await;
            }
        }
    }

    async fn clients(&self) {
        let (plain, mode) = (self.by_password("sslmode=disable"), "sslmode=require");
        let Files { certificate, key, .. } = &self.files;
        let with = self.url("certified", &format!("{mode}&sslcert={certificate}&sslkey={key}"));
        eventually(|| connects(&with, &with)).await;
        let without = self.url("certified", mode);
        eventually(|| is_refused(&plain, &without, "certificate")).await;
        // The key is not the one of the certificate.
        let crossed = self.url("certified", &format!("{mode}&sslcert={}&sslkey={key}", self.files.ca));
        eventually(|| is_refused(&plain, &crossed, "sslkey")).await;
    }

    async fn bindings(&self) {
        let plain = self.by_password("sslmode=disable");
        for options in ["channel_binding=require&sslmode=require", "channel_binding=disable&sslmode=require"] {
            let url = self.by_password(options);
            eventually(|| connects(&url, &url)).await;
        }
        let hashed = format!("hashed:{PASSWORD}");
        for options in ["sslmode=require", "sslmode=disable"] {
            let url = self.url(&hashed, options);
            eventually(|| connects(&url, &url)).await;
        }
        let url = self.url(&hashed, "channel_binding=require&sslmode=require");
        eventually(|| is_refused(&plain, &url, "channel binding")).await;
    }
}

/// The forms of the guide for providers, on a server that has the certificate of their names.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_forms_of_providers_log_in_with_scram_and_channel_binding() {
    let setup = Setup::start().await;
    let role = format!("CREATE ROLE \"postgres.ref\" SUPERUSER LOGIN PASSWORD '{PASSWORD}'");
    setup.server.client().await.batch_execute(&role).await.unwrap();
    let ca = &setup.files.ca;
    for user in ["postgres", "postgres.ref"] {
        for options in [
            "sslmode=require",
            "sslmode=require&channel_binding=require",
            &format!("sslmode=verify-full&sslrootcert={ca}"),
            &format!("sslmode=verify-full&sslrootcert={ca}&channel_binding=require"),
        ] {
            let url = setup.url(&format!("{user}:{PASSWORD}"), options).replace("postgres://", "postgresql://");
            eventually(|| connects(&url, &url)).await;
        }
    }
    let wrong = setup.url("postgres.ref:another", "sslmode=require&channel_binding=require");
    let plain = setup.by_password("sslmode=disable");
    eventually(|| is_refused(&plain, &wrong, "password")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_sslmode_accepts_and_refuses_what_libpq_does() {
    let setup = Setup::start().await;
    setup.certificates().await;
    let right = identity(&setup.authority, "db.test", 2100);
    setup.present(&right).await;
    setup.clients().await;
    setup.bindings().await;
}

#[tokio::test]
async fn a_server_without_tls_is_named() {
    let url = std::env::var(Pg18::VARIABLE).unwrap();
    let encrypted = format!("{url}?sslmode=require");
    eventually(|| is_refused(&url, &encrypted, "does not support TLS")).await;
}
