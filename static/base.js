// What every page shares: messages, copying, confirming, the theme.

const root = document.documentElement;

function say(text) {
  document.querySelector("[data-say]")?.replaceChildren(text);
}

export async function copy(text) {
  // Without HTTPS a browser offers no clipboard to other machines than this one.
  if (navigator.clipboard) return navigator.clipboard.writeText(text);
  const area = document.createElement("textarea");
  area.value = text;
  area.className = "sr";
  document.body.append(area);
  area.select();
  document.execCommand("copy");
  area.remove();
}

async function copyFrom(button) {
  const source = button.dataset.copyFrom;
  await copy(source ? document.getElementById(source).textContent : button.dataset.copy);
  say("Copied");
  button.dataset.copied = "";
  setTimeout(() => delete button.dataset.copied, 1500);
}

function dismiss(button) {
  const box = button.closest(button.dataset.dismiss || ".flash");
  // Where focus was is gone with the box; the page is the next best place.
  document.getElementById("main")?.focus({ preventScroll: true });
  box.remove();
}

function toggleTheme() {
  const dark = getComputedStyle(root).colorScheme === "dark" ||
    (!root.dataset.theme && matchMedia("(prefers-color-scheme: dark)").matches);
  root.dataset.theme = dark ? "light" : "dark";
  localStorage.setItem("theme", root.dataset.theme);
  root.dispatchEvent(new CustomEvent("themechange", { bubbles: true }));
}

function element(name, className, text) {
  const made = document.createElement(name);
  made.className = className;
  made.textContent = text;
  return made;
}

// Resolves to true when the person agrees. Escape and the quiet button mean no.
export function confirmed(question, yes = "Yes", danger = false) {
  const dialog = element("dialog", "dialog", "");
  const title = element("h2", "", question);
  title.id = "confirm-title";
  dialog.setAttribute("aria-labelledby", title.id);
  const foot = element("div", "card-foot", "");
  const no = element("button", "button quiet", "Cancel");
  const go = element("button", danger ? "button danger primary" : "button primary", yes);
  foot.append(no, go);
  dialog.append(title, foot);
  document.body.append(dialog);
  dialog.showModal();
  return new Promise((resolve) => {
    no.addEventListener("click", () => dialog.close());
    go.addEventListener("click", () => dialog.close("yes"));
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
  });
}

async function ask(form, submitter) {
  const { confirm, yes } = submitter?.dataset.confirm ? submitter.dataset : form.dataset;
  const danger = submitter?.classList.contains("danger") ?? false;
  if (!(await confirmed(confirm, yes, danger))) return;
  form.dataset.agreed = "";
  form.requestSubmit(submitter);
}

function onSubmit(event) {
  const { target: form, submitter } = event;
  if (event.defaultPrevented) return;
  const question = submitter?.dataset.confirm || form.dataset.confirm;
  if (question && !("agreed" in form.dataset)) {
    event.preventDefault();
    ask(form, submitter);
    return;
  }
  delete form.dataset.agreed;
  if (form.method !== "post" || "noBusy" in form.dataset) return;
  if (submitter?.getAttribute("aria-busy") === "true") event.preventDefault();
  else submitter?.setAttribute("aria-busy", "true");
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-dismiss], [data-copy], [data-copy-from], [data-theme-toggle]");
  if (!button) return;
  if ("dismiss" in button.dataset) dismiss(button);
  else if ("themeToggle" in button.dataset) toggleTheme();
  else copyFrom(button);
});
document.addEventListener("submit", onSubmit);

// Coming back by the Back button shows the page as it was left, spinners included.
addEventListener("pageshow", () => {
  for (const button of document.querySelectorAll("form [aria-busy='true'].button")) button.removeAttribute("aria-busy");
});

// A dialog whose form came back with an error opens again.
for (const dialog of document.querySelectorAll("[popover][data-open]")) dialog.showPopover();
