// Puts the sections together.

import { startBackward, showGradients, waiting } from "./backward.js";
import { startBroken } from "./broken.js";
import { startChecked } from "./checked.js";
import { onThemeChange } from "./draw.js";
import { redraw, showFrames, startForward, timings, update } from "./forward.js";
import { startTracking, showTracking, steps } from "./online.js";
import { $, clip, data, decodeFrames, engine, fail, idle, settings } from "./state.js";
import { lastStep, showTraining, startTraining } from "./training.js";

/** The small response in the corner, from section 2 on, where the large one is not in sight. */
function startDock() {
  const seen = new Set();
  const observer = new IntersectionObserver((entries) => {
    for (const { target, isIntersecting } of entries) if (isIntersecting) seen.add(target.id); else seen.delete(target.id);
    $("dock").hidden = !["features", "label", "filter", "backward"].some((id) => seen.has(id)) || seen.has("response-map");
  });
  for (const id of ["features", "label", "filter", "backward", "response-map"]) observer.observe($(id));
}

async function main() {
  // until there is more to say
  for (const canvas of document.querySelectorAll("figure canvas:not([aria-label]), figure canvas[aria-label='']")) {
    canvas.setAttribute("aria-label", canvas.parentElement.querySelector("figcaption").textContent.trim());
  }
  await decodeFrames();
  startForward();
  startBroken();
  startBackward();
  startTraining();
  startTracking();
  startChecked();
  startDock();
  onThemeChange(() => { redraw(); showFrames(); showGradients(); showTraining(); showTracking(); });
  update();
}

// For the console, and for tests.
window.dcfnet = {
  data, settings, clip, steps, lastStep, timings,
  idle: () => idle() && !waiting(),
  workers: () => engine("console").call("workers"),
  /** All arrays of Eqs. 2 and 3 for the present settings. */
  forward: () => engine("console").call("forward", { ...settings }, { all: true }),
  /** All arrays of Eqs. 6 to 11. */
  backward: () => engine("console").call("backward", { ...settings }, { channel: 0, flaw: "none", all: true }),
  /** dL/d patches and parameters. */
  throughNetwork: () => engine("console").call("throughNetwork", { ...settings }, { flaw: "none" }),
};

main().catch((error) => fail(error.stack ?? error));
