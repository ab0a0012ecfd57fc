// The form of a new job: keeps the plan up to date, and makes presets, the scale's
// slider and the lines of prompts work. What is posted are plain fields.

const PLAN_DELAY_MS = 250;
const COUNT_AGAIN_MS = 1000;

const SUGGESTING = ["dataset_version", "base_model", "parent_snapshot"];

const form = document.querySelector("[data-job-form]");
const plan = document.querySelector("[data-plan]");
const state = document.querySelector("[data-plan-state]");
const fields = form?.elements;
// Fields a person has changed keep their values when another dataset is chosen.
const touched = new Set();
let timer = 0;
let newest = 0;
// A suggestion is owed until it came, whatever else changes meanwhile.
let owed = false;

// ---- Plan

function query() {
  const data = new FormData(form);
  const num = data.getAll("prompts").filter((line) => line.trim()).length;
  data.delete("prompts");
  data.delete("csrfmiddlewaretoken");
  if (num) data.set("num_prompts", num);
  if (owed) data.set("suggest", "");
  return new URLSearchParams(data);
}

function takeSuggested(suggested) {
  for (const [name, value] of Object.entries(suggested)) {
    if (!touched.has(name) && fields[name]) fields[name].value = value;
  }
  reflect();
}

function showSum() {
  const sum = plan.querySelector("[data-sum]");
  document.querySelector("[data-plan-sum]").replaceChildren(sum?.dataset.sum ?? "");
  // What would be refused is not sent; the reason stands beside the button.
  document.querySelector("[data-start]").disabled = Boolean(sum && "refused" in sum.dataset);
}

async function load() {
  newest += 1;
  const mine = newest;
  const answer = await fetch(`${form.dataset.planUrl}?${query()}`, { headers: { Accept: "application/json" } });
  if (!answer.ok || answer.redirected || mine !== newest) return;
  const { html, counting, suggested } = await answer.json();
  if (mine !== newest) return;
  if (suggested) {
    owed = false;
    takeSuggested(suggested);
    load();
    return;
  }
  plan.innerHTML = html;
  state.textContent = counting ? "Counting" : "Up to date";
  showSum();
  if (counting) later(COUNT_AGAIN_MS);
}

function later(delay) {
  clearTimeout(timer);
  state.textContent ||= "Working it out";
  timer = setTimeout(() => load().catch(() => { state.textContent = "The plan is out of reach; Start still works"; }), delay);
}

// ---- Fields that stand for others

const slider = document.querySelector("[data-scale-slider]");

function reflect() {
  slider.value = Math.round(Math.log10(Number(fields.learning_rate_scale.value) || 1) * 10);
  for (const preset of document.querySelectorAll("[data-preset]")) preset.checked = preset.value === fields.epochs.value;
  const box = document.querySelector("[data-snapshot-field]");
  if (box) box.hidden = fields.base_model.value !== "snapshot";
  const away = document.querySelector("[data-remote-engines]");
  // This machine is never away.
  if (away) away.hidden = !away.dataset.remoteEngines.split(" ").includes(fields.engine.value);
  // Only a validation loss can stop improving.
  fields.early_stop.disabled = !fields.validation_version.value;
}

function scaleFromSlider() {
  fields.learning_rate_scale.value = Number((10 ** (slider.value / 10)).toPrecision(2));
  touched.add("learning_rate_scale");
}

function onInput({ target }) {
  if (target === slider) scaleFromSlider();
  else if ("preset" in target.dataset) {
    fields.epochs.value = target.value;
    touched.add("epochs");
  } else touched.add(target.name);
  reflect();
  owed ||= SUGGESTING.includes(target.name);
  later(PLAN_DELAY_MS);
}

// ---- Prompts

function addPrompt() {
  const lines = document.querySelectorAll("[data-prompt]");
  const last = lines[lines.length - 1];
  const line = last.cloneNode(true);
  const box = line.querySelector("textarea");
  box.value = "";
  box.removeAttribute("aria-invalid");
  last.after(line);
  box.focus();
}

function removePrompt(button) {
  const line = button.closest("[data-prompt]");
  const neighbour = line.nextElementSibling?.matches("[data-prompt]") ? line.nextElementSibling : line.previousElementSibling;
  if (neighbour?.matches("[data-prompt]")) {
    line.remove();
    neighbour.querySelector("textarea").focus();
  } else line.querySelector("textarea").value = "";
  later(PLAN_DELAY_MS);
}

if (form) {
  form.addEventListener("input", onInput);
  form.addEventListener("click", ({ target }) => {
    if (target.closest("[data-add-prompt]")) addPrompt();
    const remove = target.closest("[data-remove-prompt]");
    if (remove) removePrompt(remove);
  });
  reflect();
  showSum();
  if ("counting" in plan.dataset) later(COUNT_AGAIN_MS);
  // What was wrong comes first.
  form.querySelector("[aria-invalid='true']")?.focus();
}
