// The live page's updates: a stream while the page is seen, polling where none comes
// through. Only what changed is touched, so focus, selection and open dialogs stay.

import { act, clearMessage, releaseButtons } from "./job-actions.js";
import { bringInto } from "./refresh.js";

const POLL_MS = 1000;
const RETRY_MS = 1000;
const MAX_FAILURES = 2;
// Then a stream is tried again: what held it up may be gone.
const MAX_POLLS = 15;
const PHONE_PIXELS = 640;

const page = document.querySelector("[data-live]");
const urls = page?.dataset ?? {};
let seq = Number(urls.seq);
let stream = null;
let timer = 0;
let failures = 0;
// Which run of polling may go on; those before it were ended while they fetched.
let run = 0;
let final = "final" in urls;

function fragment(html) {
  const template = document.createElement("template");
  template.innerHTML = html;
  return template.content;
}

function fill(element, html) {
  const fresh = element.cloneNode(false);
  fresh.hidden = !html;
  fresh.append(fragment(html));
  bringInto(element, fresh);
}

// ---- Watched prompts

function placeFor(row, step) {
  const after = [...row.children].find((cell) => Number(cell.dataset.step) > step);
  return after ?? row.querySelector("[data-pending]");
}

function cellAt(row, name, step) {
  const found = row.querySelector(`[data-step="${step}"]`);
  if (found) return found;
  const cell = document.createElement(name);
  cell.dataset.step = step;
  if (name === "th") cell.scope = "col";
  row.insertBefore(cell, placeFor(row, step));
  return cell;
}

function addRow(body, html) {
  const row = body.insertRow();
  const head = document.createElement("th");
  head.scope = "row";
  head.append(fragment(html));
  const pending = document.createElement("td");
  pending.dataset.pending = "";
  row.append(head, pending);
}

// A phone has room for one answer: the newest, not the place of the next.
function endOf(box) {
  const newest = [...box.querySelectorAll("thead [data-step]")].pop();
  if (!newest || box.clientWidth > PHONE_PIXELS) return box.scrollWidth - box.clientWidth;
  return newest.offsetLeft + newest.offsetWidth - box.clientWidth;
}

function atEnd(box) {
  return box.scrollLeft >= endOf(box) - 4;
}

function updateFilm(film) {
  const box = document.querySelector("[data-film]");
  if (!film || !box) return;
  const follow = atEnd(box);
  const table = box.querySelector("table");
  const [body] = table.tBodies;
  film.rows.slice(body.rows.length).forEach((html) => addRow(body, html));
  const shown = new Set(film.cells.map(({ step }) => step));
  for (const { step, html } of film.heads) {
    // A snapshot between two answers has no column.
    if (!shown.has(step) && !table.tHead.querySelector(`[data-step="${step}"]`)) continue;
    fill(cellAt(table.tHead.rows[0], "th", step), html);
  }
  for (const { row, step, html } of film.cells) fill(cellAt(body.rows[row], "td", step), html);
  if (follow) box.scrollLeft = endOf(box);
}

function updateNext(next) {
  for (const cell of document.querySelectorAll("[data-film] [data-pending]")) {
    cell.hidden = next === null;
    if (cell.tagName === "TH" && next !== null) cell.firstElementChild.textContent = `Step ${next.toLocaleString("en")}`;
  }
}

// ---- Log: new lines wait while somebody reads it

const log = document.querySelector("[data-log]");
let waiting = [];

function isRead() {
  const selection = getSelection();
  return log.matches(":hover, :focus") || (!selection.isCollapsed && log.contains(selection.anchorNode));
}

function flushLog() {
  if (!waiting.length || isRead()) return;
  const newest = waiting.reverse().map(fragment);
  waiting = [];
  log.prepend(...newest);
}

log?.addEventListener("pointerleave", flushLog);
log?.addEventListener("blur", flushLog);
document.querySelector("[data-log-level]")?.addEventListener("change", (event) => {
  log.toggleAttribute("data-all", event.target.value === "all");
});

// ---- Updates

function bringPart(name, html) {
  const part = document.querySelector(`[data-part="${name}"]`);
  if (!part) return;
  const before = part.textContent;
  fill(part, html);
  if (part.textContent === before) return;
  if (name === "status") clearMessage();
  if (name === "actions") releaseButtons();
}

function apply(update) {
  if (update.seq < seq) return;
  seq = update.seq;
  final = update.final;
  document.title = `${update.title} · Finetune`;
  for (const [name, html] of Object.entries(update.parts)) bringPart(name, html);
  updateFilm(update.film);
  updateNext(update.next);
  if (update.log) waiting.push(update.log);
  flushLog();
  if (update.announce) document.querySelector("[data-say]")?.replaceChildren(update.announce);
  document.dispatchEvent(new CustomEvent("job:update"));
  if (final) stop();
}

function stop() {
  stream?.close();
  stream = null;
  run += 1;
  clearTimeout(timer);
}

function address(url) {
  return `${url}?after=${seq}`;
}

function open() {
  stream = new EventSource(address(urls.live));
  stream.addEventListener("message", ({ data }) => {
    failures = 0;
    apply(JSON.parse(data));
  });
  stream.addEventListener("error", () => {
    stop();
    failures += 1;
    timer = setTimeout(start, RETRY_MS);
  });
}

// Undefined when the site does not answer, or sends to the sign-in page.
async function fetchUpdate() {
  try {
    const answer = await fetch(address(urls.parts), { headers: { Accept: "application/json" } });
    return answer.ok && !answer.redirected ? await answer.json() : undefined;
  } catch {
    return undefined;
  }
}

async function poll() {
  const mine = run;
  for (let polls = 0; polls < MAX_POLLS;) {
    const update = await fetchUpdate();
    if (mine !== run) return;
    if (update) {
      polls += 1;
      apply(update);
    }
    if (mine !== run) return;
    await new Promise((resolve) => { timer = setTimeout(resolve, POLL_MS); });
  }
  failures = MAX_FAILURES - 1;
  start();
}

function start() {
  if (final || document.hidden) return;
  if (failures < MAX_FAILURES && "EventSource" in window) open();
  else poll();
}

function onVisibility() {
  stop();
  if (!document.hidden) start();
}

if (page) {
  document.getElementById("act")?.addEventListener("submit", act);
  document.addEventListener("visibilitychange", onVisibility);
  const film = document.querySelector("[data-film]");
  if (film) film.scrollLeft = endOf(film);
  start();
}
