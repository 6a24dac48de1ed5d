// Draws conflicts, dead letters and the look-up of a chunk, and carries out what the reader decides.

import { $, NAMES, ask, count, duration, make, redraw, setText } from "./util.js";
import { since } from "./state.js";

/** Shortened vectors, as the service sends them, in one line. */
const shortened = (_, value) => (Array.isArray(value?.first) && typeof value.numbers === "number" ? `${value.numbers} numbers: ${value.first.join(", ")}, …` : value);

/** The text of a value. */
function shown(value) {
  if (value === null || value === undefined) return "(absent)";
  const short = shortened("", value);
  return typeof short === "string" ? short : JSON.stringify(value, shortened, 1);
}

const button = (className, text, act) => {
  const made = make("button", className, text);
  made.type = "button";
  made.addEventListener("click", act);
  return made;
};

/** A list of records that can be opened; those that are open stay open while the list is redrawn. */
function drawRecords(list, records, draw, none) {
  const open = new Set([...list.querySelectorAll("details[open]")].map((record) => record.dataset.id));
  const changed = redraw(list, records, () => (records.length === 0 ? [make("p", "card pad quiet", none)] : records.map(draw)));
  if (changed) for (const record of list.querySelectorAll("details")) record.open = open.has(record.dataset.id);
}

function record(id, title, facts, fill) {
  const made = make("details", "card", make("summary", "", make("span", "title", title), make("span", "quiet", facts)));
  made.dataset.id = id;
  made.addEventListener("toggle", () => made.open && made.children.length === 1 && fill(made));
  return made;
}

// --- conflicts -------------------------------------------------------------------------------------------------------

export async function loadConflicts() {
  const found = await ask(`v1/conflicts?limit=20&open=${$("only-open").checked}`);
  setText($("conflicts-count"), `${count.format(found.open)} open`);
  drawRecords($("conflicts"), found.conflicts, drawConflict, $("only-open").checked ? "No conflict is open." : "No conflict is recorded.");
}

function drawConflict(met) {
  const state = met.closed ? `closed by ${met.closed.by}` : met.outcome.replaceAll("_", " ");
  const facts = `${met.source.writer ?? "–"} against ${met.target.writer ?? "–"}, ${state}, ${duration(since(met.met_at))} ago`;
  return record(String(met.id), `${met.id}: ${met.part}`, facts, (made) => made.append(...sides(met)));
}

function sides(met) {
  const help = met.outcome === "open" && !met.closed ? `To decide it: chunk-sync conflicts resolve ${met.id} --take source|target|base` : `To take the other value: chunk-sync conflicts revert ${met.id}`;
  const result = shown(met.result.value);
  const cells = ["base", "source", "target", "result"].map((name) => {
    const side = met[name];
    const by = side.writer ? `${side.writer}${side.time ? `, ${side.time}` : ""}` : "no writer";
    const value = make("pre", "", side.value === null && side.hash ? `(value not kept; hash ${side.hash})` : shown(side.value));
    value.tabIndex = 0;
    const cell = make("div", "side", make("h3", "", name), make("p", "quiet", by), value);
    if (name !== "result" && shown(side.value) === result) cell.dataset.tone = "good";
    return cell;
  });
  return [make("p", "quiet pad", `Chunk ${met.chunk}, strategy ${met.strategy}. ${help}`), make("div", "sides", ...cells)];
}

// --- dead letters ----------------------------------------------------------------------------------------------------

export async function loadDead() {
  const found = await ask("v1/dead?limit=20");
  setText($("dead-count"), count.format(found.total));
  drawRecords($("dead"), found.dead, drawLetter, "No dead letter.");
}

function drawLetter(letter) {
  const title = letter.field ? `${letter.field}: ${letter.error}` : letter.error;
  const when = letter.dead_at ? `${duration(since(letter.dead_at))} ago` : "at an unknown time";
  const facts = `${letter.error_type || "no class"}, ${when}${letter.superseded ? ", superseded by a newer change" : ""}`;
  return record(letter.id, title, facts, (made) => fillLetter(made, letter));
}

async function fillLetter(made, letter) {
  const actions = make("p", "row pad");
  const retry = button("", "Retry", () => act(letter.id, "retry", actions));
  const drop = button("danger", "Drop", () => {
    // The second click, which the button then names, drops it.
    if (drop.dataset.sure) return act(letter.id, "drop", actions);
    drop.dataset.sure = "yes";
    drop.textContent = "Drop for good";
    return undefined;
  });
  actions.append(retry, drop, make("span", "quiet", `Letter ${letter.id}, chunk ${letter.chunk ?? "unknown"}, missing in ${letter.missing.join(", ") || "no store"}`));
  const fields = make("dl", "fields");
  made.append(actions, fields);
  try {
    const whole = await ask(`v1/dead/${letter.id}`);
    retry.disabled = whole.unreadable !== null;
    if (whole.unreadable) actions.append(make("span", "wrong", `It cannot be retried: ${whole.unreadable.field}: ${whole.unreadable.error}`));
    for (const field of whole.fields) {
      const value = make("pre", "", field.value ?? `(not UTF-8; base64) ${field.base64}`);
      value.tabIndex = 0;
      fields.append(make("dt", "", field.name), make("dd", "", value));
    }
  } catch (error) {
    fields.append(make("dd", "wrong", error.message));
  }
}

async function act(id, what, actions) {
  for (const one of actions.querySelectorAll("button")) one.disabled = true;
  try {
    await ask(`v1/dead/${id}/${what}`, "POST");
    setText($("done"), what === "retry" ? `Published the event of letter ${id} again.` : `Dropped letter ${id}.`);
    await loadDead();
  } catch (error) {
    setText($("done"), `Letter ${id} stays: ${error.message}`);
    for (const one of actions.querySelectorAll("button")) one.disabled = false;
  }
}

// --- look-up ---------------------------------------------------------------------------------------------------------

export async function lookUp(id) {
  try {
    const found = await ask(`v1/chunks/${encodeURIComponent(id.trim())}`);
    $("looked").replaceChildren(...drawChunk(found));
  } catch (error) {
    $("looked").replaceChildren(make("p", "wrong", error.message));
  }
}

function drawChunk(found) {
  const exists = found.lives === null ? "has no record" : found.lives ? `is at sync version ${found.sync_version}` : "is deleted";
  const verdict = make("p", "verdict", `The chunk ${exists}; ${found.consistent ? "every store holds the same" : "the stores differ"}.`);
  verdict.dataset.tone = found.consistent ? "good" : "bad";
  return [verdict, make("div", "held", ...Object.entries(found.stores).map(([target, held]) => drawHeld(target, held)))];
}

const capital = (word) => word && word[0].toUpperCase() + word.slice(1);

function drawHeld(target, held) {
  const pill = make("span", "pill", held.error ? "No answer" : (capital(held.problem) ?? (held.present ? "In sync" : "Absent")));
  pill.dataset.tone = held.error || held.problem ? "bad" : held.present ? "good" : "idle";
  const version = held.sync_version ? `sync version ${held.sync_version}` : "";
  const made = make("div", "store", make("div", "head", make("h3", "", NAMES[target] ?? target), pill), make("p", "quiet", held.error ?? version));
  const row = target === "postgres";
  const names = [...new Set([...Object.keys(held.expected), ...Object.keys(held.fields)])];
  const differs = new Set(held.problem === "missing" ? names : held.differs);
  const [different, same] = [names.filter((name) => differs.has(name)), names.filter((name) => !differs.has(name))];
  if (different.length > 0) made.append(table(different, held, row));
  if (same.length > 0) made.append(make("details", "", make("summary", "", `${same.length} ${row ? "fields" : "equal fields"}`), table(same, held, true)));
  return made;
}

/** Fields as a table: of the store only, or beside what the row leads to. */
function table(names, held, single) {
  const heads = single ? ["Field", "Value"] : ["Field", "From the row", "In this store"];
  const head = make("tr", "", ...heads.map((name) => Object.assign(make("th", "", name), { scope: "col" })));
  const rows = names.map((name) => {
    const title = Object.assign(make("th", "", name), { scope: "row" });
    const cells = (single ? [held.fields[name]] : [held.expected[name], held.fields[name]]).map((value) => make("td", "", make("pre", "", shown(value))));
    const row = make("tr", single ? "" : "differs", title, ...cells);
    return row;
  });
  const made = make("div", "scroll", make("table", "values", make("thead", "", head), make("tbody", "", ...rows)));
  made.tabIndex = 0;
  return made;
}
