// Draws the figures of the live page. The server builds them without colours; here the
// stylesheet's variables go in, again whenever the theme changes.

const MIN_GAP_MS = 500;
const RETRY_MS = 1000;
const MAX_RETRIES = 5;
const NARROW_PX = 480;
// The names at the ends of the lines, for which a phone has no room.
const NAMES = /^(Train|Validation) /;

const place = document.querySelector("[data-chart]");
const smoothing = document.querySelector("[data-smoothing]");
const logAxis = document.querySelector("[data-log-axis]");

let answer = null;
let etag = "";
let series = "loss";
let loading = false;
let again = false;
let retries = 0;

function ink(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name) && resolved(name);
}

// light-dark() is no colour to Plotly: let the browser compute it.
const probe = document.createElement("span");
probe.hidden = true;
document.body.append(probe);

function resolved(name) {
  probe.style.color = `var(${name})`;
  return getComputedStyle(probe).color;
}

// A moving average that starts unbiased: the first value counts fully.
function smooth(values, share) {
  let sum = 0;
  let weight = 0;
  return values.map((value) => {
    sum = share * sum + (1 - share) * value;
    weight = share * weight + (1 - share);
    return sum / weight;
  });
}

function paintTrace(trace) {
  const { ink: stroke, fill, smooth: isSmooth } = trace.meta ?? {};
  const painted = { ...trace };
  if (trace.line) painted.line = { ...trace.line, color: ink(stroke) };
  if (trace.marker) {
    painted.marker = { ...trace.marker, color: ink(fill), line: { ...trace.marker.line, color: ink(stroke) } };
  }
  if (isSmooth) painted.y = smooth(trace.y, Number(smoothing.value) / 100);
  return painted;
}

function paintAxis(axis, grid) {
  return { ...axis, gridcolor: grid, linecolor: grid, tickfont: { color: ink("--ink-3"), size: 12 } };
}

// Train loss is named where its smoothed line ends.
function follow(note, traces) {
  const train = traces.find(({ name }) => name === "Train loss");
  if (!note.text.startsWith("Train ") || !train?.y.length) return note;
  const value = train.y[train.y.length - 1];
  return { ...note, y: value, text: `Train ${value.toFixed(2)}` };
}

function paintLayout(layout, traces, isLog, isNarrow) {
  const grid = ink("--line");
  const all = layout.annotations ?? [];
  const notes = all.filter(({ text }) => !isNarrow || !NAMES.test(text)).map((note) => follow(note, traces));
  return {
    ...layout,
    autosize: true,
    font: { family: getComputedStyle(document.body).fontFamily, size: 12, color: ink("--ink-3") },
    hoverlabel: { bgcolor: ink("--raised"), bordercolor: ink("--line"), font: { color: ink("--ink") } },
    xaxis: paintAxis(layout.xaxis, grid),
    yaxis: { ...paintAxis(layout.yaxis, grid), type: isLog ? "log" : "linear" },
    shapes: (layout.shapes ?? []).map((shape) =>
      shape.type === "rect"
        ? { ...shape, fillcolor: ink(shape.name), opacity: 0.65 }
        : { ...shape, line: { ...shape.line, color: ink(shape.name) } }),
    annotations: notes.map((note) => ({
      ...note,
      y: isLog && note.yref !== "paper" ? Math.log10(note.y) : note.y,
      font: { color: ink(note.name), size: 13, weight: 600 },
      bgcolor: ink("--surface"),
      borderpad: 1,
    })),
  };
}

function showKeys(traces) {
  const names = new Set(traces.map(({ name }) => name));
  const keys = document.querySelector("[data-keys]");
  keys.hidden = series !== "loss";
  for (const key of keys.querySelectorAll("[data-key]")) key.hidden = !names.has(key.dataset.key);
}

function draw() {
  if (!answer || !window.Plotly) return;
  const { data, layout } = answer.figure;
  const isNarrow = place.clientWidth < NARROW_PX;
  const traces = data.map(paintTrace);
  const painted = paintLayout(layout, traces, logAxis.checked && series !== "lr", isNarrow);
  window.Plotly.react(place, traces, painted, { displayModeBar: false, responsive: true });
  place.setAttribute("aria-label", answer.label);
  showKeys(data);
}

async function load() {
  const url = new URL(place.dataset.chart, location.href);
  url.searchParams.set("series", series);
  const response = await fetch(url, { headers: etag ? { "If-None-Match": etag } : {} });
  if (response.status === 304) return;
  if (!response.ok || response.redirected) throw new Error(`The figure came with ${response.status}`);
  etag = response.headers.get("ETag") ?? "";
  answer = await response.json();
  draw();
}

// One request at a time, and the newest state last.
async function refresh() {
  if (loading) {
    again = true;
    return;
  }
  loading = true;
  again = false;
  try {
    await load();
    retries = 0;
    await new Promise((resolve) => setTimeout(resolve, MIN_GAP_MS));
  } catch {
    // After the last update no other asks again.
    if (retries < MAX_RETRIES) setTimeout(refresh, RETRY_MS * 2 ** retries);
    retries += 1;
  }
  loading = false;
  if (again) refresh();
}

function chooseSeries(event) {
  series = event.target.value;
  etag = "";
  refresh();
}

if (place) {
  document.querySelector("[data-series]").addEventListener("change", chooseSeries);
  smoothing.addEventListener("input", draw);
  logAxis.addEventListener("change", draw);
  document.addEventListener("job:update", refresh);
  document.addEventListener("themechange", draw);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  refresh();
}
