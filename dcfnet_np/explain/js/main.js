// Puts the sections together.  Section 10, the page's numbers beside the library's, is here.

import { startBackward, waiting } from "./backward.js";
import { DARK } from "./draw.js";
import { engine, idle } from "./engine.js";
import { startForward } from "./forward.js";
import { startTracking, steps } from "./online.js";
import { $, DEFAULTS, clip, data, decodeFrames, fail, norm, paint, redraw, settings,
         view } from "./state.js";
import { lastStep, startTraining } from "./training.js";

const NAMES = {
  template: "‖φ(x)‖", search: "‖φ(z)‖", filter: "‖ŵ‖, within the band", response: "‖g‖",
  peak: "peak of g", loss: "L, Eq. 4", eq8: "‖∂L/∂φ(z)‖, Eq. 8", eq11: "‖∂L/∂φ(x)‖, Eq. 11",
  w1: "‖∂L/∂ first convolution‖", w2: "‖∂L/∂ second convolution‖",
};

async function compare() {
  const a = await engine("checked").call("arrays", DEFAULTS), all = (maps) => norm(maps.map(norm));
  const ours = {
    template: all(a.features[0]), search: all(a.features[1]), response: norm(a.response),
    filter: all(a.filterF.flatMap(({ re, im }) => [re, im])), peak: a.peak.value, loss: a.loss,
    eq8: all(a.dsearch), eq11: all(a.dtemplate),
    w1: norm(a.parameters.w1), w2: norm(a.parameters.w2),
  };
  const cell = (text) => `<td class="digits">${text}</td>`;
  $("reference").innerHTML = Object.entries(NAMES).map(([name, words]) => {
    const theirs = data.reference[name], difference = Math.abs((ours[name] - theirs) / theirs);
    const numbers = [ours[name], theirs].map((value) => cell(value.toPrecision(9)));
    const error = cell(difference.toExponential(1).replace("-", "−"));
    return `<tr><th scope="row">${words}</th>${numbers.join("")}${error}</tr>`;
  }).join("");
}

/** The small response in the corner, from section 2 on, where the large one is not in sight. */
function startDock() {
  const beside = ["features", "label", "filter", "backward"], seen = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const { target: { id }, isIntersecting } of entries) {
      if (isIntersecting) seen.add(id); else seen.delete(id);
    }
    $("dock").hidden = !beside.some((id) => seen.has(id)) || seen.has("response-map");
  });
  for (const id of [...beside, "response-map"]) observer.observe($(id));
}

async function main() {
  for (const canvas of document.querySelectorAll("figure canvas")) { // until there is more to say
    canvas.setAttribute("aria-label", canvas.parentElement.querySelector("figcaption").innerText);
  }
  await decodeFrames();
  startForward();
  startBackward();
  startTraining();
  startTracking();
  startDock();
  paint($("checked"), compare);
  DARK.addEventListener("change", redraw);
}

// For the console, and for tests.
window.dcfnet = {
  data, settings, clip, steps, lastStep,
  idle: () => view.latest !== null && idle() && !waiting(),
  /** All arrays of the equations for the present settings. */
  arrays: () => engine("console").call("arrays", { ...settings }),
};

main().catch((error) => fail(error.stack ?? error));
