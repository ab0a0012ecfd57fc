// Keeps a page fresh: fetches the address in data-refresh and brings the elements it
// answers with, found by their ids, in place. What did not change is not touched, so
// nothing flickers and focus stays.

const BUSY_MS = 2000;
const IDLE_MS = 15000;

function sameKind(old, fresh) {
  return old.nodeType === fresh.nodeType && old.nodeName === fresh.nodeName && old.id === fresh.id;
}

function copyAttributes(old, fresh) {
  for (const { name } of [...old.attributes]) if (!fresh.hasAttribute(name)) old.removeAttribute(name);
  for (const { name, value } of fresh.attributes) if (old.getAttribute(name) !== value) old.setAttribute(name, value);
}

export function bringInto(old, fresh) {
  if (old.isEqualNode(fresh)) return;
  if (old.nodeType !== Node.ELEMENT_NODE) {
    old.nodeValue = fresh.nodeValue;
    return;
  }
  copyAttributes(old, fresh);
  const before = [...old.childNodes];
  const after = [...fresh.childNodes];
  after.forEach((child, i) => {
    if (!before[i]) old.append(child);
    else if (sameKind(before[i], child)) bringInto(before[i], child);
    else before[i].replaceWith(child);
  });
  before.slice(after.length).forEach((child) => child.remove());
}

function sayChange(old, fresh) {
  if (!("sayChanges" in fresh.dataset) || old.textContent === fresh.textContent) return;
  document.querySelector("[data-say]")?.replaceChildren(fresh.textContent);
}

async function refresh(url) {
  const answer = await fetch(url, { headers: { Accept: "text/html" } });
  // Signed out meanwhile: the next click leads to the sign-in page anyway.
  if (!answer.ok || answer.redirected) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  for (const fresh of page.body.children) {
    const old = document.getElementById(fresh.id);
    if (!old) continue;
    sayChange(old, fresh);
    bringInto(old, fresh);
  }
}

function keepFresh(url) {
  let timer = 0;
  const next = () => {
    clearTimeout(timer);
    if (!document.hidden) timer = setTimeout(turn, document.querySelector("[data-busy]") ? BUSY_MS : IDLE_MS);
  };
  const turn = () => refresh(url).catch(() => {}).finally(next);
  document.addEventListener("visibilitychange", () => (document.hidden ? clearTimeout(timer) : turn()));
  next();
}

const place = document.querySelector("[data-refresh]");
if (place) keepFresh(place.dataset.refresh);
