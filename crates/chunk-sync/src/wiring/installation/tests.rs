#![allow(clippy::unwrap_used)]
use std::collections::BTreeMap;

use chunk_sync_engine::ports::Kept;

use super::*;

fn set(stores: &[Target]) -> StoreSet {
    StoreSet(stores.iter().map(|target| (*target, Kept::Server)).collect::<BTreeMap<_, _>>())
}

fn installed(stores: &[Target]) -> Installed {
    let floor = SyncVersion::new(5);
    Installed { id: Uuid::max(), version: 3, stores: set(stores), filling: BTreeSet::new(), floor }
}

#[test]
fn a_store_that_is_new_or_carries_no_mark_is_filled() {
    let before = installed(&[Target::Qdrant]);
    let both = set(&[Target::Qdrant, Target::Neo4j]);
    let new = changed(&before, both.clone(), &[], &BTreeSet::from([Target::Neo4j])).unwrap();
    assert_eq!((new.version, &new.filling), (4, &BTreeSet::from([Target::Neo4j])));
    let same = changed(&new, both.clone(), &[], &BTreeSet::new()).unwrap();
    assert_eq!(same, new, "safe to repeat");
    let lost = changed(&before, set(&[Target::Qdrant]), &[], &BTreeSet::from([Target::Qdrant])).unwrap();
    assert_eq!((lost.version, &lost.filling), (4, &BTreeSet::from([Target::Qdrant])));
}

#[test]
fn a_store_is_removed_only_if_it_is_named() {
    let before = installed(&[Target::Qdrant, Target::Neo4j]);
    let one = set(&[Target::Qdrant]);
    let refused = changed(&before, one.clone(), &[], &BTreeSet::new()).unwrap_err().to_string();
    assert!(refused.contains("names qdrant, and the installation has qdrant, neo4j (set 3)"), "{refused}");
    assert!(refused.contains("init --without neo4j"), "{refused}");
    let new = changed(&before, one.clone(), &[Target::Neo4j], &BTreeSet::new()).unwrap();
    assert_eq!((new.version, new.stores), (4, one));
}

#[test]
fn a_process_with_another_set_is_rejected_with_the_remedy() {
    let refusal = |named: &[Target]| check_set(&installed(&[Target::Qdrant]), &set(named)).unwrap_err().to_string();
    assert!(refusal(&[Target::Qdrant, Target::Neo4j]).contains("run `chunk-sync init` to add what is new"));
    assert!(refusal(&[]).contains("names no store beside the rows"));
    assert!(refusal(&[Target::Neo4j]).contains("qdrant.url"));
}
