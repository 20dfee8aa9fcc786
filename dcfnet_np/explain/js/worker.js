// The worker: the mathematics off the page's own thread, so that the page stays alive.  It answers
// messages { id, name, parameters } with { id, result } or { id, error }, one after another.

import { Helper, help } from "./helper.js";
import { Session } from "./session.js";

let session, helper = null, last = Promise.resolve();

/** The memory of all arrays in a result.  It is moved to the page, not copied: results are made for the page alone. */
function buffersOf(x) {
  if (ArrayBuffer.isView(x)) return [x.buffer];
  return x && typeof x === "object" ? Object.values(x).flatMap(buffersOf) : [];
}

async function answer({ id, name, parameters }) {
  try {
    if (name === "start") {
      session = new Session(parameters[0], helper);
      self.postMessage({ id });
    } else {
      const result = await session[name](...parameters);
      self.postMessage({ id, result }, buffersOf(result));
    }
  } catch (error) {
    self.postMessage({ id, error: String(error.stack ?? error) });
  }
}

self.onmessage = ({ data }) => {
  if (data.name === "helper") helper = new Helper(data.port); // a second worker is at the other end
  else if (data.name === "help") help(data.port); // this is the second worker
  else last = last.then(() => answer(data));
};
