// Section 10: the page's numbers beside the library's.

import { $, DEFAULTS, data, engine, whenNear } from "./state.js";

const NAMES = { template: "‖φ(x)‖", search: "‖φ(z)‖", filter: "‖ŵ‖, within the band", response: "‖g‖", peak: "peak of g", loss: "L, Eq. 4",
                eq8: "‖∂L/∂φ(z)‖, Eq. 8", eq11: "‖∂L/∂φ(x)‖, Eq. 11", w1: "‖∂L/∂ first convolution‖", w2: "‖∂L/∂ second convolution‖" };

const norm = (x) => Math.sqrt(x.reduce((sum, value) => sum + value * value, 0));

export async function compare() {
  const own = engine("checked"), f = await own.call("forward", DEFAULTS, { all: true });
  const b = await own.call("backward", DEFAULTS, { channel: 0, flaw: "none", all: true });
  const { parameters } = await own.call("throughNetwork", DEFAULTS, { flaw: "none" });
  const ours = { template: norm(f.features[0]), search: norm(f.features[1]), filter: Math.hypot(norm(f.filterF.re), norm(f.filterF.im)),
                 response: norm(f.response), peak: f.peak.value, loss: f.loss, eq8: norm(b.dsearch), eq11: norm(b.dtemplate),
                 w1: norm(parameters.w1), w2: norm(parameters.w2) };
  $("reference").innerHTML = Object.entries(NAMES).map(([name, words]) => {
    const theirs = data.reference[name], difference = Math.abs(ours[name] - theirs) / Math.abs(theirs);
    return `<tr><th scope="row">${words}</th>` + [ours[name], theirs].map((value) => `<td class="digits">${value.toPrecision(9)}</td>`).join("") +
      `<td class="digits">${difference.toExponential(1).replace("-", "−")}</td></tr>`;
  }).join("");
}

export function startChecked() {
  $("check").addEventListener("click", compare);
  whenNear("checked", compare);
}
