// The worker: the mathematics off the page's own thread, so that the page stays alive.  It answers
// messages { id, name, parameters } with { id, result } or { id, error }, one after another.

import { Session } from "./session.js";

let session;

/** A result in single precision for the page; `memory` gets its arrays, which are moved there. */
function copied(x, memory) {
  if (ArrayBuffer.isView(x)) {
    const copy = new Float32Array(x);
    memory.push(copy.buffer);
    return copy;
  }
  if (Array.isArray(x)) return x.map((item) => copied(item, memory));
  if (!x || typeof x !== "object") return x;
  return Object.fromEntries(Object.entries(x).map(([name, part]) => [name, copied(part, memory)]));
}

self.onmessage = ({ data: { id, name, parameters } }) => {
  try {
    if (name === "start") session = new Session(...parameters);
    const memory = [], result = name === "start" ? null : session[name](...parameters);
    self.postMessage({ id, result: copied(result, memory) }, memory);
  } catch (error) {
    self.postMessage({ id, error: String(error.stack ?? error) });
  }
};
