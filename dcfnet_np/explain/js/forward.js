// Sections 1 to 5: patches, features, wish, filter, response.

import { colour, drawCross, drawFrame, drawMap, drawPatch, drawSquare, drawSurface, extent } from "./draw.js";
import { $, D, DEFAULTS, N, clip, data, engine, middle, number, percent, pointer, settings, signed, view, whenSeen } from "./state.js";

const SEARCH_FRAMES = ["frame-search", "frame-response", "frame-backward"];
const turns = { turn: 0.6, tilt: 0.95 }; // of the surfaces
const listeners = []; // called with every new result
export const timings = []; // milliseconds from a change to its picture

export const onForward = (listener) => listeners.push(listener);

/** Ask for everything anew; the newest settings win. */
export function update() {
  const asked = performance.now();
  engine("main").latest((result) => {
    show(result);
    timings.push(performance.now() - asked);
  }, "forward", { ...settings });
}

/** Draws what has changed; the other parts of a result are null. */
function show(result) {
  const news = Object.fromEntries(Object.entries(result).filter(([, part]) => part !== null));
  view.latest = { ...view.latest, ...news };
  for (const branch of ["template", "search"]) if (news[branch]) showPatch(branch);
  if (news.template || news.search) showFeatures();
  if (news.label) showLabel();
  if (news.filter) showFilter();
  showResponse();
  for (const listener of listeners) listener();
}

const about = (id, text) => $(id).setAttribute("aria-label", text);
export function range(id, [low, high]) { $(`${id}-range`).textContent = `${number(low, 2)} to ${number(high, 2)}`; }

// --- features ---

function showPatch(branch) {
  whenSeen($(`patch-${branch}`), () => drawPatch($(`patch-${branch}`), view.latest[branch].patch));
}

function showFeatures() {
  if (!view.latest) return;
  whenSeen($("grid"), () => {
    const { features } = view.latest[document.querySelector("#which input:checked").value];
    document.querySelectorAll("#grid canvas").forEach((canvas, l) =>
      drawMap(canvas, features.subarray(l * N * N, (l + 1) * N * N), { kind: "signed" }));
  });
  whenSeen($("channel-template"), showChannel);
}

function showChannel() {
  const [a, b] = ["template", "search"].map((branch) => view.latest[branch].features.subarray(view.channel * N * N, (view.channel + 1) * N * N));
  const largest = Math.max(...[...extent(a), ...extent(b)].map(Math.abs));
  for (const [branch, map] of [["template", a], ["search", b]]) {
    range(`channel-${branch}`, extent(map));
    drawMap($(`channel-${branch}`), map, { kind: "signed", range: [-largest, largest] });
    about(`channel-${branch}`, `Feature map ${view.channel + 1} of the ${branch}, from ${number(extent(map)[0])} to ${number(extent(map)[1])}`);
  }
}

export function pickChannel(channel) {
  view.channel = channel;
  $("channel").value = channel + 1;
  for (const id of ["channel-value", "channel-name"]) $(id).textContent = channel + 1;
  [...$("grid").children].forEach((button, l) => {
    button.setAttribute("aria-checked", l === channel);
    button.tabIndex = l === channel ? 0 : -1;
  });
  showFeatures();
  showFilterImage();
  if (view.latest) for (const listener of listeners) listener();
}

// --- wish and filter ---

function showLabel() {
  const { map, sigma } = view.latest.label;
  whenSeen($("label-map"), () => drawMap($("label-map"), map, { rolled: true, range: [0, 1] }));
  whenSeen($("label-surface"), () => drawSurface($("label-surface"), map, { ...turns, range: [0, 1] }));
  about("label-map", `The wished response, a Gaussian of ${number(sigma)} pixels`);
  about("label-surface", "The wished response as a surface: one round hill");
  $("sigma-value").textContent = `${number(settings.sigmaFactor)} → ${sigma.toFixed(2)} px`;
}

function showFilter() {
  const { energy, filter, energies, K, count } = view.latest.filter;
  whenSeen($("energy"), () => {
    range("energy", drawMap($("energy"), energy, { kind: "log" }));
    drawSquare($("energy"), K);
    about("energy", `Energy of the template by frequency, largest ${number(extent(energy)[1])}`);
  });
  whenSeen($("filter-map"), () => {
    range("filter-map", drawMap($("filter-map"), filter, { kind: "log" }));
    about("filter-map", `Magnitude of the filter by frequency, largest ${number(extent(filter)[1])}`);
  });
  $("band-value").textContent = `${K} (${percent(count / 7875)} of bins)`;
  $("band").value = K;
  $("lambda-value").textContent = number(settings.lambda);
  $("energies").textContent = `Within the band K = ${K} the template’s energy lies between ${number(energies[0])} and ${number(energies[2])}, ` +
    `half of the bins above ${number(energies[1])}. λ is ${number(settings.lambda)}.`;
  showFilterImage();
}

function showFilterImage() {
  if (!view.latest) return;
  whenSeen($("filter-image"), askFilterImage);
}

function askFilterImage() {
  engine("main").latest(({ map }) => {
    range("filter-image", drawMap($("filter-image"), map, { kind: "signed" }));
    about("filter-image", `The filter of channel ${view.channel + 1} as an image`);
  }, "filterMap", { ...settings }, { channel: view.channel });
}

// --- response ---

/** Where the peak says that the target is, [x, y, w, h] in the search frame. */
function foundBox({ peak }) {
  const [, , w, h] = data.box, scale = (1 + settings.padding) / N, [row, column] = peak.shift;
  return [settings.centre[0] + column * w * scale - w / 2, settings.centre[1] + row * h * scale - h / 2, w, h];
}

function showResponse() {
  const { response, peak, loss } = view.latest, [row, column] = peak.shift, half = N >> 1;
  const top = Math.max(peak.value, 0.05);
  whenSeen($("response-map"), () => {
    range("response-map", drawMap($("response-map"), response, { rolled: true }));
    drawCross($("response-map"), half + row, half + column);
  });
  whenSeen($("response-surface"), () => drawSurface($("response-surface"), response, { ...turns, range: [extent(response)[0], top] }));
  whenSeen($("hero"), () => drawSurface($("hero"), response, { ...turns, range: [extent(response)[0], top], ground: "page" }));
  whenSeen($("dock-response"), () => drawMap($("dock-response"), response, { rolled: true }));
  const [, , w, h] = data.box, scale = (1 + settings.padding) / N;
  const text = `The peak is ${peak.value.toFixed(3)} high and ${signed(column, 0)} columns, ${signed(row, 0)} rows from the middle of the map: ` +
    `${signed(column * w * scale)}, ${signed(row * h * scale)} pixels of the frame.`;
  $("peak").textContent = text;
  $("dock-peak").textContent = `peak ${peak.value.toFixed(3)}, loss ${number(loss)}`;
  about("response-map", text);
  about("response-surface", `The response as a surface. ${text} Arrow keys turn it.`);
  showFrames();
}

export function showFrames() {
  const [, , w, h] = data.box, wide = [w * (1 + settings.padding), h * (1 + settings.padding)];
  const windowAt = ([x, y]) => [x - wide[0] / 2, y - wide[1] / 2, ...wide];
  whenSeen($("frame-template"), () => drawFrame($("frame-template"), clip.bitmaps[0], [{ box: windowAt(middle), colour: colour("a"), width: 2, dash: [4, 6] }, { box: data.box, colour: colour("a") }]));
  about("frame-template", "The first frame, with the target's box and the window around it");
  const boxes = [{ box: windowAt(settings.centre), colour: colour("b") }];
  if (view.latest) boxes.push({ box: foundBox(view.latest), colour: "#ffffff", dash: [10, 7], width: 2.5 });
  for (const id of SEARCH_FRAMES) {
    const bitmap = clip.bitmaps[settings.frame];
    whenSeen($(id), () => drawFrame($(id), bitmap, boxes));
    about(id, `Search window in frame ${settings.frame + 1}, its middle at ${settings.centre[0].toFixed(0)}, ${settings.centre[1].toFixed(0)}. Arrow keys move it.`);
  }
}

function moveWindow(centre) {
  const { width, height } = clip.frames[0];
  settings.centre = [Math.min(Math.max(centre[0], 0), width - 1), Math.min(Math.max(centre[1], 0), height - 1)];
  showFrames();
  update();
}

// --- controls ---

function showControls() {
  $("frame").value = settings.frame;
  $("frame-value").textContent = `${settings.frame + 1} of ${clip.frames.length}`;
  $("padding").value = settings.padding;
  $("padding-value").textContent = settings.padding.toFixed(1);
  $("sigma").value = settings.sigmaFactor;
  $("lambda").value = Math.log10(settings.lambda);
  $("band-auto").checked = settings.band === null;
}

/** One number of the settings from one slider. */
function slide(id, set) {
  $(id).addEventListener("input", () => {
    set(Number($(id).value));
    showControls();
    update();
  });
}

export function startForward() {
  slide("frame", (value) => { settings.frame = value; });
  slide("padding", (value) => { settings.padding = value; });
  slide("sigma", (value) => { settings.sigmaFactor = value; });
  slide("lambda", (value) => { settings.lambda = 10 ** value; });
  slide("band", (value) => { settings.band = value; });
  $("band-auto").addEventListener("change", () => {
    settings.band = $("band-auto").checked ? null : Number($("band").value);
    update();
  });
  $("centre").addEventListener("click", () => moveWindow(middle));
  $("reset").addEventListener("click", () => {
    Object.assign(settings, structuredClone(DEFAULTS));
    showControls();
    update();
    $("status").textContent = "All settings are as at the start.";
  });

  for (const id of SEARCH_FRAMES) {
    let grip = [0, 0]; // from the pointer to the middle of the window
    pointer($(id), {
      move([x, y], kind) {
        const at = [x * clip.frames[0].width, y * clip.frames[0].height];
        if (kind === "press") {
          const inside = [0, 1].every((k) => Math.abs(at[k] - settings.centre[k]) < (data.box[2 + k] * (1 + settings.padding)) / 2);
          grip = inside ? [settings.centre[0] - at[0], settings.centre[1] - at[1]] : [0, 0];
        }
        moveWindow([at[0] + grip[0], at[1] + grip[1]]);
      },
      step: ([dx, dy]) => moveWindow([settings.centre[0] + dx, settings.centre[1] + dy]),
    });
  }
  let last;
  pointer($("response-surface"), {
    move([x, y], kind) {
      if (kind === "drag") turnSurface((x - last[0]) * 3, (y - last[1]) * 2);
      last = [x, y];
    },
    step: ([dx, dy]) => turnSurface(dx * 0.1, dy * 0.1),
  });

  for (let l = 0; l < D; l++) {
    const button = document.createElement("button");
    button.innerHTML = `<canvas width="${N}" height="${N}" aria-hidden="true"></canvas>`;
    Object.assign(button, { type: "button", role: "radio", ariaLabel: `Channel ${l + 1}`, ariaChecked: "false" });
    button.setAttribute("role", "radio");
    button.addEventListener("click", () => pickChannel(l));
    $("grid").append(button);
  }
  $("grid").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -8, ArrowDown: 8 }[event.key];
    if (!step) return;
    event.preventDefault();
    pickChannel((view.channel + step + D) % D);
    $("grid").children[view.channel].focus();
  });
  $("which").addEventListener("change", showFeatures);
  $("channel").addEventListener("input", () => pickChannel(Number($("channel").value) - 1));
  showControls();
  pickChannel(view.channel);
  showFrames();
}

function turnSurface(turn, tilt) {
  turns.turn += turn;
  turns.tilt = Math.min(1.45, Math.max(0.15, turns.tilt - tilt));
  redraw();
}

/** Draw the newest result again, for new colours or another turn. */
export function redraw() {
  if (!view.latest) return;
  showFeatures();
  showLabel();
  showFilter();
  showResponse();
}
