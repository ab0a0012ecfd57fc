// Draws the first rows again with each choice, and writes names of columns where the
// cursor is. Without this script the page has a button for the first.

const SETTLE_MS = 250;
const form = document.querySelector("[data-columns]");
const drawn = form.querySelector("[data-drawn]");
let latest = 0;
let settling;
let written = form.querySelector("textarea");

async function draw() {
  const mine = ++latest;
  const body = new FormData(form);
  body.append("draw", "1");
  const answer = await fetch(form.action || location.href, { method: "POST", body }).catch(() => null);
  if (mine !== latest) return;
  if (!answer?.headers.get("Content-Type")?.startsWith("text/html") || answer.redirected) return location.reload();
  drawn.innerHTML = await answer.text();
}

function soon() {
  clearTimeout(settling);
  settling = setTimeout(draw, SETTLE_MS);
}

form.addEventListener("focusin", ({ target }) => {
  if (target.matches("textarea")) written = target;
});
form.addEventListener("input", ({ target }) => {
  // Other columns have other names: the whole page is another one.
  if (target.name === "has_header") return form.requestSubmit(form.elements.show[0]);
  soon();
});
form.addEventListener("click", ({ target }) => {
  const name = target.closest("[data-insert]")?.dataset.insert;
  if (name === undefined) return;
  written.setRangeText(`{${name}}`, written.selectionStart, written.selectionEnd, "end");
  written.focus();
  soon();
});
