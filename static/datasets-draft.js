// Changes of loss weights without leaving the place one reads: forms and links marked
// data-swap are fetched, and the main part of the answer takes the place of ours.

const SETTLE_MS = 250;
let latest = 0;
// Changes reach the server in the order in which they were made.
let answered = Promise.resolve();
// Somebody is typing a loss weight: the change that follows will bring a newer answer.
let typing = false;

function show(html, url) {
  const fresh = new DOMParser().parseFromString(html, "text/html");
  const main = fresh.getElementById("main");
  if (!main) return location.assign(url);
  const focused = document.activeElement.id;
  const kept = ["rule-segment", "rule-weight"].map((id) => [id, document.getElementById(id)?.value]);
  document.getElementById("main").replaceChildren(...main.children);
  document.title = fresh.title;
  history.replaceState(null, "", url);
  for (const [id, value] of kept) {
    const field = document.getElementById(id);
    if (field && value) field.value = value;
  }
  if (focused) document.getElementById(focused)?.focus({ preventScroll: true });
  countSegments();
  return document.querySelector(".flash[role='alert']")?.scrollIntoView({ block: "nearest" });
}

async function swap(url, options) {
  const mine = ++latest;
  const { hash } = new URL(url, location.href);
  answered = answered.then(() => fetch(url, options).catch(() => null));
  const answer = await answered;
  // Only the answer to the newest request is shown.
  if (mine !== latest || typing) return;
  if (!answer || !answer.headers.get("Content-Type")?.startsWith("text/html")) return location.reload();
  show(await answer.text(), answer.url.split("#")[0] + hash);
}

function send(form, submitter) {
  const data = new FormData(form, submitter);
  if (form.method === "post") return swap(form.action, { method: "POST", body: data });
  return swap(`${form.action}?${new URLSearchParams(data)}`).then(() => {
    const wanted = document.getElementById(`example-${data.get("example").replaceAll(",", "")}`);
    wanted?.scrollIntoView({ block: "center" });
  });
}

// The same rounding as on the server: 0 only for exactly 0, 10 only for exactly 1.
function tenths(weight) {
  if (weight > 1) return "over";
  if (weight === 0 || weight === 1) return String(weight * 10);
  return String(Math.min(9, Math.max(1, Math.round(weight * 10))));
}

function weigh(input) {
  const row = input.closest("[data-weight-row]");
  if (!row || !input.checkValidity() || input.value === "") return;
  for (const other of row.querySelectorAll("input")) if (other !== input) other.value = input.value;
  for (const part of [row, ...row.querySelectorAll("[data-w]")]) part.dataset.w = tenths(Number(input.value));
}

let settling;
function saveSoon(form) {
  clearTimeout(settling);
  settling = setTimeout(() => form.isConnected && !typing && form.requestSubmit(), SETTLE_MS);
}

function countSegments() {
  const choice = document.querySelector("[data-rule] select")?.selectedOptions[0];
  if (choice) document.querySelector("[data-rule-count]").textContent = choice.dataset.count;
}

document.addEventListener("submit", (event) => {
  const form = event.target;
  if (event.defaultPrevented || !("swap" in form.dataset)) return;
  event.preventDefault();
  clearTimeout(settling);
  send(form, event.submitter);
});
document.addEventListener("click", (event) => {
  const link = event.target.closest("a[data-swap]");
  if (!link || event.ctrlKey || event.metaKey || event.shiftKey || event.button) return;
  event.preventDefault();
  swap(link.href);
});
document.addEventListener("input", (event) => {
  typing = event.target.matches("[data-weights] input");
  weigh(event.target);
});
document.addEventListener("change", (event) => {
  typing = false;
  if (event.target.matches("[data-rule] select")) countSegments();
  const form = event.target.closest("[data-weights]");
  if (form) saveSoon(form);
});
// No "change" comes when somebody takes back what was typed.
document.addEventListener("focusout", (event) => {
  const form = event.target.closest("[data-weights]");
  if (typing && form) saveSoon(form);
  typing = false;
});
countSegments();
