//! Tests determinism and variety of the generated chunks. `tests/rules.rs` tests their validity.

use super::*;

/// A hash that does not depend on the order of keys, which depends on serde_json's features.
fn canonical(value: &Value) -> u64 {
    let within = |seed: &str, parts: Vec<u64>| {
        let bytes: Vec<u8> = parts.iter().flat_map(|part| part.to_le_bytes()).collect();
        embed::hash(&[seed.as_bytes(), &bytes].concat())
    };
    match value {
        Value::Array(items) => within("array", items.iter().map(canonical).collect()),
        Value::Object(fields) => {
            let hash = |(key, value): (&String, &Value)| within(key, vec![canonical(value)]);
            let mut parts: Vec<u64> = fields.iter().map(hash).collect();
            parts.sort_unstable();
            within("object", parts)
        }
        leaf => embed::hash(leaf.to_string().as_bytes()),
    }
}

fn hash_of_the_first(count: usize, seed: u64) -> u64 {
    canonical(&Generator::new(seed).size(32).take(count).collect())
}

#[test]
fn the_same_seed_gives_the_same_chunks_in_every_build() {
    assert_eq!(hash_of_the_first(200, 7), 6_892_452_264_711_897_923);
}

#[test]
fn different_seeds_give_different_chunks() {
    assert_ne!(hash_of_the_first(5, 7), hash_of_the_first(5, 8));
}

#[test]
fn the_same_seed_gives_the_same_edits() {
    let edited = || {
        let mut rng = Rng::new(11);
        let first = Generator::new(3).size(16).next();
        std::iter::successors(first, |chunk| Some(Generator::edit(chunk, &mut rng))).nth(40)
    };
    assert_eq!(edited().as_ref().map(canonical), edited().as_ref().map(canonical));
}

#[test]
fn all_types_and_lengths_of_chunks_occur() {
    let chunks: Vec<Value> = Generator::new(1).size(0).take(500).collect();
    for kind in ["text", "code", "mixed"] {
        assert!(chunks.iter().filter(|chunk| chunk["chunk_type"] == kind).count() > 30, "{kind}");
    }
    let lengths: Vec<usize> = chunks.iter().filter_map(|chunk| Some(chunk["content"].as_str()?.len())).collect();
    assert!(lengths.iter().any(|&length| length < 400));
    assert!(lengths.iter().any(|&length| length > 4_000));
}

#[test]
fn few_entities_occur_in_many_chunks_and_many_in_few() {
    let mut counts = std::collections::HashMap::new();
    for chunk in Generator::new(1).size(0).take(2_000) {
        for entity in chunk["graph"]["entities"].as_array().into_iter().flatten() {
            *counts.entry(entity["id"].to_string()).or_insert(0) += 1;
        }
    }
    assert!(counts.values().any(|&count| count > 200));
    assert!(counts.values().filter(|&&count| count <= 2).count() > 500);
}

#[test]
fn size_zero_omits_the_embeddings() {
    assert!(Generator::new(1).size(0).take(20).all(|chunk| chunk.get("embeddings").is_none()));
}
