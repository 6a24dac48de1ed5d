// The status page: fetches the state every second and displays it, and handles the token.

import { loadConflicts, loadDead, lookUp } from "./records.js";
import { drawFigures, drawStatus } from "./state.js";
import { $, Refused, ask, setText, token } from "./util.js";

const INTERVAL = 1000;

/** Conflicts and dead letters are fetched every so many turns. */
const SELDOM = 5;

let answeredAt = null;
let busy = false;
let timer = null;
let turns = 0;

async function refresh() {
  const [status, history] = await Promise.all([ask("v1/status"), ask("v1/history")]);
  answeredAt = Date.now();
  drawStatus(status);
  drawFigures(status, history);
  $("ask").hidden = true;
  $("board").hidden = false;
  $("forget").hidden = token.get() === null;
  // These may fail while a store does not answer; the status names the cause.
  if (turns % SELDOM === 0) await Promise.allSettled([loadConflicts(), loadDead()]);
  turns += 1;
}

function askForToken() {
  if (token.get() !== null) setText($("ask-wrong"), "Wrong token.");
  token.forget();
  setText($("state"), "Locked", "idle");
  for (const id of ["board", "reasons", "forget"]) $(id).hidden = true;
  $("ask").hidden = false;
  $("token").focus();
}

function silent(error) {
  const known = $("board").hidden ? "" : ` The data below is from ${new Date(answeredAt).toLocaleTimeString()}.`;
  const reason = error.name === "TimeoutError" ? "no response in time" : error.message;
  setText($("silence"), `The service does not respond (${reason}). If it has ended, its log names the cause; chunk-sync run starts it. Retrying every second.${known}`);
  setText($("state"), "No response", "bad");
}

async function turn() {
  clearTimeout(timer);
  if (busy) return;
  busy = true;
  try {
    await refresh();
    $("silence").hidden = true;
    document.body.classList.remove("stale");
  } catch (error) {
    if (error instanceof Refused && error.status === 401) {
      $("silence").hidden = true;
      askForToken();
    } else {
      silent(error);
      $("silence").hidden = false;
      document.body.classList.add("stale");
    }
  }
  busy = false;
  // No requests while the page waits for the token, or while it is hidden.
  if (!document.hidden && $("ask").hidden) timer = setTimeout(turn, INTERVAL);
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  token.set($("token").value);
  $("token").value = "";
  setText($("ask-wrong"), "");
  turns = 0;
  turn();
});

$("forget").addEventListener("click", () => {
  token.forget();
  turn();
});

$("look").addEventListener("submit", (event) => {
  event.preventDefault();
  lookUp($("look-id").value);
});

$("differing").addEventListener("click", ({ target }) => {
  if (!target.dataset.look) return;
  $("look-id").value = target.dataset.look;
  $("look-id").focus();
  lookUp(target.dataset.look);
});

$("only-open").addEventListener("change", () => loadConflicts().catch(silent));

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) turn();
});

turn();
