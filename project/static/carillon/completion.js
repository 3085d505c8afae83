// Completes what somebody writes in a workflow: keys and values from the JSON Schemas of the language and the actions,
// names from the configuration (workflows/vocabulary.py), and what expressions can read.
"use strict";

const MEMBERS = {
  event: ["data", "id", "source", "specversion", "subject", "time", "type", "uid"],
  run: ["links", "started_at", "uid", "version"],
  failure: ["error", "step"],
};
const LEFT_BY_A_STEP = ["error", "outcome", "output", "state"];
const MOST_SHOWN = 50;

class Vocabulary {
  constructor({ definition, actions, names, variables }) {
    Object.assign(this, { definition, actions, names, variables });
  }

  // What could stand where the cursor is: {from: offset, list: [{text, about}]}; null: nothing is known. `event` is an
  // event like those that the workflow will see, if there is one.
  at(text, cursor, event) {
    const outline = new Outline(text, cursor);
    const place = outline.place;
    if (!place) return null;
    const inExpression = this.expressionAt(place);
    if (inExpression !== null) return this.inExpression(inExpression, place, cursor, outline, event);
    const quote = /^["']/.test(place.word) ? place.word[0] : "";
    const list = this.candidates(place, outline).map((one) => ({ ...one, text: quote + one.text }));
    return { from: place.from, list: matching(list, place.word) };
  }

  // --- keys and values ---

  candidates({ slot, path }, outline) {
    const schema = this.schemaAt(path, outline);
    if (!schema) return [];
    if (slot === "key") return this.keys(schema, path, outline);
    if (slot === "value") return this.values(schema, path, outline);
    const items = this.resolve({ ...schema.items, ...pick(schema, "names") });
    return isObject(items) ? this.keys(items, null, outline) : this.values(items, path, outline);
  }

  keys(schema, path, outline) {
    const written = (path && outline.at(path)) || {};
    const known = Object.entries(schema.properties || this.members(schema, path, outline));
    const required = new Set(schema.required || []);
    const order = ([one], [other]) => Number(required.has(other)) - Number(required.has(one));
    return known
      .filter(([name]) => !(name in written))
      .sort(order)
      .map(([name, about]) => ({ text: `${name}: `, shown: name, about: this.about(about, required.has(name)) }));
  }

  values(schema, path, outline) {
    if (schema.enum) return schema.enum.map((value) => ({ text: String(value) }));
    if (schema.const) return [{ text: schema.const }];
    if (schema.type === "boolean") return [{ text: "true" }, { text: "false" }];
    if (schema.names) return list(this.names[schema.names], ({ about }) => about);
    if (schema.members_of) return list(this.members(schema, path, outline), (about) => about);
    const name = path.findLast((part) => typeof part === "string");
    if (name === "action") return list(this.actions, (action) => firstLine(action.description));
    if (name === "needs") return this.otherSteps(path, outline).map((text) => ({ text }));
    return (schema.examples || []).map((text) => ({ text: String(text) }));
  }

  // The members of what a field beside this one names: {name: about}.
  members(schema, path, outline) {
    if (!schema.members_of || !path) return {};
    const beside = [...path.slice(0, -1), schema.members_of];
    const kind = this.schemaAt(beside, outline)?.names;
    return this.names[kind]?.[outline.at(beside)]?.members || {};
  }

  about(told, isRequired) {
    const words = typeof told === "string" ? told : firstLine(this.resolve(told).description);
    return isRequired ? `required${words ? ` · ${words}` : ""}` : words;
  }

  otherSteps(path, outline) {
    const steps = outline.data.steps;
    return (Array.isArray(steps) ? steps : []).filter((step, index) => step?.id && index !== path[1]).map((step) => step.id);
  }

  schemaAt(path, outline) {
    let schema = this.definition;
    let definitions = this.definition.$defs;
    for (const [at, part] of path.entries()) {
      if (part === "with" && schema.properties?.action) {
        const action = this.actions[outline.at([...path.slice(0, at), "action"])];
        if (!action) return null;
        schema = action;
        definitions = action.$defs;
        continue;
      }
      const inner = typeof part === "number" ? schema.items : schema.properties?.[part];
      if (!inner) return null;
      schema = this.resolve(inner, definitions);
    }
    return schema;
  }

  // What a $ref or an anyOf means for somebody who writes: the first that is more than null.
  resolve(schema, definitions) {
    const known = { ...this.definition.$defs, ...definitions };
    const own = pick(schema, "names", "members_of", "description", "examples");
    if (schema.$ref) return { ...this.resolve(known[schema.$ref.split("/").pop()] || {}, definitions), ...own };
    const choice = schema.anyOf?.find((one) => one.$ref || one.type === "object" || one.type === "array")
      || schema.anyOf?.find((one) => one.type !== "null");
    return choice ? { ...this.resolve(choice, definitions), ...own } : schema;
  }

  // --- expressions ---

  // The expression up to the cursor, where there is one: between ${{ and }}, or in a field that is one.
  expressionAt({ slot, path, word }) {
    if (slot === "key") return null;
    const opened = word.lastIndexOf("${{");
    if (opened >= 0 && !word.slice(opened).includes("}}")) return word.slice(opened + 3);
    const name = path[path.length - 1];
    return slot === "value" && (name === "if" || name === "match") ? word : null;
  }

  inExpression(expression, { path }, cursor, outline, event) {
    const [word] = /[\w.]*$/.exec(expression);
    const before = word.slice(0, word.lastIndexOf(".") + 1);
    const names = before ? this.fields(before.slice(0, -1).split("."), path, outline, event) : this.seen(path, outline);
    const last = word.slice(before.length);
    return { from: cursor - last.length, list: matching(names.map((text) => ({ text })), last) };
  }

  seen(path, outline) {
    const step = outline.at(path.slice(0, 2)) || {};
    const isLoop = step.for_each !== undefined;
    const fails = path[0] === "on_failure" || path.includes("undo");
    return this.variables.filter((name) => (["item", "index"].includes(name) ? isLoop : name !== "failure" || fails));
  }

  fields([first, ...rest], path, outline, event) {
    if (first === "steps") return this.ofSteps(rest, path, outline);
    if (first === "event" && rest.length && event) {
      const inside = rest.reduce((value, part) => value?.[part], event);
      return inside && typeof inside === "object" && !Array.isArray(inside) ? Object.keys(inside) : [];
    }
    return rest.length ? [] : MEMBERS[first] || [];
  }

  ofSteps(rest, path, outline) {
    if (rest.length > 1) return [];
    return rest.length ? LEFT_BY_A_STEP : this.otherSteps(path, outline);
  }
}

const isObject = (schema) => schema.type === "object" || Boolean(schema.properties);
const firstLine = (text) => (text || "").split("\n")[0];
const list = (names, about) => Object.entries(names || {}).map(([text, told]) => ({ text, about: about(told) }));
const pick = (from, ...keys) => Object.fromEntries(keys.filter((key) => key in from).map((key) => [key, from[key]]));

// Those that begin with the word, then those that have it somewhere; all but the word itself.
function matching(candidates, word) {
  const wanted = word.toLowerCase();
  const place = ({ text }) => text.toLowerCase().indexOf(wanted);
  return candidates
    .filter((one) => place(one) >= 0 && one.text.trim() !== word)
    .sort((one, other) => Number(place(one) > 0) - Number(place(other) > 0))
    .slice(0, MOST_SHOWN);
}

// --- the editor ---

function offerCompletion(editor, address, sampleEvent) {
  let vocabulary = null; // asked for once, when somebody begins to write
  const known = () => {
    vocabulary ||= fetch(address, { headers: { Accept: "application/json" } })
      .then((answer) => (answer.ok ? answer.json() : Promise.reject(answer.statusText)))
      .then((document) => new Vocabulary(document))
      .catch(() => {
        vocabulary = null; // the next key asks again
      });
    return vocabulary;
  };
  const hint = async (cm) => {
    const words = await known();
    const found = words?.at(cm.getValue(), cm.indexFromPos(cm.getCursor()), sampleEvent());
    if (!found?.list.length) return null;
    const data = { list: found.list.map(asHint), from: cm.posFromIndex(found.from), to: cm.getCursor() };
    // A key that was picked asks for its value.
    CodeMirror.on(data, "pick", ({ text }) => text.endsWith(": ") && setTimeout(show));
    return data;
  };
  const show = () => editor.showHint({ hint, completeSingle: false, closeCharacters: /[\s(){}[\];:,]/ });
  editor.addKeyMap({ "Ctrl-Space": show });
  editor.on("focus", known);
  editor.on("inputRead", (cm, change) => {
    if (!cm.state.completionActive && /^[\w.:{"'-]$/.test(change.text.join(""))) show();
  });
}

function asHint({ text, shown, about }) {
  return {
    text,
    render(element) {
      element.append(shown || text);
      if (!about) return;
      const told = document.createElement("span");
      told.className = "editor-about";
      told.textContent = about;
      element.append(told);
    },
  };
}
