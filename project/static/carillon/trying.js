// Fills an editor with the event that somebody chose: data-fills names its textarea, data-samples where events are had,
// data-inside the field of the document that the event is (empty: it is the document).
"use strict";

async function fillWithSample(choice) {
  const { fills, samples, inside } = choice.dataset;
  const key = choice.value.trim();
  if (!key) return;
  const answer = await fetch(`${samples}?${new URLSearchParams({ key })}`).then((it) => it.json(), () => null);
  choice.setCustomValidity(answer ? answer.problem : "The server did not answer.");
  if (!answer?.event) return choice.reportValidity();
  const { editor } = document.getElementById(fills);
  editor.setValue(JSON.stringify(inside ? { ...readObject(editor.getValue()), [inside]: answer.event } : answer.event, null, 2));
}

function readObject(text) {
  try {
    const found = JSON.parse(text);
    return Array.isArray(found) ? {} : found;
  } catch {
    return {};
  }
}

document.querySelectorAll("[data-fills]").forEach((choice) => {
  choice.addEventListener("change", () => fillWithSample(choice));
  choice.addEventListener("input", () => choice.setCustomValidity(""));
});
