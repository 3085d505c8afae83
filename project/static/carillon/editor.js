// Turns every textarea with data-editor into a code editor and marks the lines named in data-problems. With data-check
// it asks that address, while somebody types, what is wrong.
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
const TYPING_PAUSE = 400; // milliseconds without a key, after which somebody is asked

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
  markProblems(editor, JSON.parse(textarea.dataset.problems || "[]"));
  if (textarea.dataset.check) checkWhileTyping(editor, textarea);
  textarea.editor = editor;
  return editor;
}

// Marks the problems, [{line, message}], in place of those that were marked before.
function markProblems(editor, problems) {
  for (const { handle, widget } of editor.state.problems || []) {
    editor.removeLineClass(handle, "background", "editor-problem-line");
    editor.removeLineClass(handle, "gutter", "editor-problem-gutter");
    widget.clear();
  }
  editor.state.problems = problems.map((problem) => {
    const line = Math.min(Math.max(problem.line - 1, 0), editor.lastLine());
    const handle = editor.addLineClass(line, "background", "editor-problem-line");
    editor.addLineClass(line, "gutter", "editor-problem-gutter");
    const note = document.createElement("div");
    note.className = "editor-problem";
    note.textContent = problem.message;
    return { handle, widget: editor.addLineWidget(line, note, { coverGutter: false, noHScroll: true }) };
  });
}

// Whoever listens to the textarea hears "checked", with the answer; null when there was none. One question at a time:
// what is typed meanwhile is asked for next.
function checkWhileTyping(editor, textarea) {
  let asked = null;
  let isAsking = false;
  let timer = 0;
  const check = async () => {
    if (isAsking || textarea.value === asked) return;
    isAsking = true;
    asked = textarea.value;
    const answer = await post(textarea.dataset.check, { text: asked }, textarea.form);
    isAsking = false;
    if (answer && textarea.value === asked) markProblems(editor, answer.problems);
    textarea.dispatchEvent(new CustomEvent("checked", { detail: answer, bubbles: true }));
    check();
  };
  editor.on("change", () => {
    clearTimeout(timer);
    timer = setTimeout(check, TYPING_PAUSE);
  });
}

async function post(address, fields, form) {
  const body = new URLSearchParams({ ...fields, csrfmiddlewaretoken: form.elements.csrfmiddlewaretoken.value });
  try {
    const answer = await fetch(address, { method: "POST", body });
    return answer.ok ? await answer.json() : null;
  } catch {
    return null; // nobody there, or the login page
  }
}

document.querySelectorAll("textarea[data-editor]").forEach((textarea) => {
  if (!textarea.name.includes("__prefix__")) makeEditor(textarea);
});
