// Sections 1 to 5: patches, features, wish, filter, response.

import { drawFrame, drawMap, drawPatch, drawSurface, extent, showMap } from "./draw.js";
import { engine } from "./engine.js";
import { $, D, DEFAULTS, N, chosen, clip, data, label, middle, number, paint, percent, pointer,
         redraw, settings, signed, view } from "./state.js";

const SEARCH_FRAMES = ["frame-search", "frame-response", "frame-backward"];
const BINS = N * ((N >> 1) + 1); // of a half spectrum
export const listeners = []; // called with every new result

/** Ask for everything anew; the newest settings win. */
export function update() {
  showControls();
  showFrames();
  engine("main").latest((result) => {
    view.latest = { ...view.latest, ...result };
    showFeatures(view.latest);
    showFilter(result);
    showResponse(result);
    for (const listener of listeners) listener();
  }, "forward", { ...settings });
}

// --- features ---

function showFeatures(latest) {
  for (const branch of ["template", "search"]) {
    paint($(`patch-${branch}`), () => drawPatch($(`patch-${branch}`), latest[branch].patch));
  }
  paint($("grid"), () => document.querySelectorAll("#grid canvas").forEach((canvas, l) =>
    drawMap(canvas, latest[chosen("which")].features[l], { kind: "signed" })));
  const maps = ["template", "search"].map((branch) => latest[branch].features[settings.channel]);
  const range = extent(maps.flatMap(extent));
  for (const [k, branch] of ["template", "search"].entries()) {
    const words = `Feature map ${settings.channel + 1} of the ${branch}`;
    showMap(`channel-${branch}`, maps[k], words, { kind: "signed", range });
  }
}

// --- wish and filter ---

function showFilter({ label: wish, sigma, K, energies, energy, filter, filterImage }) {
  const words = `The wished response, a Gaussian of ${number(sigma)} pixels`;
  showMap("label-map", wish, words, { rolled: true, range: [0, 1] });
  paint($("label-surface"), () => drawSurface($("label-surface"), wish, [0, 1]));
  label("label-surface", "The wished response as a surface: one round hill");
  $("sigma-value").textContent = `${number(settings.sigmaFactor)} → ${sigma.toFixed(2)} px`;
  showMap("energy", energy, "Energy of the template by frequency", { kind: "log", band: K });
  showMap("filter-map", filter, "Magnitude of the filter by frequency", { kind: "log" });
  $("band").value = K;
  const channel = `The filter of channel ${settings.channel + 1} as an image`;
  showMap("filter-image", filterImage, channel, { kind: "signed" });
  const count = energies.length;
  $("band-value").textContent = `${K} (${percent(count / BINS)} of bins)`;
  const [least, half, most] = [energies[0], energies[count >> 1], energies[count - 1]];
  $("energies").textContent = `Within the band K = ${K} the template’s energy lies between ` +
    `${number(least)} and ${number(most)}, half of the bins above ${number(half)}. ` +
    `λ is ${number(settings.lambda)}.`;
}

// --- response ---

/** How far the peak is from the middle of the window, x and y in pixels of the frame. */
const offset = ({ peak }) => [1, 0].map((axis, k) =>
  (peak.shift[axis] * data.box[2 + k] * (1 + settings.padding)) / N);

function showResponse(latest) {
  const { response, peak, loss } = latest, [row, column] = peak.shift, half = N >> 1;
  const range = [extent(response)[0], Math.max(peak.value, 0.05)];
  const text = `The peak is ${peak.value.toFixed(3)} high and ${signed(column, 0)} columns, ` +
    `${signed(row, 0)} rows from the middle of the map: ` +
    `${offset(latest).map((pixels) => signed(pixels)).join(", ")} pixels of the frame.`;
  showMap("response-map", response, text, { rolled: true, cross: [half + row, half + column] });
  for (const [id, ground] of [["response-surface", "card"], ["hero", "page"]]) {
    paint($(id), () => drawSurface($(id), response, range, ground));
  }
  paint($("dock-response"), () => drawMap($("dock-response"), response, { rolled: true }));
  $("peak").textContent = text;
  $("dock-peak").textContent = `peak ${peak.value.toFixed(3)}, loss ${number(loss)}`;
  label("response-surface", `The response as a surface. ${text}`);
  showFrames();
}

function showFrames() {
  const wide = data.box.slice(2).map((side) => side * (1 + settings.padding));
  const around = (centre, sides) => [...centre.map((value, k) => value - sides[k] / 2), ...sides];
  paint($("frame-template"), () => drawFrame($("frame-template"), clip.bitmaps[0], [
    { box: around(middle, wide), ink: "a", width: 2, dash: [4, 6] }, { box: data.box, ink: "a" }]));
  label("frame-template", "The first frame, with the target's box and the window around it");
  const boxes = [{ box: around(settings.centre, wide), ink: "b" }];
  if (view.latest) {
    const found = offset(view.latest).map((pixels, k) => settings.centre[k] + pixels);
    boxes.push({ box: around(found, data.box.slice(2)), dash: [10, 7], width: 2.5 });
  }
  for (const id of SEARCH_FRAMES) {
    paint($(id), () => drawFrame($(id), clip.bitmaps[settings.frame], boxes));
    label(id, `Search window in frame ${settings.frame + 1}, its middle at ` +
      `${settings.centre.map((value) => value.toFixed(0)).join(", ")}. Arrow keys move it.`);
  }
}

// --- controls ---

// Of each slider: its setting, from its number to the setting, and back.
const SLIDERS = {
  frame: ["frame", (value) => value, (value) => value],
  padding: ["padding", (value) => value, (value) => value],
  sigma: ["sigmaFactor", (value) => value, (value) => value],
  lambda: ["lambda", (value) => 10 ** value, Math.log10],
  band: ["band", (value) => value, (value) => value],
  channel: ["channel", (value) => value - 1, (value) => value + 1],
};

function showControls() {
  const { frame, padding, lambda, band, channel } = settings;
  for (const [id, [name, , back]] of Object.entries(SLIDERS)) {
    if (settings[name] !== null) $(id).value = back(settings[name]);
  }
  $("frame-value").textContent = `${frame + 1} of ${clip.frames.length}`;
  $("padding-value").textContent = padding.toFixed(1);
  $("lambda-value").textContent = number(lambda);
  $("band-auto").checked = band === null;
  for (const id of ["channel-value", "channel-name"]) $(id).textContent = channel + 1;
  [...$("grid").children].forEach((button, l) => {
    button.setAttribute("aria-checked", l === channel);
    button.tabIndex = l === channel ? 0 : -1;
  });
}

function change(values) {
  Object.assign(settings, values);
  update();
}

function moveWindow(centre) {
  const { width, height } = clip.frames[0];
  const inside = (value, side) => Math.min(Math.max(value, 0), side - 1);
  change({ centre: [inside(centre[0], width), inside(centre[1], height)] });
}

function makeGrid() {
  for (let channel = 0; channel < D; channel++) {
    const button = document.createElement("button");
    button.innerHTML = `<canvas width="${N}" height="${N}" aria-hidden="true"></canvas>`;
    button.type = "button";
    button.setAttribute("role", "radio");
    button.setAttribute("aria-label", `Channel ${channel + 1}`);
    button.addEventListener("click", () => change({ channel }));
    $("grid").append(button);
  }
  $("grid").addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1, ArrowUp: -8, ArrowDown: 8 }[event.key];
    if (!step) return;
    event.preventDefault();
    change({ channel: (settings.channel + step + D) % D });
    $("grid").children[settings.channel].focus();
  });
}

export function startForward() {
  for (const [id, [name, there]] of Object.entries(SLIDERS)) {
    $(id).addEventListener("input", () => change({ [name]: there(Number($(id).value)) }));
  }
  $("band-auto").addEventListener("change", () =>
    change({ band: $("band-auto").checked ? null : Number($("band").value) }));
  $("which").addEventListener("change", redraw);
  $("centre").addEventListener("click", () => moveWindow(middle));
  $("reset").addEventListener("click", () => {
    change(structuredClone(DEFAULTS));
    $("status").textContent = "All settings are as at the start.";
  });
  let grip; // from the pointer to the middle of the window
  for (const id of SEARCH_FRAMES) pointer($(id), {
    move([x, y], kind) {
      const at = [x * clip.frames[0].width, y * clip.frames[0].height];
      const away = settings.centre.map((value, k) => value - at[k]);
      const half = (1 + settings.padding) / 2; // of a window, in targets
      const inside = away.every((d, k) => Math.abs(d) < data.box[2 + k] * half);
      if (kind === "press") grip = inside ? away : [0, 0];
      moveWindow(at.map((value, k) => value + grip[k]));
    },
    step: (by) => moveWindow(settings.centre.map((value, k) => value + by[k])),
  });
  makeGrid();
  update();
}
