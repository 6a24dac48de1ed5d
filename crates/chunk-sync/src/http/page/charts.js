// Line charts in SVG, and what is computed from the samples of /v1/history.

const WIDTH = 600;
const HEIGHT = 96;

function element(name, attributes) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const path = (className, d) => element("path", { class: className, d });

/** An empty chart for `lines`. */
export const plot = (className) => element("svg", { class: className, viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });

/** Draws lines, each an array of values or nulls, with one scale. The newest value is at the right edge. */
export function lines(svg, series, { places, least = 0, most = 0, label }) {
  const values = series.flatMap(({ values }) => values.filter((value) => value !== null));
  const top = Math.max(most, ...values);
  const x = (i, length) => ((i + places - length) / Math.max(1, places - 1)) * WIDTH;
  const y = (value) => HEIGHT - 4 - ((value - least) / Math.max(1e-9, top - least)) * (HEIGHT - 12);
  const drawn = series.flatMap(({ name, values, area }) => {
    const points = values.map((value, i) => value !== null && `${x(i, values.length).toFixed(1)},${y(value).toFixed(1)}`).filter(Boolean);
    if (points.length < 2) return [];
    const line = `M${points.join("L")}`;
    const filled = area ? [path(`area ${name}`, `${line}L${WIDTH},${HEIGHT}L${points[0].split(",")[0]},${HEIGHT}Z`)] : [];
    return [...filled, path(`line ${name}`, line)];
  });
  svg.replaceChildren(...drawn);
  if (svg.getAttribute("aria-label") !== label) svg.setAttribute("aria-label", label);
}

/** Differences of a growing count, per second, averaged over `over` samples; null where a sample is missing. */
export function rates(values, seconds, over) {
  return values.map((value, i) => {
    const before = values[Math.max(0, i - over)];
    if (i === 0 || value === null || before === null) return null;
    return Math.max(0, value - before) / (Math.min(i, over) * seconds);
  });
}
