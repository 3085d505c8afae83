// What a YAML text that somebody is writing says so far, and where in it the cursor stands. It need not be whole, and
// it is read line by line: keys, lists and scalars, in blocks and in braces. The server's own reader judges it.
"use strict";

const KEY = /^(?:"((?:[^"\\]|\\.)*)"|'((?:[^']|'')*)'|([^\s#:{}[\],&*!|>'"%@`?-][^:#{}[\],]*?|-[^\s:#{}[\],][^:#{}[\],]*?))\s*:(?=\s|$)/;

class Outline {
  // `data` is what was understood, `place` where the cursor (an offset into the text) is:
  // {path, slot: "key" | "value" | "item", from: offset where the word under the cursor begins, word: its part before
  // the cursor}; null where nothing can stand.
  constructor(text, cursor) {
    this.text = text;
    this.cursor = cursor;
    this.data = {};
    this.place = null;
    this.stack = [{ map: true, indent: 0, flow: false, key: null }];
    this.block = null; // the indentation of the key whose text stands in a block, | or >
    let offset = 0;
    for (const line of text.split("\n")) {
      this.line(line, offset);
      offset += line.length + 1;
    }
  }

  get top() {
    return this.stack[this.stack.length - 1];
  }

  get path() {
    const path = [];
    for (const level of this.stack) {
      if (level.map && level.key === null) break;
      path.push(level.map ? level.key : level.index);
    }
    return path;
  }

  at(path) {
    return path.reduce((value, part) => (value === null || typeof value !== "object" ? undefined : value[part]), this.data);
  }

  line(line, offset) {
    const indent = line.search(/\S|$/);
    const isEmpty = indent === line.length || line[indent] === "#";
    const hasCursor = this.cursor >= offset && this.cursor <= offset + line.length;
    if (this.block !== null) {
      if (isEmpty || indent > this.block) {
        if (hasCursor) this.found("value", offset + indent);
        return;
      }
      this.block = null;
    }
    if (this.top.flow) return this.inFlow(line, offset, 0);
    if (!isEmpty) return this.inBlock(line, offset, indent);
    const comment = line.indexOf("#");
    if (!hasCursor || (comment >= 0 && this.cursor > offset + comment)) return;
    const kept = this.stack.map((level) => ({ ...level }));
    this.enter(this.cursor - offset, false); // a line that is still empty belongs where the cursor is
    if (this.top.map) this.top.key = null;
    this.found(this.top.map ? "key" : "item", this.cursor);
    this.stack = kept;
  }

  // Leave the blocks that end before a line with this indentation; a map begins where there is none yet.
  enter(indent, isItem) {
    while (this.stack.length > 1) {
      const { map, indent: its } = this.top;
      if (its < indent || (its === indent && (map ? !isItem : isItem))) break;
      this.stack.pop();
    }
    const { map, indent: its } = this.top;
    if (isItem && (map || its < indent)) this.push({ map: false, indent, flow: false, index: -1 });
    if (!isItem && (!map || its < indent) && !(this.stack.length === 1 && this.top.key === null)) {
      this.push({ map: true, indent, flow: false, key: null });
    }
  }

  push(level) {
    this.put(level.map ? {} : []);
    this.stack.push(level);
  }

  put(value) {
    const path = this.path;
    const last = path.pop();
    const inside = this.at(path);
    if (last === undefined || inside === null || typeof inside !== "object") return;
    if (typeof value !== "object" || typeof inside[last] !== "object" || inside[last] === null) inside[last] = value;
  }

  inBlock(line, offset, indent) {
    let at = indent;
    while (line[at] === "-" && (at + 1 === line.length || line[at + 1] === " ")) {
      this.enter(at, true);
      this.top.index += 1;
      const next = at + 1 + line.slice(at + 1).search(/\S|$/);
      if (next === line.length || line[next] === "#") {
        this.put(null);
        if (this.cursor > offset + at && this.cursor <= offset + line.length) this.found("item", this.cursor);
        return;
      }
      at = next;
    }
    const key = KEY.exec(line.slice(at));
    if (!key) {
      if (at > indent) return this.value(line, offset, at, "item");
      this.enter(at, false);
      if (this.top.map) this.top.key = null; // a key that has no colon yet
      return this.value(line, offset, at, this.top.map ? "key" : "item");
    }
    this.enter(at, false);
    this.key(key);
    this.place = this.within(offset + at, offset + at + key[0].length - 1)
      ? this.here("key", offset + at, this.path.slice(0, -1))
      : this.place;
    this.value(line, offset, at + key[0].length, "value");
  }

  key(match) {
    this.top.key = (match[1] ?? match[2] ?? match[3]).trim();
    this.put(null);
  }

  // The rest of a line: a scalar, or what opens something longer.
  value(line, offset, start, slot) {
    const at = start + line.slice(start).search(/\S|$/);
    const rest = line.slice(at);
    if (/^[|>][-+0-9]*\s*(#.*)?$/.test(rest) && slot === "value") {
      this.block = this.top.indent;
      return;
    }
    if (rest[0] === "{" || rest[0] === "[") return this.inFlow(line, offset, at);
    const scalar = written(/^("(?:[^"\\]|\\.)*"?|'(?:[^']|'')*'?|(?:[^#]|\S#)*)/.exec(rest)[0]);
    if (slot !== "key") this.put(plain(scalar));
    if (this.cursor > offset + start - (slot === "value" ? 0 : 1) && this.cursor <= offset + line.length) {
      const end = offset + at + scalar.length;
      if (this.cursor <= end || !scalar) this.found(slot, Math.min(offset + at, this.cursor));
    }
  }

  // Braces and brackets, which may go on over many lines.
  inFlow(line, offset, start) {
    for (let at = start; at < line.length; ) {
      const rest = line.slice(at);
      const blank = /^(\s+|#.*$)/.exec(rest);
      if (blank && (rest[0] !== "#" || at === 0 || /\s/.test(line[at - 1]))) {
        this.gap(offset + at, offset + at + blank[0].length);
        at += blank[0].length;
      } else if (rest[0] === "{" || rest[0] === "[") {
        this.nextItem();
        const inside = rest[0] === "{" ? { map: true, key: null } : { map: false, index: -1, fresh: true };
        this.push({ ...inside, flow: true, indent: this.top.indent });
        at += 1;
        this.gap(offset + at, offset + at);
      } else if (rest[0] === "}" || rest[0] === "]") {
        if (!this.top.flow) return; // more are closed than were opened
        this.stack.pop();
        if (!this.top.flow) return;
        at += 1;
      } else if (rest[0] === ",") {
        if (this.top.map) this.top.key = null;
        else this.top.fresh = true;
        at += 1;
        this.gap(offset + at, offset + at);
      } else {
        at += this.flowScalar(rest, offset + at);
      }
    }
  }

  flowScalar(rest, from) {
    const key = this.top.map && this.top.key === null ? KEY.exec(rest) : null;
    if (key) {
      const path = this.path;
      if (this.within(from, from + key[0].length - 1)) this.place = this.here("key", from, path);
      this.key(key);
      this.gap(from + key[0].length, from + key[0].length);
      return key[0].length;
    }
    const scalar = /^("(?:[^"\\]|\\.)*"?|'(?:[^']|'')*'?|[^,{}[\]]+)/.exec(rest)[0];
    this.nextItem();
    const isKey = this.top.map && this.top.key === null;
    const word = written(scalar);
    if (this.within(from, from + word.length)) this.found(isKey ? "key" : this.top.map ? "value" : "item", from);
    if (!isKey) this.put(plain(word));
    return scalar.length;
  }

  // In brackets, a comma makes room for another item, and what is written takes it.
  nextItem() {
    if (!this.top.fresh) return;
    this.top.index += 1;
    this.top.fresh = false;
  }

  // Between two tokens in braces: something may be written here.
  gap(from, to) {
    if (!this.within(from, to)) return;
    const { map, key } = this.top;
    this.found(map ? (key === null ? "key" : "value") : "item", this.cursor);
  }

  within(from, to) {
    return this.cursor >= from && this.cursor <= to;
  }

  found(slot, from) {
    this.place = this.here(slot, from, this.path);
  }

  here(slot, from, path) {
    return { slot, path: slot === "item" ? this.listPath() : path, from, word: this.text.slice(from, this.cursor) };
  }

  // The path of the list itself, whichever of its items the cursor is in.
  listPath() {
    const path = this.path;
    if (!this.top.map) path.pop();
    return path;
  }
}

// Blanks at the end belong to a scalar only in quotes.
function written(scalar) {
  return /^["']/.test(scalar) ? scalar : scalar.trimEnd();
}

function plain(scalar) {
  return /^["']/.test(scalar) ? scalar.slice(1).replace(/["']$/, "") : scalar;
}
