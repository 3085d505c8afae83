// The page of a workflow: completion, the graph that follows what is typed, and what a test run answers.
"use strict";

const definition = document.getElementById("id_definition");
const graph = document.getElementById("workflow-graph");

function sampleEvent() {
  const event = document.getElementById("id_document");
  return event ? readObject(event.value) : null;
}

function tellState(answer) {
  const state = document.querySelector("[data-state-of='id_definition']");
  const number = answer?.problems.length;
  state.dataset.wrong = answer && !number ? "no" : "yes";
  if (!answer) state.textContent = "It could not be checked: the server did not answer as it should. It is checked when you save.";
  else state.textContent = number ? `${number} ${number === 1 ? "thing is" : "things are"} wrong.` : "Nothing is wrong.";
}

// A step of the graph leads to its line.
function goToStep(event) {
  const node = event.target.closest("[data-step]");
  if (!node) return;
  event.preventDefault();
  const own = new RegExp(`\\bid:\\s*["']?${node.dataset.step}["']?\\s*(,|}|#|$)`);
  const line = definition.value.split("\n").findIndex((text) => own.test(text));
  if (line < 0) return;
  definition.editor.focus();
  definition.editor.setCursor({ line, ch: 0 });
  definition.editor.scrollIntoView(null, 120);
}

// Take the output of a step of the test run along, to be changed, for the next one.
function sayWhatItLeaves({ leaves, output }) {
  const { editor } = document.getElementById("id_outcomes");
  const said = readObject(editor.getValue());
  said[leaves] ||= { output: JSON.parse(output) };
  const details = document.getElementById("test-outcomes");
  details.open = true;
  editor.setValue(JSON.stringify(said, null, 2));
  details.scrollIntoView({ block: "center" });
  editor.focus();
}

if (definition?.editor) {
  offerCompletion(definition.editor, definition.dataset.words, sampleEvent);
  definition.addEventListener("checked", ({ detail }) => {
    tellState(detail);
    if (detail?.graph) graph.innerHTML = detail.graph; // drawn by our own server, which escapes what it draws
    graph.dataset.old = detail?.graph ? "no" : "yes";
  });
  graph.addEventListener("click", goToStep);
  document.addEventListener("click", (event) => {
    const button = event.target.closest("[data-leaves]");
    if (button) sayWhatItLeaves(button.dataset);
  });
}
