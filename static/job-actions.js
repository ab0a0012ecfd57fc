// The live page's buttons: they act while the page stays where it is.

// How long buttons wait at most for the page to show what they did.
const HOLD_MS = 1500;
// How long the page says what a button did.
const SHOWN_MS = 6000;

// An action is under way; the page then waits until its buttons change.
let acting = false;
let release = null;
let messageBox = null;

export function clearMessage() {
  messageBox?.remove();
  messageBox = null;
}

function show(message, isError) {
  clearMessage();
  document.querySelector("[data-say]")?.replaceChildren(message);
  messageBox = document.createElement("p");
  messageBox.className = isError ? "flash danger" : "flash";
  // What was done has been said already.
  if (isError) messageBox.role = "alert";
  else setTimeout((box) => box.remove(), SHOWN_MS, messageBox);
  messageBox.textContent = message;
  document.querySelector("[data-live]").after(messageBox);
}

export function releaseButtons() {
  release?.();
}

// The buttons of before would ask again for what was done.
function buttonsChange() {
  return new Promise((resolve) => {
    release = resolve;
    setTimeout(resolve, HOLD_MS);
  });
}

export async function act(event) {
  event.preventDefault();
  if (acting) return;
  acting = true;
  clearMessage();
  const { target: form, submitter } = event;
  submitter.setAttribute("aria-busy", "true");
  try {
    const answer = await fetch(submitter.formAction, {
      method: "POST", body: new FormData(form), headers: { Accept: "application/json" },
    });
    const changed = buttonsChange();
    const { ok, message } = await answer.json();
    show(message, !ok);
    document.querySelector("#stop-job:popover-open")?.hidePopover();
    if (ok) await changed;
  } catch {
    // Signed out, or the site is away: the browser says so best.
    location.reload();
  }
  submitter.removeAttribute("aria-busy");
  acting = false;
}
