// Shows how far imports are, and the finished page when one ends.

const POLL_MS = 700;
const MEGABYTE = 1e6;
const number = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });

function secondsInWords(seconds) {
  if (seconds < 10) return "a few seconds";
  if (seconds < 90) return `about ${Math.round(seconds / 5) * 5}\u00a0s`;
  return `about ${Math.round(seconds / 60)}\u00a0min`;
}

function show(box, state, began) {
  const bar = box.querySelector("progress");
  bar.max = state.total || 1;
  bar.value = state.done;
  const words = box.querySelector("[data-import-words]");
  const percent = Math.floor((100 * state.done) / (state.total || 1));
  words.textContent = state.total
    ? `${percent}\u00a0%, ${number.format(state.done / MEGABYTE)} of ${number.format(state.total / MEGABYTE)}\u00a0MB`
    : "Importing";
  const left = box.querySelector("[data-import-left]");
  const gained = state.done - began.done;
  if (!left || gained <= 0) return;
  const seconds = (((performance.now() - began.at) / 1000) * (state.total - state.done)) / gained;
  left.textContent = `${secondsInWords(seconds)} left`;
}

async function watch(box) {
  let began = null;
  while (box.isConnected) {
    try {
      const answer = await fetch(box.dataset.importProgress, { headers: { Accept: "application/json" } });
      const state = await answer.json();
      if (!state.importing) break;
      if (!began || state.done < began.done) began = { at: performance.now(), done: state.done };
      show(box, state, began);
    } catch {
      // The server is away for a moment; what is shown stays.
    }
    await new Promise((resolve) => setTimeout(resolve, POLL_MS));
  }
  if (box.isConnected) location.assign(box.dataset.doneUrl || location.href);
}

for (const box of document.querySelectorAll("[data-import-progress]")) watch(box);
