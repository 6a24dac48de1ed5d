//! libpq's documented examples and rules, as a table.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use secrecy::ExposeSecret;

use super::*;

fn around(variables: &[(&str, &str)]) -> Surroundings {
    Surroundings {
        variables: variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        home: None,
        user: Some("account".to_owned()),
        sockets: "/run/pg".into(),
    }
}

fn info(text: &str) -> ConnInfo {
    resolve(text, &around(&[])).unwrap()
}

/// Places, user, password and database as one text.
fn summary(info: &ConnInfo) -> String {
    let endpoints: Vec<_> = info.endpoints.iter().map(ToString::to_string).collect();
    let password = info.endpoints[0].password.as_ref().map_or("-", |password| password.expose_secret());
    format!("{} {} {password} {}", endpoints.join(","), info.user, info.database)
}

#[test]
fn the_documented_forms_have_their_documented_meaning() {
    for (text, expected) in [
        ("postgresql://", "/run/pg/.s.PGSQL.5432 account - account"),
        ("postgresql://localhost", "localhost:5432 account - account"),
        ("postgresql://localhost:5433", "localhost:5433 account - account"),
        ("postgresql://localhost/mydb", "localhost:5432 account - mydb"),
        ("postgresql://user@localhost", "localhost:5432 user - user"),
        ("postgresql://user:secret@localhost", "localhost:5432 user secret user"),
        (
            "postgresql://other@localhost/otherdb?connect_timeout=10&application_name=myapp",
            "localhost:5432 other - otherdb",
        ),
        ("postgresql://host1:123,host2:456/somedb", "host1:123,host2:456 account - somedb"),
        ("postgresql://user@localhost:5433/mydb?options=-c%20synchronous_commit%3Doff", "localhost:5433 user - mydb"),
        ("postgresql:///mydb?host=localhost&port=5433", "localhost:5433 account - mydb"),
        ("postgresql://[2001:db8::1234]/database", "[2001:db8::1234]:5432 account - database"),
        ("postgresql:///dbname?host=/var/lib/postgresql", "/var/lib/postgresql/.s.PGSQL.5432 account - dbname"),
        ("postgresql://%2Fvar%2Flib%2Fpostgresql/dbname", "/var/lib/postgresql/.s.PGSQL.5432 account - dbname"),
        ("host=localhost port=5432 dbname=mydb connect_timeout=10", "localhost:5432 account - mydb"),
        // What users meet.
        (
            "postgres:///claude_context?host=/var/run/postgresql",
            "/var/run/postgresql/.s.PGSQL.5432 account - claude_context",
        ),
        ("postgres://u:pw@/db?host=/cloudsql/p:r:i", "/cloudsql/p:r:i/.s.PGSQL.5432 u pw db"),
        ("postgres://u@dummy/db?host=/var/run/postgresql", "/var/run/postgresql/.s.PGSQL.5432 u - db"),
        ("postgres://u:p%40ss%2Fw%3Ard@h/db", "h:5432 u p@ss/w:rd db"),
        ("postgres://:pw@h/db", "h:5432 account pw db"),
        ("postgres://u:p:w@h/db", "h:5432 u p:w db"),
        ("postgres://a,b,c:7/db", "a:5432,b:5432,c:7 account - db"),
        ("postgres://[::1]:6,[::2]/db", "[::1]:6,[::2]:5432 account - db"),
        ("postgres://u@h?sslmode=require", "h:5432 u - u"),
        ("host=a,b port=1,2 user = u password = 'a b' ", "a:1,b:2 u a b u"),
        (r"host=h user=u password='it\'s \\ x' dbname=d", r"h:5432 u it's \ x d"),
        (r"host=h user=u password=a\ b dbname=d", "h:5432 u a b d"),
        ("user=u host=h user=later", "h:5432 later - later"),
        ("hostaddr=10.0.0.1,10.0.0.2 host=a,b dbname=d", "a:5432,b:5432 account - d"),
        ("hostaddr=10.0.0.1 dbname=d", "10.0.0.1:5432 account - d"),
        ("host=h port='' dbname=''", "h:5432 account - account"),
        ("host=h,,/sock dbname=d", "h:5432,/run/pg/.s.PGSQL.5432,/sock/.s.PGSQL.5432 account - d"),
    ] {
        assert_eq!(summary(&info(text)), expected, "{text}");
    }
}

#[test]
fn every_option_is_read() {
    let text = "host=h user=u sslmode=verify-ca sslrootcert=/ca.pem sslcert=/c.crt sslkey=/c.key sslsni=0 \
        sslnegotiation=direct ssl_min_protocol_version=TLSv1.3 channel_binding=require target_session_attrs=read-write \
        options='-c geqo=off' application_name=app connect_timeout=7 keepalives=0 keepalives_idle=1 keepalives_interval=2 \
        keepalives_count=3 tcp_user_timeout=4000 gssencmode=prefer client_encoding=UTF8";
    let info = info(text);
    assert_eq!(info.tls.mode, Some(Mode::VerifyCa));
    assert_eq!(info.tls.roots, Roots::File("/ca.pem".into()));
    let client = ClientCertificate { certificate: "/c.crt".into(), key: "/c.key".into() };
    assert_eq!((info.tls.client, info.tls.sends_name, info.tls.is_direct), (Some(client), false, true));
    assert_eq!((info.tls.versions, info.channel_binding), (Versions::Only13, Binding::Require));
    assert_eq!((info.session, info.options.as_deref()), (Session::ReadWrite, Some("-c geqo=off")));
    assert_eq!(info.application_name.as_deref(), Some("app"));
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(info.connect_timeout, seconds(7));
    let keepalive =
        Keepalive { enabled: false, idle: seconds(1), interval: seconds(2), count: Some(3), user_timeout: seconds(4) };
    assert_eq!(info.keepalive, keepalive);
}

#[test]
fn what_cannot_be_served_is_named_with_what_to_write_instead() {
    for (text, named, instead) in [
        ("postgresql+asyncpg://u@h/db", "scheme", "postgres://"),
        ("jdbc:postgresql://h/db", "scheme", "postgres://"),
        ("localhost", "neither a URL", "postgres://"),
        ("sslmode=require host=postgres://u:p@h/db", "is a URL", "alone"),
        ("postgres://u:p@ss@h/db", "more than one @", "%40"),
        ("postgres://u:p/ss@h/db", "more than one @", "%2F"),
        ("postgres://[::1/db", "bracket", "[::1]:5432"),
        ("postgres://h:port/db", "port", "65535"),
        ("postgres://h:0/db", "port", "65535"),
        ("postgres://a:1,b:2/db?port=1,2,3", "3 ports for 2 hosts", "one per host"),
        ("host=a,b hostaddr=10.0.0.1", "2 values of host and 1 of hostaddr", "as many"),
        ("hostaddr=name", "hostaddr", "host"),
        ("postgres://h/db?x", "keyword=value", "%3D"),
        ("postgres://h/db?options=-c a=b", "keyword=value", "%3D"),
        ("postgres://h/%zz", "hexadecimal", "%25"),
        ("host", "neither", "host="),
        ("host=h password='open", "closing quote", "\\'"),
        ("host=h user", "no `=`", "keyword=value"),
        ("postgres://h/db?pgbouncer=true", "pgbouncer", "remove it"),
        ("postgres://h/db?schema=public", "schema", "postgres.table"),
        ("postgres://h/db?sslmodus=require", "sslmodus", "correct its name"),
        ("postgres://h/db?sslmode=none", "sslmode", "verify-full"),
        ("postgres://h/db?target_session_attrs=standby", "standby", "primary"),
        ("postgres://h/db?target_session_attrs=prefer-standby", "prefer-standby", "primary"),
        ("postgres://h/db?target_session_attrs=master", "master", "read-write"),
        ("postgres://h/db?channel_binding=require&sslmode=disable", "channel_binding", "sslmode=require"),
        ("postgres:///db?host=/s&channel_binding=require", "channel_binding", "no Unix socket"),
        ("postgres://h/db?sslrootcert=system&sslmode=require", "sslrootcert=system", "verify-full"),
        ("postgres://h/db?sslnegotiation=direct", "sslnegotiation", "sslmode=require"),
        ("postgres://h/db?sslcert=/c", "sslcert", "sslkey"),
        ("postgres://h/db?sslpassword=x", "sslpassword", "openssl pkey"),
        ("postgres://h/db?sslcrl=/x", "sslcrl", "remove it"),
        ("postgres://h/db?gssencmode=require", "gssencmode", "sslmode=require"),
        ("postgres://h/db?require_auth=scram-sha-256", "require_auth", "channel_binding=require"),
        ("postgres://h/db?requirepeer=postgres", "requirepeer", "private directory"),
        ("postgres://h/db?load_balance_hosts=random", "load_balance_hosts", "primary"),
        ("postgres://h/db?client_encoding=LATIN1", "client_encoding", "UTF8"),
        ("postgres://h/db?replication=database", "replication", "remove it"),
        ("postgres://h/db?connect_timeout=soon", "connect_timeout", "whole number"),
        ("postgres://h/db?ssl_max_protocol_version=TLSv1.1", "1.2", "TLSv1.2"),
        ("service=absent", "absent", "pg_service.conf"),
        ("postgres://h/?dbname=postgres%3A%2F%2Fx", "dbname", "directly"),
    ] {
        let error = resolve(text, &around(&[])).unwrap_err().to_string();
        assert!(error.contains(named) && error.contains(instead), "{text}: {error}");
    }
}

#[test]
fn no_error_and_no_printed_form_has_a_secret() {
    for text in [
        "postgres://u:pl4nted@h:port/db",
        "postgres://u:a@pl4nted@h/db",
        "postgres://u:pl4/nted%@h/db",
        "postgres://u:pl4nted@h/db?sslmode=pl4ce&x=1",
        "host=h password=pl4nted x",
        "host=h password='pl4nted",
        "pl4nted",
        "postgres://h:pl4nted/db",
        "postgres//u:pl4nted@db",
        "host=postgres://u:pl4nted@h",
    ] {
        let error = resolve(text, &around(&[])).unwrap_err().to_string();
        assert!(!error.contains("pl4nted"), "{error}");
    }
    for (text, shown) in [
        ("postgres://u:pl4nted@h/db?a=b", None),
        ("postgres://u:pl4nted@h,i/db?sslmode=require", Some("postgres://u:***@h,i/db?sslmode=require")),
        ("postgres:///db?host=/s&password=pl4nted", Some("postgres:///db?host=/s&password=***")),
        ("postgres:///db?pass%77ord=pl4nted&host=/s", Some("postgres:///db?pass%77ord=***&host=/s")),
        ("host=h password=pl4nted://x", Some("host=h password=***")),
        ("host=h password = 'pl4nted x' user='a b'", Some("host=h password=*** user='a b'")),
    ] {
        assert_eq!(Shown::of(text).map(|shown| shown.to_string()).ok().as_deref(), shown, "{text}");
    }
    assert!(!format!("{:?}", info("postgres://u:pl4nted@h/db")).contains("pl4nted"));
}

#[test]
fn variables_fill_what_the_string_leaves_open() {
    let variables = [
        ("PGHOST", "a,b"),
        ("PGPORT", "6"),
        ("PGUSER", "u"),
        ("PGPASSWORD", "pw"),
        ("PGDATABASE", "d"),
        ("PGSSLMODE", "require"),
        ("PGAPPNAME", "app"),
        ("PGTARGETSESSIONATTRS", "primary"),
    ];
    let info = resolve("postgres://", &around(&variables)).unwrap();
    assert_eq!(summary(&info), "a:6,b:6 u pw d");
    assert_eq!((info.tls.mode, info.session), (Some(Mode::Require), Session::Primary));
    let info = resolve("postgres://v@h:7/e?sslmode=disable", &around(&variables)).unwrap();
    assert_eq!((summary(&info).as_str(), info.tls.mode), ("h:7 v pw e", Some(Mode::Disable)));
    let error = resolve("postgres://", &around(&[("PGREQUIREPEER", "x")])).unwrap_err().to_string();
    assert!(error.contains("PGREQUIREPEER"), "{error}");
}

#[test]
fn the_password_file_is_searched_by_its_rules() {
    let home = tempfile::tempdir().unwrap();
    let path = home.path().join(".pgpass");
    let text = "# h:5432:d:u:comment\nother:*:*:*:no\nh\\:1:5432:d:u:colon\nh:5432:d:u:p\\:w\\\\\nlocalhost:*:*:u:socket\n\
        *:*:*:*:any\n";
    fs::write(&path, text).unwrap();
    let around = Surroundings { home: Some(home.path().to_owned()), ..around(&[]) };
    let password = |text: &str| {
        let info = resolve(text, &around).unwrap();
        info.endpoints
            .into_iter()
            .map(|endpoint| endpoint.password.map(|p| p.expose_secret().to_owned()))
            .collect::<Vec<_>>()
    };
    fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
    assert_eq!(password("postgres://u@h/d"), [None], "others may read the file");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    let some = |text: &str| Some(text.to_owned());
    assert_eq!(password("postgres://u@h/d"), [some("p:w\\")]);
    assert_eq!(password("postgres://u@h,other:1/d"), [some("p:w\\"), some("no")], "each host has its own");
    assert_eq!(password("postgres:///d?user=u"), [some("socket")], "the default socket is localhost");
    assert_eq!(password("postgres:///d?user=u&host=/elsewhere"), [some("any")]);
    assert_eq!(password("postgres://u:own@h/d"), [some("own")]);
    assert_eq!(password("host=h user=u passfile=/none"), [None]);
}

#[test]
fn a_service_fills_what_the_string_leaves_open() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("services.conf");
    fs::write(&path, "# services\n[other]\nhost=no\n\n[mine]\nhost=h\nport=7\nuser=u\n[last]\nhost=no\n").unwrap();
    let path = path.to_str().unwrap();
    let around = around(&[("PGSERVICEFILE", path), ("PGHOST", "unused")]);
    assert_eq!(summary(&resolve("service=mine dbname=d", &around).unwrap()), "h:7 u - d");
    assert_eq!(summary(&resolve("postgres://v@/d?service=mine", &around).unwrap()), "h:7 v - d");
    assert!(resolve("service=none", &around).is_err());
}

#[test]
fn certificates_of_the_home_directory_are_found() {
    let home = tempfile::tempdir().unwrap();
    let directory = home.path().join(".postgresql");
    fs::create_dir(&directory).unwrap();
    for name in ["root.crt", "postgresql.crt", "postgresql.key"] {
        fs::write(directory.join(name), "").unwrap();
    }
    let around = Surroundings { home: Some(home.path().to_owned()), ..around(&[]) };
    let tls = resolve("postgres://h/d", &around).unwrap().tls;
    assert_eq!(tls.roots, Roots::File(directory.join("root.crt")));
    assert_eq!(tls.client.map(|client| client.key).as_deref(), Some(Path::new(&directory.join("postgresql.key"))));
    let tls = resolve("postgres://h/d?sslcertmode=disable&sslrootcert=system", &around).unwrap().tls;
    assert_eq!((tls.roots, tls.client, tls.mode), (Roots::System, None, Some(Mode::VerifyFull)));
}
