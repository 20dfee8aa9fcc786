// A second worker for half of the channels.  Both ends of the line between two workers, a
// MessagePort.

import { extractChannels, room } from "./features.js";

/** In the worker that asks.  `ready` once the other end has said that it is there: until then do without it. */
export class Helper {
  constructor(port) {
    this.port = port;
    this.ready = false;
    this.waiting = []; // answers come in the order of the questions
    port.onmessage = ({ data: { result, error } }) => {
      if (!this.ready) { this.ready = true; return; }
      const { resolve, reject } = this.waiting.shift();
      if (error === undefined) resolve(result); else reject(new Error(error));
    };
  }

  /** `extractChannels` at the other end, as a promise.  */
  ask(image, parameters, windowed, first, last) {
    return new Promise((resolve, reject) => {
      this.waiting.push({ resolve, reject });
      this.port.postMessage({ image, parameters, windowed, first, last });
    });
  }
}

/** In the worker that helps. */
export function help(port) {
  port.onmessage = ({ data }) => {
    try {
      const { image, parameters, windowed, first, last } = data;
      const result = extractChannels(image, parameters, windowed, first, last, room(last - first, image.height));
      const { features, spectra: { re, im } } = result;
      port.postMessage({ result }, [features.buffer, re.buffer, im.buffer]); // moved, not copied
    } catch (error) {
      port.postMessage({ error: String(error.stack ?? error) });
    }
  };
  port.postMessage({}); // ready
}
