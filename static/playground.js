// The playground: one prompt, up to four columns, answers as they come.

import { Column } from "./playground-column.js";

const form = document.querySelector("[data-playground]");
const columns = [];

const find = (name) => form.querySelector(`[data-${name}]`);
const template = (name) => document.querySelector(`template[data-new-${name}]`);

function addColumn(node) {
  const column = new Column(node);
  columns.push(column);
  column.choice.addEventListener("change", () => chosen(column));
  column.find("remove").addEventListener("click", () => removeColumn(column));
  countColumns();
  return column;
}

function newColumn() {
  const node = template("column").content.firstElementChild.cloneNode(true);
  find("columns").append(node);
  const taken = new Set(columns.map((column) => column.choice.value));
  const free = [...node.querySelectorAll("option")].find((option) => !taken.has(option.value));
  if (free) free.selected = true;
  addColumn(node).choice.focus();
  remember();
}

function removeColumn(column) {
  column.stop();
  column.node.remove();
  columns.splice(columns.indexOf(column), 1);
  countColumns();
  remember();
  find("add").focus();
}

function countColumns() {
  find("add").hidden = columns.length >= Number(form.dataset.maxColumns);
  for (const column of columns) column.find("remove").hidden = columns.length === 1;
}

// The address names what is asked, so that it can be sent to a colleague.
function remember() {
  const query = new URLSearchParams();
  for (const { choice } of columns) query.append(choice.value.includes(":") ? "snapshot" : "model", choice.value);
  history.replaceState(null, "", `?${query}`);
}

function chosen(column) {
  remember();
  const prompt = form.elements.namedItem("prompt");
  const { prompt: suggestion } = column.option.dataset;
  // What a person typed stays; a suggestion gives way to the next.
  if (suggestion && (!prompt.value || prompt.value === prompt.dataset.suggested)) {
    prompt.value = suggestion;
    prompt.dataset.suggested = suggestion;
  }
}

function clearErrors() {
  for (const note of form.querySelectorAll("[id^='id_'][id$='_error']")) note.remove();
  for (const control of form.querySelectorAll("[aria-invalid]")) control.removeAttribute("aria-invalid");
}

function showErrors(fields) {
  for (const [name, messages] of Object.entries(fields)) {
    const control = form.elements.namedItem(name);
    const note = template("error").content.firstElementChild.cloneNode(true);
    note.id = `${control.id}_error`;
    note.querySelector("span").textContent = messages.join(" ");
    control.closest(".field, .stack").append(note);
    control.setAttribute("aria-invalid", "true");
    control.setAttribute("aria-describedby", `${control.id}_help ${note.id}`);
  }
  form.querySelector("[aria-invalid]")?.focus();
}

function busy(isBusy) {
  find("stop").hidden = !isBusy;
  find("ask").setAttribute("aria-busy", isBusy);
  find("ask").textContent = isBusy ? "Answering" : "Answer";
}

let question = 0;

async function askAll() {
  const number = ++question;
  for (const column of columns) column.stop();
  clearErrors();
  busy(true);
  find("status").textContent = "";
  const asked = columns.map((column) => column.ask(form.action, new FormData(form), template("answer")));
  const results = await Promise.allSettled(asked);
  if (number !== question) return;
  busy(false);
  const refused = results.find((result) => result.status === "rejected");
  if (refused?.reason.fields) showErrors(refused.reason.fields);
  else if (refused) throw refused.reason;
  else find("status").textContent = summary(results.map((result) => result.value));
}

function summary(states) {
  if (states.includes("failed")) return "Not every model answered.";
  if (states.includes("stopped")) return "Stopped.";
  return states.length > 1 ? "All answers are complete." : "The answer is complete.";
}

function stopAll() {
  for (const column of columns) column.stop();
  find("ask").focus();
}

function onKey(event) {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    form.requestSubmit(find("ask"));
  }
}

function start() {
  for (const node of form.querySelectorAll("[data-column]")) addColumn(node);
  const prompt = form.elements.namedItem("prompt");
  prompt.dataset.suggested = prompt.value;
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    askAll();
  });
  form.addEventListener("keydown", onKey);
  form.addEventListener("input", ({ target }) => {
    if (target.type === "range") target.closest(".field").querySelector("output").value = target.value;
  });
  find("add").addEventListener("click", newColumn);
  find("stop").addEventListener("click", stopAll);
}

if (form) start();
