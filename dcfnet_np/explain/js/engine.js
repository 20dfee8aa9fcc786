// Talks to a worker that holds a Session.  Answers come as promises.

const WORKER = URL.createObjectURL(new Blob([document.getElementById("worker").textContent], { type: "text/javascript" }));

export class Engine {
  /** start: the arguments of Session's constructor. */
  constructor(start, onError) {
    this.worker = new Worker(WORKER);
    this.waiting = new Map();
    this.next = new Map();
    this.busy = new Set();
    this.count = 0;
    this.worker.onerror = (event) => onError(event.message);
    this.worker.onmessage = ({ data: { id, result, error, milliseconds } }) => {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      this.milliseconds = milliseconds;
      if (error === undefined) resolve(result);
      else { onError(error); reject(new Error(error)); }
    };
    this.call("start", start);
  }

  call(name, ...parameters) {
    return new Promise((resolve, reject) => {
      this.waiting.set(++this.count, { resolve, reject });
      this.worker.postMessage({ id: this.count, name, parameters });
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
