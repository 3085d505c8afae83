// Panels that HTMX fills: marks in the editor what one of them says is wrong, and says when the server does not answer.
"use strict";

const panelOf = (event) => event.target.closest("[data-panel]");
const editorMarks = new Map();

function markPlace(name, problem) {
  const textarea = document.getElementById(`id_${name}`);
  const editor = textarea && textarea.nextElementSibling && textarea.nextElementSibling.CodeMirror;
  if (!editor) return;
  if (editorMarks.has(name)) editorMarks.get(name).clear();
  editorMarks.delete(name);
  if (!problem) return;
  const line = Math.min(Math.max(problem.dataset.line - 1, 0), editor.lastLine());
  const column = Math.max(problem.dataset.column - 1, 0);
  // What is missing at the end of a line is marked at its last character.
  const from = Math.min(column, Math.max(editor.getLine(line).length - 1, 0));
  editorMarks.set(name, editor.markText({ line, ch: from }, { line, ch: from + 1 }, { className: "editor-place" }));
}

document.addEventListener("htmx:afterSwap", (event) => {
  if (panelOf(event)) delete panelOf(event).dataset.lost;
  for (const name of (event.target.dataset.marks || "").split(" ").filter(Boolean)) {
    markPlace(name, event.target.querySelector(`[data-editor-problem="${name}"]`));
  }
});

// A panel that goes on by itself would stand still without a word.
for (const lost of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(lost, (event) => {
    if (panelOf(event)) Object.assign(panelOf(event).dataset, { lost: "", stopped: "" });
  });
}

// Stopping it is only not asking for the next step; a click on anything else goes on.
document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-panel] button");
  if (!button) return;
  if ("stop" in button.dataset) panelOf(event).dataset.stopped = "";
  else delete panelOf(event).dataset.stopped;
});
document.addEventListener("htmx:beforeRequest", (event) => {
  if ("step" in event.target.dataset && "stopped" in panelOf(event).dataset) event.preventDefault();
});

// Select2 tells jQuery of a choice, and nobody else; and its own field has no label.
window.addEventListener("load", () => {
  if (!window.django || !django.jQuery) return;
  django.jQuery(document).on("change.carillon", "select.admin-autocomplete", (event) => {
    event.target.form.dispatchEvent(new Event("input"));
  });
  for (const select of document.querySelectorAll("select.admin-autocomplete")) {
    const label = document.querySelector(`label[for="${select.id}"]`);
    const field = select.parentElement.querySelector(".select2-search__field");
    if (label && field) field.setAttribute("aria-label", label.textContent.trim());
  }
});
