// Turns every textarea with data-editor into a code editor and marks the lines named in data-problems.
"use strict";

CodeMirror.defineMode("liquid", (config, options) =>
  CodeMirror.overlayMode(CodeMirror.getMode(config, options.base || "null"), {
    token(stream) {
      if (stream.match(/\{\{.*?\}\}|\{%.*?%\}|\$\{\{.*?\}\}/)) return "liquid";
      while (stream.next() != null && !stream.match(/\{\{|\{%|\$\{\{/, false));
      return null;
    },
  }),
);

const editorModes = {
  json: { name: "javascript", json: true },
  yaml: { name: "liquid", base: "yaml" },
  cel: "javascript",
  html: { name: "liquid", base: "xml", htmlMode: true },
  liquid: { name: "liquid" },
};

function makeEditor(textarea) {
  const editor = CodeMirror.fromTextArea(textarea, {
    mode: editorModes[textarea.dataset.editor],
    theme: "carillon",
    lineNumbers: true,
    lineWrapping: textarea.dataset.editor !== "yaml",
    matchBrackets: true,
    autoRefresh: true,
    tabSize: 2,
    viewportMargin: Infinity,
    gutters: ["CodeMirror-linenumbers"],
    extraKeys: {
      Tab: (cm) => (cm.somethingSelected() ? cm.indentSelection("add") : cm.replaceSelection("  ", "end")),
      "Shift-Tab": (cm) => cm.indentSelection("subtract"),
      Esc: (cm) => cm.getInputField().blur(), // the way out for keyboards: Esc, then Tab
    },
  });
  const label = document.querySelector(`label[for="${textarea.id}"]`);
  const input = editor.getInputField();
  input.setAttribute("aria-label", label ? label.textContent.trim() : textarea.name);
  if (label) label.addEventListener("click", () => editor.focus());
  editor.setSize(null, "auto");
  editor.getScrollerElement().style.minHeight = `${Math.max(2, textarea.rows || 4) * 1.5}em`;
  // Whoever listens to the textarea (the warning about unsaved changes, conditional fields) hears of changes.
  editor.on("change", () => {
    editor.save();
    textarea.dispatchEvent(new Event("input", { bubbles: true }));
  });
  for (const problem of JSON.parse(textarea.dataset.problems || "[]")) {
    const line = Math.min(Math.max(problem.line - 1, 0), editor.lastLine());
    editor.addLineClass(line, "background", "editor-problem-line");
    editor.addLineClass(line, "gutter", "editor-problem-gutter");
    const note = document.createElement("div");
    note.className = "editor-problem";
    note.textContent = problem.message;
    editor.addLineWidget(line, note, { coverGutter: false });
  }
  return editor;
}

document.querySelectorAll("textarea[data-editor]").forEach((textarea) => {
  if (!textarea.name.includes("__prefix__")) makeEditor(textarea);
});
