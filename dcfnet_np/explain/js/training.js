// Section 8: a few steps of training.

import { drawCurve, drawKernels } from "./draw.js";
import { $, engine, number, percent, whenNear } from "./state.js";

let first = null, kernels = null, losses = [], running = false;
export const lastStep = { result: null };

const rate = () => 10 ** Number($("rate").value);

export function showTraining() {
  $("rate-value").textContent = number(rate(), 2);
  if (!first) return;
  drawCurve($("curve"), losses);
  drawKernels($("kernels"), kernels, first);
  const norm = (x) => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0));
  const change = norm(kernels.map((value, i) => value - first[i])) / norm(first);
  $("train-change").textContent = `by ${percent(change)} of their norm.`;
  $("train-loss").textContent = losses.length ? `Step ${losses.length}: ${number(losses.at(-1))}.` : "";
  $("kernels").setAttribute("aria-label", `The 32 filters of the first layer; changed by ${percent(change)}`);
  $("curve").setAttribute("aria-label", losses.length ? `Loss after ${losses.length} steps: ${number(losses.at(-1))}, at first ${number(losses[0])}` : "The loss of every step, none yet");
}

async function startOver() {
  running = false;
  const { w1, decay } = await engine("training").call("trainStart", null, { start: document.querySelector("#start input:checked").value });
  first = kernels = w1;
  losses = [];
  $("decay").textContent = number(decay);
  showTraining();
}

async function step() {
  if (!first) await startOver();
  const result = await engine("training").call("trainStep", null, { rate: rate() });
  lastStep.result = result;
  kernels = result.parameters.w1;
  losses.push(result.loss);
  if (!Number.isFinite(result.loss)) { running = false; $("status").textContent = "The loss is no longer a number: the learning rate was too large."; }
  showTraining();
}

async function run() {
  running = !running;
  $("train").textContent = running ? "Pause" : "Train";
  while (running) await step();
  $("train").textContent = "Train";
  $("status").textContent = `Training paused after ${losses.length} steps.`;
}

export function startTraining() {
  $("train").addEventListener("click", run);
  $("train-step").addEventListener("click", step);
  $("train-reset").addEventListener("click", startOver);
  $("start").addEventListener("change", startOver);
  $("rate").addEventListener("input", showTraining);
  showTraining();
  whenNear("training", startOver);
}
