// Small helpers: elements, numbers, durations, requests. Data from the service is set as text, never as markup.

const TIMEOUT = 8000;
const TOKEN = "chunk-sync token";

export const NAMES = { postgres: "PostgreSQL", qdrant: "Qdrant", neo4j: "Neo4j" };
export const $ = (id) => document.getElementById(id);
export const count = new Intl.NumberFormat("en");

/** Sets the text only if it changed, so that screen readers do not repeat it and a selection is kept. */
export function setText(element, text, tone) {
  if (element.textContent !== text) element.textContent = text;
  if (tone === undefined) return;
  if (tone === null) delete element.dataset.tone;
  else element.dataset.tone = tone;
}

export function make(tag, className, ...content) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...content);
  return element;
}

/** A text of the service as content: times to the second, and what stands between backticks as code. */
export function prose(text) {
  const parts = text.replace(/(T\d\d:\d\d:\d\d)\.\d+Z/g, "$1Z").split("`");
  return parts.map((part, i) => (i % 2 === 1 ? make("code", "", part) : part));
}

/** Replaces the content only if the data changed. Returns whether it did. */
export function redraw(element, data, draw) {
  const key = JSON.stringify(data);
  if (element.dataKey === key) return false;
  element.dataKey = key;
  element.replaceChildren(...draw());
  return true;
}

/** A duration in seconds as text, in its two largest units. */
export function duration(seconds) {
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

export function bytes(size) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let unit = 0;
  while (size >= 1024 && unit < units.length - 1) {
    size /= 1024;
    unit += 1;
  }
  return `${unit === 0 ? size : size.toFixed(1)} ${units[unit]}`;
}

/** 100 only if nothing differs: 99.9996 is not rounded up. */
export function percent(value) {
  return value >= 100 ? "100" : (Math.floor(value * 1000) / 1000).toFixed(3);
}

export const rate = (value) => count.format(value < 10 ? Math.round(value * 10) / 10 : Math.round(value));

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

/** A refusal, with the status of the response; 401 means that the token is missing or wrong. */
export class Refused extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

/** Requests JSON from the service. Throws `Refused` if the response is no success. */
export async function ask(path, method = "GET") {
  const headers = token.get() === null ? {} : { Authorization: `Bearer ${token.get()}` };
  const answer = await fetch(path, { method, headers, cache: "no-store", signal: AbortSignal.timeout(TIMEOUT) });
  const body = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refused(answer.status, body.error ?? `the response has status ${answer.status}`);
  return body;
}
