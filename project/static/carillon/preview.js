// The page of a template: marks in its editors what the preview found wrong.
"use strict";

const templateFields = ["subject", "text", "html", "languages"];

document.addEventListener("htmx:afterSwap", ({ target }) => {
  if (target.id !== "preview") return;
  const marks = JSON.parse(document.getElementById("preview-marks").textContent);
  for (const name of templateFields) {
    const editor = document.getElementById(`id_${name}`)?.editor;
    if (editor) markProblems(editor, marks.filter(({ field }) => field === name));
  }
});
