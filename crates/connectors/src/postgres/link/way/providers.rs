//! Every URL of the guide for providers, as it is printed there: what it leads to.
#![allow(clippy::unwrap_used, clippy::panic)]

use std::collections::BTreeSet;

use secrecy::ExposeSecret as _;

use super::*;
use crate::postgres::conninfo::{Surroundings, resolve};

const GUIDE: &str = include_str!("../../../../../../docs/guide/providers.md");

/// The URLs of the guide, with a value in place of each `<name>`: the name itself.
fn printed() -> BTreeSet<String> {
    let urls = GUIDE.split('`').filter(|text| text.starts_with("postgres://") || text.starts_with("postgresql://"));
    urls.map(|url| url.replace(['<', '>'], "")).collect()
}

/// Server, user, password, database, encryption, verification, channel binding and options as one text.
fn meaning(url: &str) -> String {
    let around = Surroundings { user: Some("me".to_owned()), sockets: "/run".into(), ..Surroundings::default() };
    let info = resolve(url, &around).unwrap();
    let [endpoint] = &info.endpoints[..] else { panic!("{url}: {info:?}") };
    let (order, verification) = wanted(&info, endpoint, false).unwrap();
    let password = endpoint.password.as_ref().unwrap().expose_secret();
    let rest = format!("{order:?} {verification:?} {:?} {:?}", info.channel_binding, info.options);
    format!("{endpoint} {}:{password} {} {rest}", info.user, info.database)
}

#[test]
fn every_url_of_the_guide_leads_where_the_provider_means() {
    let azure = "server.postgres.database.azure.com";
    let meanings = [
        "aws-0-region.pooler.supabase.com:6543 postgres.ref:password postgres Tls Full Prefer None",
        "aws-0-region.pooler.supabase.com:5432 postgres.ref:password postgres Tls Full Prefer None",
        "db.ref.supabase.co:5432 postgres:password postgres Tls Full Prefer None",
        "ep-name-pooler.region.aws.neon.tech:5432 owner:password database Tls Full Require None",
        "ep-name.region.aws.neon.tech:5432 owner:password database Tls Full Prefer Some(\"endpoint=ep-name\")",
        "ep-name.region.aws.neon.tech:5432 owner:password database Tls Full Require None",
        "instance.id.region.rds.amazonaws.com:5432 user:password database Tls Full Prefer None",
        "address:5432 user:password database Tls Chain Prefer None",
        "/cloudsql/project:region:instance/.s.PGSQL.5432 user:password database Plain Off Prefer None",
        &format!("{azure}:5432 user:password database Tls Full Prefer None"),
        &format!("{azure}:6432 user:password database Tls Full Prefer None"),
    ];
    let found: BTreeSet<String> = printed().iter().map(|url| meaning(url)).collect();
    assert_eq!(found, meanings.iter().map(ToString::to_string).collect());
    assert_eq!(printed().len(), meanings.len(), "two URLs mean the same");
}
