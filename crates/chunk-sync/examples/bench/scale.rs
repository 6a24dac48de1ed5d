//! How the cost grows: with the size of a chunk, the chunks that mention one entity, and the changes of one chunk.

use std::time::Instant;

use chunk_sync_samples::generate::{Generator, Rng};
use serde_json::Value;

use crate::Options;
use crate::environment::Environment;
use crate::report::Report;

/// Lengths of the content, in bytes.
const LENGTHS: [usize; 4] = [200, 1_000, 5_000, 25_000];

pub(crate) async fn scale(environment: &Environment, options: &Options, report: &mut Report) {
    let count = (options.chunks / 20).max(100);
    for (number, length) in LENGTHS.into_iter().enumerate() {
        let chunks = Generator::new(1_000 + number as u64).take(count).map(|mut chunk| {
            chunk["content"] =
                chunk["content"].as_str().unwrap().chars().cycle().take(length).collect::<String>().into();
            without_positions(chunk)
        });
        let rate = carried(environment, chunks).await;
        report.add(&format!("scale: chunks of {length} bytes"), "chunks/s", rate);
    }
    let mentioned = Generator::new(2_000).next().unwrap()["graph"]["entities"][0].clone();
    let supporters: Vec<Value> =
        Generator::new(2_001).take(count * 5).map(|chunk| mention(chunk, &mentioned)).collect();
    let rate = carried(environment, supporters.iter().cloned()).await;
    report.add(&format!("scale: {} chunks that mention one entity", supporters.len()), "chunks/s", rate);
    let mut rng = Rng::new(3);
    let edited: Vec<Value> = supporters.iter().take(count).map(|chunk| Generator::edit(chunk, &mut rng)).collect();
    let rate = carried(environment, edited.into_iter()).await;
    report.add(&format!("scale: updates of chunks with an entity of {}", supporters.len()), "chunks/s", rate);

    let first = Generator::new(2_002).next().unwrap();
    let mut edits = vec![first.clone()];
    for _ in 1..1_000 {
        edits.extend(edits.last().map(|chunk| Generator::edit(chunk, &mut rng)));
    }
    let rate = carried(environment, edits.into_iter()).await;
    report.add("scale: 1,000 changes of one chunk", "changes/s", rate);
    report.add(
        "scale: record after 1,000 changes",
        "bytes",
        environment.record_size(first["id"].as_str().unwrap()).await,
    );
    environment.verify();
}

/// Publishes the chunks, then starts the service, and returns how many per second it carried.
async fn carried(environment: &Environment, chunks: impl Iterator<Item = Value>) -> f64 {
    let lines: Vec<String> = chunks.map(|chunk| chunk.to_string()).collect();
    environment.publish(&lines);
    let (added, _) = environment.stream().await;
    let began = Instant::now();
    let (_run, _) = environment.run().await;
    environment.settled(added).await;
    lines.len() as f64 / began.elapsed().as_secs_f64()
}

/// The content was replaced: offsets into it mean nothing any more.
fn without_positions(mut chunk: Value) -> Value {
    for entity in chunk["graph"]["entities"].as_array_mut().unwrap() {
        entity["source_positions"] = Value::Array(Vec::new());
    }
    chunk
}

fn mention(mut chunk: Value, entity: &Value) -> Value {
    let entities = chunk["graph"]["entities"].as_array_mut().unwrap();
    if entities.iter().all(|other| other["id"] != entity["id"]) {
        let mut entity = entity.clone();
        entity["source_positions"] = Value::Array(Vec::new());
        entities.push(entity);
    }
    chunk
}
