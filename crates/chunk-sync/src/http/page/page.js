// The status page: fetches /v1/status every second and displays it. Data from the service is set as text, never as markup.

"use strict";

const INTERVAL = 1000;
const TIMEOUT = 5000;
const MINUTE = 60;
const TOKEN = "chunk-sync token";

const NAMES = { postgres: "PostgreSQL", qdrant: "Qdrant", neo4j: "Neo4j" };
const ROLES = { postgres: "rows, the system of record", qdrant: "vectors", neo4j: "graph" };

const $ = (id) => document.getElementById(id);
const count = new Intl.NumberFormat("en");

let rates = [];
let before = null;
let answeredAt = null;
let serviceNow = 0;
let asking = null;
let timer = null;

/** Sets the text only if it changed, so that screen readers do not repeat it and a selection is kept. */
function setText(element, text, tone) {
  if (element.textContent !== text) element.textContent = text;
  if (tone === undefined) return;
  if (tone === null) delete element.dataset.tone;
  else element.dataset.tone = tone;
}

function make(tag, className, text) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  if (text !== undefined) element.textContent = text;
  return element;
}

/** A duration in seconds as text, in its two largest units. */
function duration(seconds) {
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  const units = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  let rest = Math.floor(seconds);
  const parts = [];
  for (const [name, size] of units) {
    const whole = Math.floor(rest / size);
    rest -= whole * size;
    if (whole > 0 || (name === "s" && parts.length === 0)) parts.push(`${whole} ${name}`);
  }
  return parts.slice(0, 2).join(" ");
}

/** Seconds since `time`, by the clock of the service. */
const since = (time) => Math.max(0, (serviceNow - Date.parse(time)) / 1000);

/** 100 only if nothing differs: 99.9996 is not rounded up. */
function percent(value) {
  return value >= 100 ? "100" : (Math.floor(value * 1000) / 1000).toFixed(3);
}

// --- drawing ---------------------------------------------------------------------------------------------------------

function draw(status) {
  serviceNow = Date.parse(status.started) + status.uptime_seconds * 1000;
  setText($("about"), `Version ${status.version}, ${status.roles}, up for ${duration(status.uptime_seconds)}`);
  drawState(status);
  drawFlow(status);
  drawQueue(status.queue);
  drawStores(status.stores);
  drawVerification(status.verification);
  $("ask").hidden = true;
  $("board").hidden = false;
  $("forget").hidden = sessionStorage.getItem(TOKEN) === null;
}

function drawState(status) {
  const failing = status.stores.filter((store) => store.failing).map((store) => NAMES[store.target]);
  if (!status.ready) setText($("state"), status.recovered ? "Not ready" : "Recovering", "bad");
  else if (failing.length > 0) setText($("state"), `Ready, but ${failing.join(" and ")} ${failing.length > 1 ? "fail" : "fails"}`, "warn");
  else setText($("state"), "Ready", "good");
  const reasons = [...status.waiting_for, ...status.unknown];
  const drawn = $("reasons");
  if (drawn.dataset.shown !== reasons.join("\n")) {
    drawn.dataset.shown = reasons.join("\n");
    drawn.replaceChildren(...reasons.map((reason) => make("p", "", reason[0].toUpperCase() + reason.slice(1))));
  }
  drawn.hidden = reasons.length === 0;
}

function drawFlow({ done, started, uptime_seconds: uptime }) {
  if (before && before.started === started && uptime > before.uptime) {
    rates.push((done.settled - before.settled) / (uptime - before.uptime));
    rates = rates.slice(-MINUTE);
  } else if (before && before.started !== started) {
    rates = [];
  }
  before = { started, uptime, settled: done.settled };
  const recent = rates.slice(-5);
  const rate = recent.reduce((sum, one) => sum + one, 0) / Math.max(1, recent.length);
  setText($("rate"), count.format(rate < 10 ? Math.round(rate * 10) / 10 : Math.round(rate)));
  setText($("settled"), count.format(done.settled));
  setText($("under-way"), count.format(done.under_way));
  setText($("conflicts"), count.format(done.conflicts));
  setText($("replayed"), count.format(done.replayed));
  drawSpark();
}

/** The newest rate is at the right edge; the highest of the last minute reaches the top. */
function drawSpark() {
  const top = Math.max(1, ...rates);
  const x = (i) => ((i + MINUTE - rates.length) / (MINUTE - 1)) * 600;
  const points = rates.map((rate, i) => `${x(i).toFixed(1)},${(78 - (rate / top) * 72).toFixed(1)}`);
  const line = points.length > 1 ? `M${points.join("L")}` : "";
  $("spark-line").setAttribute("d", line);
  $("spark-area").setAttribute("d", line && `${line}L600,80L${x(0).toFixed(1)},80Z`);
  $("spark").setAttribute("aria-label", `Events completed per second over the last minute: ${count.format(Math.round(top))} at most`);
}

function drawQueue(queue) {
  const shown = (value) => (queue ? count.format(value) : "–");
  setText($("unread"), shown(queue?.unread));
  setText($("pending"), shown(queue?.pending));
  setText($("oldest"), typeof queue?.oldest_seconds === "number" ? duration(queue.oldest_seconds) : "–");
  setText($("dead"), shown(queue?.dead), queue?.dead > 0 ? "warn" : null);
}

function drawStores(stores) {
  const list = $("stores");
  while (list.children.length > stores.length) list.lastElementChild.remove();
  stores.forEach((store, i) => drawStore(list.children[i] ?? list.appendChild(emptyStore()), store));
}

function emptyStore() {
  const item = make("li", "card");
  const head = make("div", "head");
  head.append(make("h3"), make("span", "pill"));
  const outbox = make("p", "outbox");
  outbox.append(make("b"), make("span"));
  item.append(head, make("p", "role"), outbox, make("p", "fault"));
  return item;
}

function drawStore(item, store) {
  const [name, pill] = item.querySelector(".head").children;
  setText(name, NAMES[store.target] ?? store.target);
  setText(item.querySelector(".role"), ROLES[store.target] ?? "");
  if (store.failing) setText(pill, "Failing", "bad");
  else if (store.behind || store.outbox > 0) setText(pill, "Catching up", "warn");
  else setText(pill, "In sync", "good");
  const [number, label] = item.querySelector(".outbox").children;
  item.querySelector(".outbox").hidden = store.target === "postgres";
  setText(number, store.outbox === null ? "–" : count.format(store.outbox));
  setText(label, store.outbox === 1 ? " pending chunk" : " pending chunks");
  const fault = item.querySelector(".fault");
  fault.hidden = !store.failing;
  if (store.failing) setText(fault, `For ${duration(since(store.failing.since))}: ${store.failing.fault}`);
}

function drawVerification(found) {
  $("never").hidden = Boolean(found);
  $("verified").hidden = !found;
  if (!found) return;
  setText($("consistency"), percent(found.consistency));
  setText($("compared"), `of ${count.format(found.chunks)} chunks identical in every store; verified ${duration(since(found.at))} ago in ${duration(found.seconds)}`);
  const rows = Object.entries(found.stores).map(([target, store]) => {
    const row = make("tr");
    const name = make("th", "", NAMES[target] ?? target);
    name.scope = "row";
    row.append(name, make("td", "", count.format(store.count)));
    for (const kind of ["missing", "orphaned", "different", "stale"]) {
      const cell = make("td", "", count.format(store[kind]));
      if (store[kind] > 0) cell.dataset.tone = "bad";
      row.append(cell);
    }
    return row;
  });
  $("verdicts").replaceChildren(...rows);
}

// --- fetching --------------------------------------------------------------------------------------------------------

async function ask() {
  const token = sessionStorage.getItem(TOKEN);
  const headers = token === null ? {} : { Authorization: `Bearer ${token}` };
  const answer = await fetch("v1/status", { headers, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
  if (answer.status === 401) {
    answeredAt = Date.now();
    return askForToken(token !== null);
  }
  if (!answer.ok) throw new Error(`the response has status ${answer.status}`);
  const status = await answer.json();
  answeredAt = Date.now();
  draw(status);
}

function askForToken(wrong) {
  sessionStorage.removeItem(TOKEN);
  setText($("state"), "Locked", "idle");
  $("board").hidden = true;
  $("reasons").hidden = true;
  $("forget").hidden = true;
  if (wrong) setText($("ask-wrong"), "Wrong token.");
  $("ask").hidden = false;
  $("token").focus();
}

function silent(error) {
  const reason = error.name === "TimeoutError" ? `no response within ${TIMEOUT / 1000} s` : error.message;
  const known = $("board").hidden ? "" : ` The data below is from ${new Date(answeredAt).toLocaleTimeString()}.`;
  setText($("silence"), `The service does not respond (${reason}). Retrying.${known}`);
  setText($("state"), "No response", "bad");
}

async function turn() {
  clearTimeout(timer);
  if (asking) return;
  asking = ask();
  try {
    await asking;
    $("silence").hidden = true;
    document.body.classList.remove("stale");
  } catch (error) {
    silent(error);
    $("silence").hidden = false;
    document.body.classList.add("stale");
  }
  asking = null;
  // No requests while the page waits for the token, or while it is hidden.
  if (!document.hidden && $("ask").hidden) timer = setTimeout(turn, INTERVAL);
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(TOKEN, $("token").value);
  $("token").value = "";
  setText($("ask-wrong"), "");
  turn();
});

$("forget").addEventListener("click", () => {
  sessionStorage.removeItem(TOKEN);
  turn();
});

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) turn();
});

turn();
