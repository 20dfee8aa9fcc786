// Section 7: the backward pass, and finite differences for a pixel that the reader picks.

import { colour, drawCross, drawMap, drawPatch } from "./draw.js";
import { onForward, range } from "./forward.js";
import { $, N, engine, number, pointer, settings, view, whenSeen } from "./state.js";

const LATER = 150; // ms without a change before gradients are computed: a drag stays smooth
const PLACES = {
  eq8: { what: "search", eq: "Eq. 8" }, eq11: { what: "template", eq: "Eq. 11" },
  "pixel-template": { what: "template image" }, "pixel-search": { what: "search image" },
};
const picked = { id: "eq11", row: 62, column: 62 };
let timer = 0, latest = null;

const flaw = () => document.querySelector("#backward-flaw input:checked").value;

function schedule() {
  $("loss").textContent = number(view.latest.loss, 4);
  whenSeen($("backward"), () => {
    clearTimeout(timer);
    timer = setTimeout(compute, LATER);
  });
}

function compute() {
  timer = 0;
  engine("main").latest((result) => {
    latest = result;
    showGradients();
    difference();
  }, "backward", { ...settings }, { channel: view.channel, flaw: flaw() });
}

export const waiting = () => timer !== 0;

export function showGradients() {
  if (!latest) return;
  range("residual", drawMap($("residual"), latest.residual, { kind: "signed", rolled: true }));
  for (const [id, map] of [["eq6", "dresponseF"], ["eq7", "eq7"], ["eq9", "eq9"], ["eq10", "eq10"]]) {
    range(id, drawMap($(id), latest[map], { kind: "log", decades: 6 }));
  }
  for (const id of ["eq8", "eq11"]) range(id, drawMap($(id), latest[id], { kind: "signed" }));
  for (const branch of ["template", "search"]) drawPatch($(`pixel-${branch}`), view.latest[branch].patch);
  drawCross($(picked.id), picked.row, picked.column, colour("a"));
  const names = { residual: "Gradient by the response", eq6: "Eq. 6", eq7: "Eq. 7", eq8: "Eq. 8, gradient by the search features",
                  eq9: "Eq. 9", eq10: "Eq. 10", eq11: "Eq. 11, gradient by the template features",
                  "pixel-template": "Template patch", "pixel-search": "Search patch" };
  for (const [id, name] of Object.entries(names)) {
    const here = id === picked.id ? `, picked pixel at row ${picked.row}, column ${picked.column}` : "";
    const keys = id in PLACES ? `${here}. Arrow keys move the pixel, Enter computes.` : `, ${$(`${id}-range`).textContent}`;
    $(id).setAttribute("aria-label", `${name}${keys}`);
  }
}

// --- finite differences ---

function difference() {
  const { what } = PLACES[picked.id];
  const { row, column } = picked, step = 10 ** Number($("step").value);
  $("step-value").textContent = number(step, 2);
  engine("main").latest(showDifference, "difference", { ...settings }, { what, channel: view.channel, row, column, step, flaw: flaw() });
}

/** Both numbers digit by digit; the digits that agree from the front are marked. */
function compared(a, b) {
  const [x, y] = [a, b].map((value) => (value < 0 ? "" : " ") + value.toExponential(12));
  let same = 0;
  if (x.split("e")[1] === y.split("e")[1]) while (same < x.length && x[same] === y[same]) same++;
  const marked = (text) => `<span class="same">${text.slice(0, same)}</span><span class="differs">${text.slice(same)}</span>`.replaceAll("-", "−");
  return [marked(x), marked(y)];
}

function showDifference({ analytic, numeric, plus, minus, h, value }) {
  const { what, eq } = PLACES[picked.id], [a, b] = compared(analytic, numeric);
  const error = Math.abs(analytic - numeric) / Math.max(Math.abs(analytic), Math.abs(numeric), 1e-300);
  const place = what.endsWith("image") ? `green of the ${what.split(" ")[0]} patch` : `φ of the ${what}, channel ${view.channel + 1}`;
  const row = (name, cell) => `<tr><th scope="row">${name}</th><td class="digits">${cell}</td></tr>`;
  $("difference").innerHTML = `<p class="readout">Picked: ${place}, row ${picked.row}, column ${picked.column}, ` +
    `with the value ${number(value, 4)}; h = ${number(h, 2)}.</p><div class="scroll"><table><tbody>` +
    row("L with + h", plus.toFixed(13)) + row("L with − h", minus.toFixed(13)) + row("slope", b) +
    row(eq ?? "through the network", a) + row("error, relative", number(error, 2)) + "</tbody></table></div>";
}

function pick(id, row, column, compute) {
  const clamp = (i) => Math.min(N - 1, Math.max(0, i));
  Object.assign(picked, { id, row: clamp(row), column: clamp(column) });
  showGradients();
  if (compute) difference();
}

export function startBackward() {
  for (const id of Object.keys(PLACES)) pointer($(id), {
    move: ([x, y]) => latest && pick(id, Math.floor(y * N), Math.floor(x * N), true),
    step: ([dx, dy]) => latest && pick(id, picked.row + dy, picked.column + dx, false),
    enter: () => latest && pick(id, picked.row, picked.column, true),
  });
  $("step").addEventListener("input", () => latest && difference());
  $("backward-flaw").addEventListener("change", schedule);
  onForward(schedule);
}
