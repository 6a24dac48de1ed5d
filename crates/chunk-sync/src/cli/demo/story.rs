//! The second and third part: the same changes through chunk-sync, and two edits of one text at the same time.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chunk_sync_engine::ports::ConflictFilter;
use chunk_sync_engine::verify::{Options, verify};
use chunk_sync_model::Part;
use chunk_sync_model::merge::Side;
use serde_json::{Value, json};
use uuid::Uuid;

use super::changes::{Changes, id_of, later, update};
use super::outage::Switch;
use super::screen::Ink;
use super::{Demo, Failure, Running, row};
use crate::cli::output;

/// How long the graph may take to be written to while it is down.
const PATIENCE: Duration = Duration::from_secs(60);

/// The text that both programs edit, line by line.
const BASE: [&str; 3] =
    ["Read the gauge every ten minutes.", "Raise the alarm above 4.0 m.", "Call the harbour office."];

impl Demo {
    /// The same changes as by hand, while the graph is down at first.
    pub(super) async fn through(&mut self, running: &Running, samples: &[Value]) -> Result<(), Failure> {
        let (screen, changes) = (self.screen, Changes::of(samples));
        screen.heading(2, "The same changes through chunk-sync.")?;
        self.carry(running, samples).await?;
        let started = Instant::now();
        running.graph.off();
        self.publish(&running.wired, &changes.events()).await?;
        until_refused(&running.graph).await?;
        running.graph.on();
        running.service.until_idle().await?;
        let seconds = started.elapsed().as_secs_f64();
        screen.line("Each program publishes its edits. The graph is down again: its writes wait")?;
        screen.line(&format!(
            "and are repeated. {} are everywhere after {seconds:.1} s.",
            output::count(changes.count(), "change")
        ))?;
        let report = verify(&running.wired.ports, &Options::default(), &|_| {}).await?;
        screen.stores(&report)?;
        let mut now = Vec::new();
        for chunk in &changes.edited {
            now.push(row(&running.wired, id_of(chunk)?).await?);
        }
        let verdict = format!(
            "{} of {} chunks differ; {} lost.",
            output::number(report.differing),
            output::number(report.chunks),
            output::count(changes.lost(&now), "edit")
        );
        if report.consistent { screen.good(&verdict) } else { screen.bad(&verdict) }
    }

    /// Both programs know a text and edit different lines of it, independently.
    pub(super) async fn meet(&mut self, running: &Running, samples: &[Value]) -> Result<(), Failure> {
        self.screen.heading(3, "Both programs edit one text at the same time.")?;
        let mut chunk = samples.first().cloned().unwrap_or_default();
        let id = Uuid::new_v4();
        chunk["id"] = json!(id);
        chunk["content"] = BASE.join("\n").into();
        for part in ["embeddings", "summary", "graph"] {
            chunk.as_object_mut().and_then(|fields| fields.remove(part));
        }
        self.carry(running, &[update("claude", &chunk), update("cognee", &chunk)]).await?;
        let edited = |line: usize, text: &str, seconds: i64| {
            let mut lines = BASE;
            lines[line] = text;
            let mut edited = chunk.clone();
            edited["content"] = lines.join("\n").into();
            edited["metadata"]["updated_at"] = later(&chunk, seconds);
            edited
        };
        let claude = edited(0, "Read the gauge every six minutes.", 600);
        let cognee = edited(2, "Call the duty officer.", 601);
        self.carry(running, &[update("claude", &claude), update("cognee", &cognee)]).await?;
        let filter = ConflictFilter { chunk: Some(id), ..ConflictFilter::default() };
        let conflicts = running.wired.ports.records.conflicts(&filter, 16).await?.entries;
        let Some(conflict) =
            conflicts.iter().map(|entry| &entry.noted.conflict).find(|found| found.part == Part::Content)
        else {
            return Err(Failure::Unable(anyhow::anyhow!("the edits met no conflict")));
        };
        for (name, side) in [("base", &conflict.base), ("claude", &conflict.target), ("cognee", &conflict.source)] {
            self.side(name, side, &conflict.base)?;
        }
        self.side("result", &conflict.result, &conflict.base)?;
        self.screen.good("Both edits are kept. `conflicts list` shows and reverts every conflict.")
    }

    /// The text of one side; the base and the result whole, of the others the lines that differ from the base.
    fn side(&self, name: &str, side: &Side, base: &Side) -> Result<(), Failure> {
        let text = |side: &Side| side.value.as_ref().and_then(Value::as_str).unwrap_or_default().to_owned();
        let (text, base) = (text(side), text(base));
        let whole = matches!(name, "base" | "result");
        let mut before = base.lines();
        let mut label = name;
        for line in text.lines() {
            let same = before.next() == Some(line);
            if same && !whole {
                continue;
            }
            let line = if same { output::printable(line) } else { self.screen.ink(Ink::Green, line) };
            self.screen.print(&format!("   {} {line}", self.screen.ink(Ink::Dim, &format!("{label:<7}"))))?;
            label = "";
        }
        Ok(())
    }
}

/// Waits until a write to the graph has failed.
async fn until_refused(graph: &Arc<Switch>) -> Result<(), Failure> {
    let began = Instant::now();
    while graph.refused() == 0 {
        if began.elapsed() > PATIENCE {
            return Err(Failure::Unable(anyhow::anyhow!(
                "the graph was not written to within {} s",
                PATIENCE.as_secs()
            )));
        }
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
    Ok(())
}
