// Talks to a worker that holds a Session.  Answers come as promises.

const SOURCE = document.getElementById("worker").textContent;
const ADDRESS = URL.createObjectURL(new Blob([SOURCE], { type: "text/javascript" }));

/** What a worker is, on the page's own thread: where a browser starts none, the page works all the same, but stutters. */
class Inline {
  constructor() {
    this.scope = { postMessage: (data) => this.onmessage({ data }) };
    new Function("self", SOURCE)(this.scope);
  }

  postMessage(data) { setTimeout(() => this.scope.onmessage({ data })); }
}

/** A second worker that helps all engines, each over a line of its own; null where none starts. */
let helper;
function lineToHelper() {
  if (helper === undefined) {
    try {
      helper = new Worker(ADDRESS);
      // it never says that it is ready, and nobody asks it
      helper.onerror = (event) => event.preventDefault();
    } catch { helper = null; }
  }
  if (!helper) return null;
  const { port1, port2 } = new MessageChannel();
  helper.postMessage({ name: "help", port: port1 }, [port1]);
  return port2;
}

export class Engine {
  /** start: the arguments of Session's constructor. */
  constructor(start, onError) {
    this.start = start;
    this.onError = onError;
    this.waiting = new Map();
    this.next = new Map();
    this.busy = new Set();
    this.count = 0;
    try { this.use(new Worker(ADDRESS)); } catch { this.use(new Inline()); }
  }

  use(worker) {
    this.worker = worker;
    let alive = false;
    worker.onmessage = ({ data: { id, result, error } }) => {
      alive = true;
      const { resolve, reject } = this.waiting.get(id) ?? {};
      this.waiting.delete(id);
      if (error === undefined) resolve?.(result);
      else { this.onError(error); reject?.(new Error(error)); }
    };
    worker.onerror = (event) => {
      if (alive) { this.onError(event.message); return; }
      event.preventDefault();
      this.use(new Inline()); // it never started: all over again without it
      for (const [id, { message }] of this.waiting) this.worker.postMessage({ id, ...message });
    };
    const port = worker instanceof Inline ? null : lineToHelper();
    if (port) worker.postMessage({ name: "helper", port }, [port]);
    worker.postMessage({ id: 0, name: "start", parameters: [this.start] });
  }

  call(name, ...parameters) {
    return new Promise((resolve, reject) => {
      const message = { name, parameters };
      this.waiting.set(++this.count, { resolve, reject, message });
      this.worker.postMessage({ id: this.count, ...message });
    });
  }

  /** As `call`, for what a slider asks many times: while one is at work only the newest of the others is kept.
   *  `done` gets every answer. */
  async latest(done, name, ...parameters) {
    if (this.busy.has(name)) { this.next.set(name, { done, parameters }); return; }
    this.busy.add(name);
    try {
      done(await this.call(name, ...parameters));
    } finally {
      this.busy.delete(name);
    }
    const next = this.next.get(name);
    this.next.delete(name);
    if (next) await this.latest(next.done, name, ...next.parameters);
  }

  get idle() { return this.waiting.size === 0 && this.next.size === 0; }
}
