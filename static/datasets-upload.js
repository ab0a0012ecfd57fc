// Uploads with a progress bar, and takes a file that is dropped. Without this script the
// form works as any other.

const form = document.querySelector("[data-upload]");
const drop = form.querySelector("[data-drop]");
const file = form.elements.file;
const name = form.elements.name;
const box = form.querySelector("[data-upload-progress]");

function nameAfter(filename) {
  const words = filename.replace(/\.[^.]*$/, "").replaceAll(/[_-]+/g, " ").trim().slice(0, 120);
  return words.charAt(0).toUpperCase() + words.slice(1);
}

function chosen() {
  const [picked] = file.files;
  if (!picked) return;
  if (name && (!name.value || name.value === name.dataset.filled)) {
    name.value = nameAfter(picked.name);
    name.dataset.filled = name.value;
  }
  const isText = picked.name.toLowerCase().endsWith(".txt");
  form.querySelector("[name=text_split]").closest(".field").hidden = !isText;
  // Columns of a table are chosen on the next page, with the text between them.
  const isTable = /\.(csv|tsv|xlsx)$/i.test(picked.name);
  form.querySelector("details").hidden = isText || isTable;
}

function clearErrors() {
  for (const error of form.querySelectorAll(".error, .flash")) error.remove();
  for (const input of form.querySelectorAll("[aria-invalid]")) input.removeAttribute("aria-invalid");
}

function complain(field, message, link) {
  const inputs = form.querySelectorAll(`[name="${CSS.escape(field)}"]`);
  const place = inputs[0]?.closest(".field") ?? form;
  const error = document.createElement("p");
  error.className = "error";
  error.id = `error-${field}`;
  error.role = "alert";
  const words = document.createElement("span");
  words.textContent = message;
  error.append(words);
  if (link) {
    const there = document.createElement("a");
    there.href = link;
    there.textContent = "Open it";
    words.append(" ", there);
  }
  place === form ? form.prepend(error) : place.append(error);
  for (const input of inputs) {
    input.setAttribute("aria-invalid", "true");
    input.setAttribute("aria-describedby", error.id);
  }
  inputs[0]?.focus();
}

function stop(errors, links = {}) {
  box.hidden = true;
  form.querySelector("button[type=submit]").removeAttribute("aria-busy");
  for (const [field, messages] of Object.entries(errors)) complain(field, messages.join(" "), links[field]);
}

function answered(request) {
  if (request.response?.url) return location.assign(request.response.url);
  const broken = { __all__: [`The site answered with error ${request.status}. Try again.`] };
  return stop(request.response?.errors ?? broken, request.response?.links);
}

function progressed(event, began) {
  const percent = Math.floor((100 * event.loaded) / event.total);
  const bar = box.querySelector("progress");
  bar.max = event.total;
  bar.value = event.loaded;
  const words = event.loaded < event.total ? `Uploading, ${percent}\u00a0%` : "Uploaded, being checked";
  box.querySelector("[data-upload-words]").textContent = words;
  const seconds = (((performance.now() - began) / 1000) * (event.total - event.loaded)) / event.loaded;
  box.querySelector("[data-upload-left]").textContent = seconds > 2 ? `${Math.ceil(seconds)}\u00a0s left` : "";
}

function upload() {
  const request = new XMLHttpRequest();
  const began = performance.now();
  request.open("POST", form.action);
  request.setRequestHeader("Accept", "application/json");
  request.responseType = "json";
  request.upload.addEventListener("progress", (event) => progressed(event, began));
  request.addEventListener("load", () => answered(request));
  request.addEventListener("error", () => stop({ __all__: ["The connection broke while uploading. Try again."] }));
  request.send(new FormData(form));
}

form.addEventListener("submit", (event) => {
  event.preventDefault();
  clearErrors();
  if (!file.files.length) return stop({ file: ["Choose a file."] });
  form.querySelector("button[type=submit]").setAttribute("aria-busy", "true");
  box.hidden = false;
  return upload();
});
file.addEventListener("change", chosen);
for (const type of ["dragover", "dragenter"]) {
  drop.addEventListener(type, (event) => {
    event.preventDefault();
    drop.dataset.over = "";
  });
}
drop.addEventListener("dragleave", () => delete drop.dataset.over);
drop.addEventListener("drop", (event) => {
  event.preventDefault();
  delete drop.dataset.over;
  if (!event.dataTransfer.files.length) return;
  file.files = event.dataTransfer.files;
  chosen();
});
chosen();
