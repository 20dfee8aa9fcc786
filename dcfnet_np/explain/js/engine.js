// Experiments in workers of their own, so that the page stays alive.

import { LAYERS } from "./constants.js";
import { clip, data, fail } from "./state.js";

const SOURCE = document.getElementById("worker").textContent;
const ADDRESS = URL.createObjectURL(new Blob([SOURCE], { type: "text/javascript" }));

/** Parameters of the network: base64 of all in single precision. */
function unpacked(base64) {
  const bytes = Uint8Array.from(atob(base64), (letter) => letter.charCodeAt(0)), named = {};
  let rest = Float64Array.from(new Float32Array(bytes.buffer));
  for (const [name, length] of Object.entries(LAYERS)) {
    named[name] = rest.slice(0, length);
    rest = rest.subarray(length);
  }
  return named;
}

class Engine {
  constructor() {
    this.waiting = new Map(); // questions without an answer, by number
    this.newest = new Map(); // of the questions of `latest`, by name
    this.count = 0;
    this.worker = new Worker(ADDRESS);
    this.worker.onmessage = ({ data: { id, result, error } }) => {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      if (error === undefined) { resolve(result); return; }
      fail(error);
      reject(new Error(error));
    };
    this.worker.onerror = (event) => fail(event.message ?? "the browser starts no worker");
    const [weights, random] = [data.weights, data.random].map(unpacked);
    this.call("start", { ...data, frames: clip.frames, weights, random });
  }

  /** The answer of the session's method, as a promise. */
  call(name, ...parameters) {
    return new Promise((resolve, reject) => {
      this.waiting.set(++this.count, { resolve, reject });
      this.worker.postMessage({ id: this.count, name, parameters });
    });
  }

  /** As `call`, for what a slider asks many times: while one is at work only the newest of the
   *  others is kept.  `done` gets every answer. */
  async latest(done, name, ...parameters) {
    const busy = this.newest.has(name);
    this.newest.set(name, { done, parameters });
    if (busy) return;
    try {
      for (let job; job !== this.newest.get(name);) {
        job = this.newest.get(name);
        job.done(await this.call(name, ...job.parameters));
      }
    } finally {
      this.newest.delete(name);
    }
  }

  get idle() { return this.waiting.size === 0 && this.newest.size === 0; }
}

const engines = new Map();
/** The experiment of this name, made when first asked for. */
export function engine(name) {
  if (!engines.has(name)) engines.set(name, new Engine());
  return engines.get(name);
}
export const idle = () => [...engines.values()].every((one) => one.idle);
