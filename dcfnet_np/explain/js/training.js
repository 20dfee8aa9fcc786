// Section 8: a few steps of training.

import { drawCurve, drawKernels } from "./draw.js";
import { engine } from "./engine.js";
import { $, chosen, label, norm, number, paint, percent } from "./state.js";

let first = null, kernels = null, losses = [], running = false;
export const lastStep = { result: null };

const rate = () => 10 ** Number($("rate").value);

function showTraining() {
  $("rate-value").textContent = number(rate(), 2);
  if (!first) return;
  const change = norm(kernels.map((value, i) => value - first[i])) / norm(first);
  const words = losses.length ? `Step ${losses.length}: ${number(losses.at(-1))}.` : "";
  paint($("curve"), () => drawCurve($("curve"), losses));
  paint($("kernels"), () => drawKernels($("kernels"), kernels, first));
  $("train-change").textContent = `by ${percent(change)} of their norm.`;
  $("train-loss").textContent = words;
  label("kernels", `The 32 filters of the first layer; changed by ${percent(change)}`);
  label("curve", `The loss of every step. ${words || "None yet."}`);
}

async function startOver() {
  running = false;
  const { w1, decay } = await engine("training").call("trainStart", chosen("start"));
  first = kernels = w1;
  losses = [];
  $("decay").textContent = number(decay);
  showTraining();
}

async function step() {
  const result = await engine("training").call("trainStep", rate());
  lastStep.result = result;
  kernels = result.parameters.w1;
  losses.push(result.loss);
  if (!Number.isFinite(result.loss)) {
    running = false;
    $("status").textContent = "The loss is no longer a number: the learning rate was too large.";
  }
  showTraining();
}

async function run() {
  running = !running;
  $("train").textContent = running ? "Pause" : "Train";
  while (running) await step();
  $("train").textContent = "Train";
  $("status").textContent = `Training paused; steps so far: ${losses.length}.`;
}

export function startTraining() {
  $("train").addEventListener("click", run);
  $("train-step").addEventListener("click", step);
  $("train-reset").addEventListener("click", startOver);
  $("start").addEventListener("change", startOver);
  $("rate").addEventListener("input", showTraining);
  showTraining();
  paint($("training"), () => first ?? startOver());
}
