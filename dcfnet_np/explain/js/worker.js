// The worker: the mathematics off the page's own thread, so that the page stays alive.  It answers messages
// { id, name, arguments } with { id, result } or { id, error }.

import { Session } from "./session.js";

let session;
onmessage = ({ data: { id, name, parameters } }) => {
  try {
    if (name === "start") {
      session = new Session(parameters[0]);
      postMessage({ id });
    } else {
      const began = performance.now(), result = session[name](...parameters);
      postMessage({ id, result, milliseconds: performance.now() - began });
    }
  } catch (error) {
    postMessage({ id, error: String(error.stack ?? error) });
  }
};
