// Panels that HTMX fills: marks in the editor what one of them says is wrong, and says when the server does not answer.
"use strict";

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
  event.target.removeAttribute("data-lost");
  for (const name of (event.target.dataset.marks || "").split(" ").filter(Boolean)) {
    markPlace(name, event.target.querySelector(`[data-editor-problem="${name}"]`));
  }
});

// A panel that goes on by itself would stand still without a word.
for (const lost of ["htmx:responseError", "htmx:sendError", "htmx:timeout"]) {
  document.addEventListener(lost, (event) => {
    const panel = event.target.closest("[data-panel]");
    if (!panel) return;
    panel.dataset.lost = "";
    for (const hidden of panel.querySelectorAll(".panel-lost")) hidden.hidden = false;
    for (const running of panel.querySelectorAll(".panel-running")) running.hidden = true;
  });
}

// Select2 tells jQuery of a choice, and nobody else.
window.addEventListener("load", () => {
  if (window.django && django.jQuery) {
    django.jQuery(document).on("change.carillon", "select.admin-autocomplete", (event) => {
      event.target.form.dispatchEvent(new Event("input"));
    });
  }
});
