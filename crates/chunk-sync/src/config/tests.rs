#![allow(clippy::unwrap_used)]

use std::time::Duration;

use secrecy::ExposeSecret;

use super::*;

fn with(file: &str, environment: &[(&str, &str)]) -> Result<(Config, Layers), Refused> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("chunk-sync.toml");
    std::fs::write(&path, file).unwrap();
    let own = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    load(Some(&path), &environment.iter().map(own).collect::<Vec<_>>())
}

fn refused(file: &str, environment: &[(&str, &str)]) -> String {
    with(file, environment).map(|_| ()).unwrap_err().to_string()
}

#[test]
fn the_commented_file_alone_is_a_valid_configuration() {
    let (config, _) = with(DEFAULTS, &[]).unwrap();
    assert!(config.roles.is_embedded() && config.roles.dir.ends_with("chunk-sync-data"));
    assert!(config.http.token.is_none());
}

#[test]
fn the_defaults_of_the_file_equal_those_of_engine_and_model() {
    let settings = with("", &[]).unwrap().0.settings;
    assert_eq!(settings.limits, chunk_sync_model::Limits::default());
    let engine = chunk_sync_engine::Settings::new(&settings.wal.dir);
    assert_eq!(format!("{settings:#?}"), format!("{engine:#?}"));
}

#[test]
fn the_environment_overrides_the_file_and_the_file_overrides_the_defaults() {
    let file = "[worker]\nbatch = 7\nwait = \"2s\"\n";
    let (config, layers) = with(file, &[("CHUNK_SYNC__WORKER__BATCH", "9")]).unwrap();
    let worker = &config.settings.worker;
    assert_eq!((worker.batch, worker.wait, worker.in_flight_events), (9, Duration::from_secs(2), 8_192));
    let origin = |key: &str| layers.get(key).unwrap().origin.clone();
    assert_eq!(origin("worker.batch"), Origin::Environment("CHUNK_SYNC__WORKER__BATCH".into()));
    assert!(matches!(origin("worker.wait"), Origin::File(_)));
    assert_eq!(origin("worker.in_flight_events"), Origin::Default);
}

#[test]
fn every_key_can_be_set_in_the_environment() {
    for entry in Layers::defaults().entries() {
        let name = format!("CHUNK_SYNC__{}", entry.key.to_uppercase().replace('.', "__"));
        let value = match &entry.value {
            toml::Value::Array(list) if !list.is_empty() => serde_json::to_string(list).unwrap(),
            toml::Value::Array(_) => String::new(),
            toml::Value::String(text) => text.clone(),
            other => other.to_string(),
        };
        let (_, layers) = with("", &[(&name, &value)]).unwrap();
        let set = layers.get(&entry.key).unwrap();
        assert_eq!((&set.value, &set.origin), (&entry.value, &Origin::Environment(name)));
    }
}

#[test]
fn the_models_are_json_in_the_environment() {
    let json = r#"[{"model":"mini","vector":"dense_mini","size":384}]"#;
    let (config, _) = with("", &[("CHUNK_SYNC__EMBEDDING", json)]).unwrap();
    assert_eq!(config.settings.limits.models.len(), 1);
    assert_eq!(config.settings.limits.model("mini").unwrap().size, 384);
}

#[test]
fn an_unknown_key_is_reported_with_the_most_similar_one() {
    let error = refused("[http]\nlisten_on = 'x'\ntokn = 'x'\n[worker]\nlisten = '1'\n", &[]);
    assert!(error.contains("http.tokn: unknown key; did you mean `http.token`?"), "{error}");
    assert!(error.contains("worker.listen: unknown key; did you mean `http.listen`?"), "{error}");
    let error = refused("", &[("CHUNK_SYNC__WORKR__BATCH", "1")]);
    assert!(error.contains("`worker.batch`? (set in CHUNK_SYNC__WORKR__BATCH)"), "{error}");
    let error = refused("[[embedding]]\nmodel = 'a'\nvectr = 'b'\nsize = 3\n", &[]);
    assert!(error.contains("number 1: unknown key `vectr`; did you mean `vector`?"), "{error}");
}

#[test]
fn all_errors_are_reported_together() {
    let file = "[worker]\nbatch = 0\nwait = 'soon'\nretry_min = '1m'\n[log]\nformat = 'xml'\nlevel = 'loud=very'\n";
    let error = refused(file, &[("CHUNK_SYNC__LIMITS__MAX_AHEAD", "9d")]);
    for key in ["worker.batch", "worker.wait", "worker.retry_max", "log.format", "log.level", "limits.max_ahead"] {
        assert!(error.contains(&format!("\n  {key}: ")), "{key} in {error}");
    }
}

#[test]
fn a_value_of_the_wrong_type_is_rejected() {
    assert!(refused("[worker]\nbatch = '5'\n", &[]).contains("must be a whole number, not a text"));
    assert!(refused("", &[("CHUNK_SYNC__WORKER__BATCH", "five")]).contains("must be a whole number"));
}

#[test]
fn models_must_have_sizes_and_unique_names() {
    let model = |more: &str| {
        refused(&format!("[[embedding]]\nmodel = 'a'\nvector = 'b'\nsize = 3\n[[embedding]]\n{more}"), &[])
    };
    assert!(model("model = 'a'\nvector = 'c'\nsize = 3").contains("two models have the name `a`"));
    assert!(model("model = 'c'\nvector = 'b'\nsize = 3").contains("two models have the vector `b`"));
    assert!(model("model = 'c'\nvector = 'd'\nsize = 0").contains("number 2: `size` must be"));
    assert!(model("model = 'c'\nvector = 'dense_alternative'\nsize = 1").contains("`dense_alternative` is reserved"));
}

#[test]
fn a_role_is_kept_in_a_server_if_its_url_is_set() {
    let (config, _) = with("", &[]).unwrap();
    assert!(config.roles.is_embedded() && config.roles.has_file());
    let (config, _) = with("", &[("CHUNK_SYNC__REDIS__URL", "redis://localhost:6379")]).unwrap();
    let roles = &config.roles;
    assert!(roles.redis.is_some() && roles.qdrant.is_none() && roles.neo4j.is_none() && roles.has_file());
    assert_eq!(roles.to_string(), "rows in the embedded file, bus in Redis");
    assert_eq!(config.settings.wal.dir, Path::new("chunk-sync-data/wal"));
    let servers = "[postgres]\nurl='postgres://u:p@h/d'\n[qdrant]\nurl='http://h:6334'\n";
    let (config, _) = with(servers, &[]).unwrap();
    let postgres = config.roles.postgres.as_ref().unwrap();
    assert_eq!(postgres.replication_url.expose(), "postgres://u:p@h/d");
    assert_eq!((postgres.schema.as_str(), postgres.table.as_str()), ("unified", "chunks"));
    assert_eq!(config.roles.to_string(), "rows in PostgreSQL, bus in PostgreSQL, vectors in Qdrant");
    assert_eq!(config.settings.wal.dir, Path::new("/var/log/chunk-sync/wal"));
}

#[test]
fn there_is_no_mode_key_and_a_replication_url_requires_postgres_url() {
    assert!(refused("mode = 'embedded'\n", &[]).contains("mode: unknown key"));
    let error = refused("", &[("CHUNK_SYNC__POSTGRES__REPLICATION_URL", "postgres://u:p@h/d")]);
    assert!(error.contains("postgres.url: must be set"), "{error}");
}

#[test]
fn a_listener_beyond_loopback_requires_a_token() {
    for open in ["0.0.0.0:80", "[::]:80", "192.168.0.1:80"] {
        let error = refused("", &[("CHUNK_SYNC__HTTP__LISTEN", open)]);
        assert!(error.contains("can be reached from other machines"), "{error}");
        with("", &[("CHUNK_SYNC__HTTP__LISTEN", open), ("CHUNK_SYNC__HTTP__TOKEN", "0123456789abcdef")]).unwrap();
    }
    for own in ["127.0.0.1:80", "[::1]:80", "localhost:80", "127.8.8.8:0"] {
        with("", &[("CHUNK_SYNC__HTTP__LISTEN", own)]).unwrap();
    }
}

#[test]
fn a_named_file_must_exist() {
    let error = load(Some(Path::new("/nowhere/x.toml")), &[]).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/x.toml: cannot be read"), "{error}");
    let variable = [(FILE_VARIABLE.to_owned(), "/nowhere/y.toml".to_owned())];
    let error = load(None, &variable).map(|_| ()).unwrap_err().to_string();
    assert!(error.starts_with("/nowhere/y.toml: "), "{error}");
}

/// A secret that no output may contain.
const PLANTED: &str = "planted-secret-0123456789";

#[test]
fn no_output_contains_a_secret() {
    let environment = [
        ("CHUNK_SYNC__POSTGRES__URL", "postgres://u:planted-secret-0123456789@h/d"),
        (
            "CHUNK_SYNC__POSTGRES__REPLICATION_URL",
            "postgres://planted-user:planted-secret-0123456789@h/d?sslmode=require",
        ),
        ("CHUNK_SYNC__REDIS__URL", "rediss://:planted-secret-0123456789@h:1"),
        ("CHUNK_SYNC__QDRANT__URL", "https://u:planted-secret-0123456789@h"),
        ("CHUNK_SYNC__QDRANT__API_KEY", PLANTED),
        ("CHUNK_SYNC__NEO4J__URL", "neo4j+s://u:planted-secret-0123456789@h"),
        ("CHUNK_SYNC__NEO4J__PASSWORD", PLANTED),
        ("CHUNK_SYNC__HTTP__TOKEN", PLANTED),
    ];
    let (config, layers) = with("", &environment).unwrap();
    assert_eq!(config.http.token.as_ref().unwrap().expose_secret(), PLANTED);
    for shown in [layers.to_toml(), layers.to_json().to_string(), format!("{config:?}"), format!("{config:#?}")] {
        assert!(!shown.contains(PLANTED), "{shown}");
    }
    assert!(layers.to_toml().contains(r#"url = "rediss://:***@h:1"  # CHUNK_SYNC__REDIS__URL"#));
}

#[test]
fn no_error_contains_a_secret() {
    let wrong = [
        ("[http]\ntoken = 'planted-secret-0123456789\n", &[][..]),
        ("[http]\ntoken = planted-secret-0123456789\n", &[]),
        ("[http]\ntoken = ['planted-secret-0123456789']\n", &[]),
        ("[http]\ntoken = 'a planted-secret-0123456789'\n", &[]),
        ("[neo4j]\npasword = 'planted-secret-0123456789'\n", &[]),
        ("", &[("CHUNK_SYNC__REDIS__URL", PLANTED)]),
        ("", &[("CHUNK_SYNC__REDIS__URL", "redis://u:a/planted-secret-0123456789@h")]),
        ("", &[("CHUNK_SYNC__POSTGRES__URL", "mysql://u:planted-secret-0123456789@h")]),
        ("", &[("CHUNK_SYNC__EMBEDDING", PLANTED)]),
        ("", &[("CHUNK_SYNC__HTTP__LISTEN", PLANTED)]),
    ];
    for (file, environment) in wrong {
        let error = with(file, environment).map(|_| ()).unwrap_err();
        assert!(!format!("{error} {error:?}").contains("planted"), "{error}");
    }
}

#[test]
fn printed_configuration_can_be_parsed_again() {
    let (_, layers) = with("[worker]\nbatch = 5\n[http]\nhosts = ['a', 'b']\n", &[]).unwrap();
    let (_, again) = with(&layers.to_toml(), &[]).unwrap();
    assert_eq!(layers.to_json()["worker.batch"]["value"], 5);
    for (a, b) in layers.entries().zip(again.entries()) {
        assert_eq!((&a.key, &a.value), (&b.key, &b.value));
    }
}

#[test]
fn each_part_has_the_configured_strategy() {
    use chunk_sync_engine::{Detect, DirectSettings, DirectWrites};
    use chunk_sync_model::Part;
    let file = "[conflicts]\ncontent = 'prefer:claude'\nparts = ['metadata.score_* = target_wins', 'summary=manual']\n";
    let (config, _) = with(file, &[("CHUNK_SYNC__CONFLICTS__GRAPH", "manual")]).unwrap();
    let of = |part: &str| config.settings.strategies.of(&part.parse::<Part>().unwrap()).to_string();
    assert_eq!(of("content"), "prefer:claude");
    assert_eq!((of("metadata.score_a"), of("metadata.title")), ("target_wins".into(), "last_write_wins".into()));
    assert_eq!((of("summary"), of("graph.node_id")), ("manual".into(), "manual".into()));
    assert_eq!(of("embeddings.dense.gte"), "keep_both");
    assert_eq!(config.settings.keep_conflicts.as_secs(), 30 * 86_400);
    assert_eq!(config.settings.direct, DirectSettings::default());
    let error = refused("[postgres]\nplugin = 'decoderbufs'\nurl = 'postgres://127.0.0.1/x'\n", &[]);
    assert!(error.contains("must be \"pgoutput\" or \"wal2json\""), "{error}");
    let (config, _) = with("[conflicts]\ndirect_writes = 'merge'\ndetect = 'always'\n", &[]).unwrap();
    assert_eq!(config.settings.direct, DirectSettings { writes: DirectWrites::Merge, detect: Detect::Always });
    let error = refused("[conflicts]\ndirect_writes = 'keep'\ndetect = 'never'\n", &[]);
    assert!(error.contains("must be \"repair\" or \"merge\""), "{error}");
    assert!(error.contains("must be \"verify\" or \"always\""), "{error}");
    let error = refused(
        "[conflicts]\nmetadata = 'merge_text'\ncontent = 'mine'\nparts = ['content', 'nothing = manual']\n",
        &[],
    );
    assert!(error.contains("conflicts.metadata: `merge_text` is not a strategy for metadata"), "{error}");
    assert!(error.contains("conflicts.content: `mine` is not a strategy"), "{error}");
    assert!(
        error.contains("`content` is not a rule; write part and strategy")
            && error.contains("`nothing` is not the name of a part"),
        "{error}"
    );
}
