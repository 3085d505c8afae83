// What pages of facts do in the browser: copy things, and keep what a person opened while the page follows along.

document.addEventListener("click", async (click) => {
  const button = click.target.closest("[data-copy]");
  if (!button) return;
  click.preventDefault();
  const said = (await copy(button.dataset.copy)) ? "Copied" : "Press Ctrl+C";
  const words = button.querySelector("[data-words]");
  const before = button.dataset.before || words.textContent;
  button.dataset.before = before;
  words.textContent = said;
  setTimeout(() => (words.textContent = before), 2000);
});

async function copy(text) {
  if (navigator.clipboard) {
    try {
      await navigator.clipboard.writeText(text);
      return true;
    } catch {
      // not allowed here: the old way
    }
  }
  const field = document.createElement("textarea");
  field.value = text;
  field.setAttribute("readonly", "");
  field.style.position = "fixed";
  field.style.opacity = "0";
  document.body.append(field);
  field.select();
  const done = document.execCommand("copy"); // the only way without TLS
  if (done) field.remove();
  else field.addEventListener("blur", () => field.remove());
  return done;
}

// --- following along ------------------------------------------------------------------------------------------------

const LIVE = "data-live";
const opened = new Map();
let focused = null;

const nameOf = (element) => element.id || `${element.getAttribute("href") || ""} ${element.textContent.trim()}`;

document.addEventListener("htmx:beforeSwap", (swap) => {
  if (!swap.target.hasAttribute(LIVE) || !swap.detail.shouldSwap) return; // nothing new is told by 204
  if (!swap.detail.xhr.responseText.includes(LIVE)) {
    swap.preventDefault(); // the session is over, or the row is gone: the whole page says so
    location.reload();
    return;
  }
  for (const details of swap.target.querySelectorAll("details[id]")) opened.set(details.id, details.open);
  const active = document.activeElement;
  focused = active === document.body ? null : nameOf(active);
});

// At once: what a person opens a moment later is not to be closed.
document.addEventListener("htmx:afterSwap", () => {
  for (const details of document.querySelectorAll(`[${LIVE}] details[id]`)) {
    if (opened.has(details.id)) details.open = opened.get(details.id);
  }
  opened.clear();
  if (focused === null || document.activeElement !== document.body) return;
  const same = [...document.querySelectorAll("a, button, summary")].find((element) => nameOf(element) === focused);
  if (same) same.focus({ preventScroll: true });
});
