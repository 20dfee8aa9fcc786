// Sections 6 and 7: the forward pass broken on purpose; the backward pass, and finite differences
// for a pixel that the reader picks.

import { drawPatch, showMap } from "./draw.js";
import { engine } from "./engine.js";
import { listeners } from "./forward.js";
import { $, N, chosen, label, number, paint, pointer, settings, view } from "./state.js";

const BROKEN = {
  none: "Both maps are the same.",
  conjugate: `A product without the conjugate is a convolution: it turns the filter by 180 degrees.
    The phases of filter and features add up instead of cancelling, and there is no peak where the
    target is.`,
  mirror: `The transform back takes each stored column once, but columns other than the first stand
    for two. The response comes out about half as high; the first column, which needs no factor,
    leaves a faint stripe. The peak stays where it is, which is how such a mistake survives.`,
  hann: `Features are now as strong at the edge as in the middle. The circular correlation joins the
    left edge to the right one, and these seams, and surroundings that do not move with the target,
    count like the target itself: the peak is drawn to where they are.`,
  lambda: `Hardly anything changes: with 32 channels the energy is far above λ in every bin of the
    band. λ matters where some energy is near zero. Look at the next choice.`,
  single: `Channel 1 alone has bins with next to no energy, and without λ the filter divides by it:
    noise in those bins is blown up. A λ of a million would calm it, and lower the peak. Many
    channels rarely vanish all at once, which is why learned features need so little λ.`,
};
const NAMES = { // of the maps; the transforms of gradients are magnitudes
  residual: "Gradient by the response", eq6: "Eq. 6", eq7: "Eq. 7", eq9: "Eq. 9", eq10: "Eq. 10",
  eq8: "Eq. 8, gradient by the search features", eq11: "Eq. 11, gradient by the template features",
  "pixel-template": "Template patch", "pixel-search": "Search patch",
};
const PLACES = { // maps to pick a pixel from
  eq8: { branch: "search", image: false }, eq11: { branch: "template", image: false },
  "pixel-template": { branch: "template", image: true },
  "pixel-search": { branch: "search", image: true },
};
const picked = { id: "eq11", row: N >> 1, column: N >> 1 };
const LATER = 150; // ms without a change before gradients are computed: a drag stays smooth
let gradients = null, timer = 0;

function showBroken() {
  $("flaw-text").textContent = BROKEN[chosen("flaw")];
  engine("main").latest((results) => {
    const [right, wrong] = results.map(({ peak }) => peak), half = N >> 1;
    for (const [k, id] of ["break-right", "break-wrong"].entries()) {
      const { response, peak } = results[k], cross = peak.shift.map((d) => half + d);
      showMap(id, response, `Response, peak ${peak.value.toFixed(3)}`, { rolled: true, cross });
    }
    const away = Math.hypot(...right.shift.map((d, k) => d - wrong.shift[k]));
    const both = (show) => results.map(show).join(" and ");
    $("break-numbers").textContent = `Peak ${both(({ peak }) => peak.value.toFixed(3))}, ` +
      `${away.toFixed(0)} map pixels apart; loss ${both(({ loss }) => number(loss))}.`;
  }, "broken", { ...settings }, chosen("flaw"));
}

export const waiting = () => timer !== 0;

function askGradients() {
  timer = 0;
  engine("main").latest((result) => {
    gradients = result;
    showGradients();
    askDifference();
  }, "backward", { ...settings }, chosen("backward-flaw"));
}

function showGradients() {
  const { row, column } = picked, at = (id) => (id === picked.id ? [row, column] : undefined);
  const words = (id) => NAMES[id] +
    (id in PLACES ? ". Arrow keys move the pixel, Enter computes." : "") +
    (at(id) ? ` Picked: row ${row}, column ${column}.` : "");
  showMap("residual", gradients.residual, words("residual"), { kind: "signed", rolled: true });
  for (const id of ["eq6", "eq7", "eq9", "eq10"]) {
    showMap(id, gradients[id], words(id), { kind: "log", decades: 6 });
  }
  for (const id of ["eq8", "eq11"]) {
    showMap(id, gradients[id], words(id), { kind: "signed", cross: at(id) });
  }
  for (const branch of ["template", "search"]) {
    const id = `pixel-${branch}`, { patch } = view.latest[branch];
    paint($(id), () => drawPatch($(id), patch, at(id)));
    label(id, words(id));
  }
}

// --- finite differences ---

function askDifference() {
  const { id, ...place } = picked, step = 10 ** Number($("step").value);
  $("step-value").textContent = number(step, 2);
  engine("main").latest((result) => showDifference({ id, ...place, ...result }), "difference",
    { ...settings }, { ...PLACES[id], ...place, step, flaw: chosen("backward-flaw") });
}

/** Both numbers digit by digit; the digits that agree from the front are marked. */
function compared(a, b) {
  const text = (value) => (value < 0 ? "" : " ") + value.toExponential(12);
  const [x, y] = [a, b].map(text);
  let same = 0;
  if (x.split("e")[1] === y.split("e")[1]) while (same < x.length && x[same] === y[same]) same++;
  const marked = (digits) => `<span class="same">${digits.slice(0, same)}</span>` +
    `<span class="differs">${digits.slice(same)}</span>`.replaceAll("-", "−");
  return [x, y].map(marked);
}

function showDifference({ id, row, column, analytic, numeric, plus, minus, h, value }) {
  const { branch, image } = PLACES[id], [a, b] = compared(analytic, numeric);
  const largest = Math.max(Math.abs(analytic), Math.abs(numeric), 1e-300);
  const place = image ? `green of the ${branch} patch`
    : `φ of the ${branch}, channel ${settings.channel + 1}`;
  const rows = [["L with + h", plus.toFixed(13)], ["L with − h", minus.toFixed(13)], ["slope", b],
                [image ? "through the network" : NAMES[id].split(",")[0], a],
                ["error, relative", number(Math.abs(analytic - numeric) / largest, 2)]];
  const cells = rows.map(([name, cell]) =>
    `<tr><th scope="row">${name}</th><td class="digits">${cell}</td></tr>`);
  $("difference").innerHTML = `<p class="readout">Picked: ${place}, row ${row}, ` +
    `column ${column}, with the value ${number(value, 4)}; h = ${number(h, 2)}.</p>` +
    `<div class="scroll"><table><tbody>${cells.join("")}</tbody></table></div>`;
}

function pick(id, row, column) {
  const inside = (i) => Math.min(N - 1, Math.max(0, i));
  Object.assign(picked, { id, row: inside(row), column: inside(column) });
  showGradients();
}

export function startBackward() {
  const schedule = () => {
    $("loss").textContent = number(view.latest.loss, 4);
    paint($("break"), showBroken);
    paint($("backward"), () => {
      clearTimeout(timer);
      timer = setTimeout(askGradients, LATER);
    });
  };
  for (const id of Object.keys(PLACES)) pointer($(id), {
    move([x, y]) {
      if (!gradients) return;
      pick(id, Math.floor(y * N), Math.floor(x * N));
      askDifference();
    },
    step: ([dx, dy]) => gradients && pick(id, picked.row + dy, picked.column + dx),
    enter: () => gradients && askDifference(),
  });
  $("step").addEventListener("input", () => gradients && askDifference());
  for (const id of ["flaw", "backward-flaw"]) $(id).addEventListener("change", schedule);
  listeners.push(schedule);
}
