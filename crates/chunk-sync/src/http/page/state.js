// Draws the state of the service: readiness, flow, figures, stores, capture, verification.

import { lines, plot, rates } from "./charts.js";
import { $, NAMES, bytes, count, duration, make, percent, prose, rate, redraw, setText } from "./util.js";

const ROLES = { postgres: "rows, the system of record", qdrant: "vectors", neo4j: "graph" };

/** Samples over which a rate is averaged. */
const SMOOTH = 5;

/** A chart shows as many seconds as there are, at least the first and at most the second number. */
const [LEAST, MOST] = [60, 300];
const shownSeconds = (values) => Math.min(MOST, Math.max(LEAST, values.length));

/** Seconds after which a store no longer counts as in sync. */
const LATE = 5;

let serviceNow = 0;

/** Seconds since `time`, by the clock of the service. */
export const since = (time) => Math.max(0, (serviceNow - Date.parse(time)) / 1000);

export function drawStatus(status) {
  serviceNow = Date.parse(status.started) + status.uptime_seconds * 1000;
  const role = status.role === "standby" ? `, standing by${status.holder ? ` for ${status.holder}` : ""}` : "";
  setText($("about"), `Version ${status.version}, ${status.roles}, up for ${duration(status.uptime_seconds)}${role}`);
  drawReadiness(status);
}

function drawReadiness(status) {
  const failing = status.stores.filter((store) => store.failing).map((store) => NAMES[store.target] ?? store.target);
  if (!status.ready) setText($("state"), status.recovered || status.role === "standby" ? "Not ready" : "Recovering", "bad");
  else if (status.role === "standby") setText($("state"), "Standing by", "good");
  else if (failing.length > 0) setText($("state"), `Ready, but ${failing.join(" and ")} ${failing.length > 1 ? "fail" : "fails"}`, "warn");
  else setText($("state"), "Ready", "good");
  const reasons = [...status.waiting_for, ...(status.warnings ?? []), ...status.unknown].filter(Boolean);
  redraw($("reasons"), reasons, () => reasons.map((reason) => make("p", "", ...prose(reason[0].toUpperCase() + reason.slice(1)))));
  $("reasons").hidden = reasons.length === 0;
}

/** Draws what depends on both the status and the history of the last minutes. */
export function drawFigures(status, history) {
  drawFlow(history);
  drawTiles($("figures"), figures(status, history));
  drawStores(status, history);
  drawVerification(status.verification, history.verifications);
  const capture = captured(status, history);
  $("capture-section").hidden = capture.length === 0;
  drawTiles($("capture"), capture);
}

const last = (history, name) => history.series[name]?.at(-1) ?? null;

function drawFlow(history) {
  const flow = (name) => rates(history.series[name] ?? [], history.every_seconds, SMOOTH);
  const [completed, received] = [flow("completed"), flow("received")];
  const [now, incoming] = [completed.at(-1) ?? 0, received.at(-1) ?? 0];
  setText($("rate"), rate(now));
  setText($("rate-in"), rate(incoming));
  const top = Math.max(0, ...completed.filter((value) => value !== null));
  const places = shownSeconds(completed);
  const label = `Events per second over the last ${duration(places)}: ${rate(now)} completed and ${rate(incoming)} received now, ${rate(top)} completed at most`;
  lines($("flow"), [{ name: "in", values: received }, { name: "out", values: completed, area: true }], { places, most: 1, label });
}

/** A figure: name, text, an explanation, and a tone if it needs attention. */
const figure = (name, text, note = "", tone = null) => ({ name, text, note, tone });

function figures(status, history) {
  const shown = [];
  const { queue, done } = status;
  shown.push(figure("In the queue", queue ? count.format(queue.unread + queue.pending) : "–", queue ? `${count.format(queue.unread)} unread, ${count.format(queue.pending)} pending` : "the bus does not answer", queue ? null : "bad"));
  const oldest = queue?.oldest_seconds ?? null;
  shown.push(figure("Oldest entry", oldest === null ? "none" : duration(oldest), oldest === null ? "nothing waits" : "how long it has waited", oldest > 60 ? "warn" : null));
  const outboxes = status.stores.map((store) => store.outbox).filter((size) => size !== null);
  const outbox = outboxes.reduce((sum, size) => sum + size, 0);
  shown.push(figure("In the outbox", count.format(outbox), "chunks that a store lacks", outbox > 0 ? "warn" : null));
  shown.push(figure("Completed", count.format(done.settled), `${count.format(done.under_way)} under way, ${count.format(done.replayed)} replayed at start`));
  const open = status.open_conflicts;
  shown.push(figure("Open conflicts", open === null || open === undefined ? "–" : count.format(open), `${count.format(done.conflicts)} met since the start`, open > 0 ? "warn" : null));
  shown.push(figure("Dead letters", queue ? count.format(queue.dead) : "–", queue?.dead > 0 ? "to be retried or dropped below" : "events that could not be processed", queue?.dead > 0 ? "warn" : null));
  const log = last(history, "chunk_sync_wal_bytes");
  if (log !== null) shown.push(figure("Write-ahead log", bytes(log), "on disk"));
  const held = status.absent?.held ?? 0;
  if (held > 0) shown.push(figure("Deletions held", count.format(held), "more than scrub.max_deletes; the operator decides", "bad"));
  return [...shown, ...optional(history)];
}

/** The sum of the gauges whose name begins so; null if there is none. */
function sum(history, prefix) {
  const found = Object.keys(history.series).filter((name) => name.startsWith(prefix));
  return found.length === 0 ? null : found.reduce((all, name) => all + (last(history, name) ?? 0), 0);
}

/** Figures that are shown only while they are not zero. */
function optional(history) {
  const oldest = last(history, "chunk_sync_waiting_seconds");
  const found = [
    ["Rows out of sight", "chunk_sync_absent_rows{state=\"hidden\"}", "chunk-sync doctor names what hides them", "bad"],
    ["Set aside", "chunk_sync_waiting_events", oldest > 0 ? `the oldest for ${duration(oldest)}` : "until they can be merged", "warn"],
    ["Watched", "chunk_sync_watch", "late writes, which are read back", null],
  ];
  const shown = found.map(([name, prefix, note, tone]) => ({ name, number: sum(history, prefix), note, tone }));
  return shown.filter(({ number }) => number > 0).map(({ name, number, note, tone }) => figure(name, count.format(number), note, tone));
}

const PHASES = { failed: "bad", opening: "warn", bus_full: "warn" };

/** Figures on capture: the fields that the status has, and what PostgreSQL keeps for the slot. */
function captured({ capture }, history) {
  const lag = last(history, "chunk_sync_capture_lag_bytes") ?? capture?.lag_bytes ?? null;
  const shown = [];
  if (capture) {
    shown.push(figure("Phase", capture.phase.replaceAll("_", " "), `for ${duration(since(capture.since))}`, PHASES[capture.phase] ?? null));
  }
  if (lag !== null) shown.push(figure("Slot", bytes(lag), "of log that PostgreSQL keeps for it", lag > 2 ** 30 ? "warn" : null));
  const troubles = [["fault", "Fault"], ["blocked_by", "Waits for"], ["gap", "Looks for missed changes"]];
  return [...shown, ...troubles.filter(([key]) => capture?.[key]).map(([key, name]) => figure(name, capture[key], "", "bad"))];
}

function drawTiles(list, shown) {
  while (list.children.length > shown.length) list.lastElementChild.remove();
  shown.forEach(({ name, text, note, tone }, i) => {
    const tile = list.children[i] ?? list.appendChild(make("div", "", make("dt"), make("dd"), make("dd", "note")));
    const [term, value, explanation] = tile.children;
    setText(term, name);
    setText(value, text, tone);
    value.classList.toggle("long", text.length > 12);
    tile.classList.toggle("wide", text.length > 40);
    setText(explanation, note);
  });
}

function drawStores({ stores, absent }, history) {
  const list = $("stores");
  while (list.children.length > stores.length) list.lastElementChild.remove();
  stores.forEach((store, i) => drawStore(list.children[i] ?? list.appendChild(emptyStore()), store, absent?.held ?? 0, history));
}

function emptyStore() {
  const head = make("div", "head", make("h3"), make("span", "pill"));
  return make("li", "card", head, make("p", "role"), make("p", "lag", make("b"), make("span")), make("p", "role spread"), plot("plot low"), make("p", "outbox"), make("p", "fault"));
}

function drawStore(item, store, held, history) {
  const name = NAMES[store.target] ?? store.target;
  const [title, pill] = item.querySelector(".head").children;
  setText(title, name);
  setText(item.querySelector(".role"), ROLES[store.target] ?? "");
  const lag = history.lag_seconds[store.target];
  if (store.failing) setText(pill, "Failing", "bad");
  else if (store.behind || store.outbox > 0) setText(pill, "Catching up", "warn");
  // Such a store still holds chunks whose rows are gone.
  else if (held > 0 && store.target !== "postgres") setText(pill, "Deletions held", "warn");
  else if (lag?.now > LATE) setText(pill, "Behind", "warn");
  else setText(pill, "In sync", "good");
  const [number, unit] = item.querySelector(".lag").children;
  // What is in the outbox counts as complete, so the lag does not show it.
  const lacks = store.outbox > 0;
  setText(number, lacks ? count.format(store.outbox) : lag ? duration(lag.now) : "–");
  setText(unit, lacks ? ` ${store.outbox === 1 ? "chunk" : "chunks"} behind` : " behind");
  setText(item.querySelector(".spread"), lag?.p50 !== undefined ? `visible in ${duration(lag.p50)} (p50), ${duration(lag.p95)} (p95)` : "no change in the last 5 minutes");
  const values = history.series[`lag{target="${store.target}"}`] ?? [];
  const most = Math.max(0, ...values.filter((value) => value !== null));
  const places = shownSeconds(values);
  lines(item.querySelector("svg"), [{ name: "out", values, area: true }], { places, most: 0.1, label: `Lag of ${name} over the last ${duration(places)}: ${duration(most)} at most` });
  const outbox = item.querySelector(".outbox");
  outbox.hidden = store.target === "postgres";
  setText(outbox, store.outbox === null ? "outbox unknown" : `${count.format(store.outbox)} ${store.outbox === 1 ? "chunk" : "chunks"} in its outbox`);
  const fault = item.querySelector(".fault");
  fault.hidden = !store.failing;
  if (store.failing) setText(fault, `For ${duration(since(store.failing.since))}: ${store.failing.fault}. The service retries; chunk-sync doctor examines the server.`);
}

function drawVerification(found, all) {
  $("never").hidden = Boolean(found);
  $("verified").hidden = !found;
  if (!found) return;
  setText($("consistency"), percent(found.consistency));
  const rest = [found.repaired > 0 && `${count.format(found.repaired)} repaired since`, found.undecided > 0 && `${count.format(found.undecided)} need the operator`].filter(Boolean);
  setText($("compared"), `of ${count.format(found.chunks)} chunks equal in every store; verified ${duration(since(found.at))} ago in ${duration(found.seconds)}${rest.length ? `; ${rest.join(", ")}` : ""}`);
  redraw($("verdicts"), all, () => Object.entries(found.stores).map(([target, store]) => verdict(target, store, all)));
  drawDifferences(found);
}

function verdict(target, store, all) {
  const title = NAMES[target] ?? target;
  const name = make("th", "", title);
  name.scope = "row";
  const equal = make("td", "", `${percent(store.consistency)} %`);
  if (store.consistency < 100) equal.dataset.tone = "bad";
  const row = make("tr", "", name, equal, make("td", "", overTime(title, all.map(({ stores }) => stores[target]?.consistency ?? null))), make("td", "", count.format(store.count)));
  for (const kind of ["missing", "orphaned", "different", "stale", "oversize"]) {
    const cell = make("td", "", count.format(store[kind]));
    if (store[kind] > 0) cell.dataset.tone = "bad";
    row.append(cell);
  }
  return row;
}

/** The consistency of one store in the verifications since the start, as a line. */
function overTime(name, values) {
  const known = values.filter((value) => value !== null);
  if (known.length < 2) return "first pass";
  const worst = Math.min(...known);
  const drawn = plot("plot spark");
  const label = `Consistency of ${name} in the last ${known.length} verifications: ${percent(worst)} % at least`;
  lines(drawn, [{ name: "out", values, area: true }], { places: values.length, least: 100 - Math.max(0.01, (100 - worst) * 1.5), most: 100, label });
  return drawn;
}

/** Lists the differences that the last verification names; a click on an id looks the chunk up. */
function drawDifferences({ differences, stores }) {
  $("differences").hidden = differences.length === 0;
  const all = Object.values(stores).reduce((sum, store) => sum + store.missing + store.orphaned + store.different + store.stale + store.oversize, 0);
  setText($("differences-title"), all > differences.length ? `What differed: ${differences.length} of ${count.format(all)}` : "What differed");
  redraw($("differing"), differences, () => differences.map(({ id, store, kind, fields }) => {
    const look = make("button", "plain id", id);
    look.type = "button";
    look.dataset.look = id;
    return make("li", "", look, ` ${kind} in ${NAMES[store] ?? store}${fields.length ? `: ${fields.join(", ")}` : ""}`);
  }));
}
