// Section 6: break the forward pass on purpose.

import { drawCross, drawMap } from "./draw.js";
import { onForward } from "./forward.js";
import { $, N, engine, number, settings, whenSeen } from "./state.js";

const WORDS = {
  none: "Both maps are the same.",
  conjugate: "A product without the conjugate is a convolution: it turns the filter by 180 degrees. The phases of filter and " +
    "features add up instead of cancelling, and there is no peak where the target is.",
  mirror: "The transform back takes each stored column once, but columns other than the first stand for two. The response comes out " +
    "about half as high; the first column, which needs no factor, leaves a faint stripe. The peak stays where it is, which is how such a mistake survives.",
  hann: "Features are now as strong at the edge as in the middle. The circular correlation joins the left edge to the right one, and these " +
    "seams, and surroundings that do not move with the target, count like the target itself: the peak is drawn to where they are.",
  lambda: "Hardly anything changes: with 32 channels the energy is far above λ in every bin of the band. λ matters where some energy is " +
    "near zero. Look at the next choice.",
  single: "Channel 1 alone has bins with next to no energy, and without λ the filter divides by it: noise in those bins is blown up. " +
    "A λ of a million would calm it, and lower the peak. Many channels rarely vanish all at once, which is why learned features need so little λ.",
};

function show() {
  const flaw = document.querySelector("#flaw input:checked").value;
  $("flaw-text").textContent = WORDS[flaw];
  engine("main").latest(({ right, wrong }) => {
    for (const [id, { response, peak }] of [["break-right", right], ["break-wrong", wrong]]) {
      const [low, high] = drawMap($(id), response, { rolled: true });
      $(`${id}-range`).textContent = `${number(low, 2)} to ${number(high, 2)}`;
      drawCross($(id), (N >> 1) + peak.shift[0], (N >> 1) + peak.shift[1]);
      $(id).setAttribute("aria-label", `Response, peak ${peak.value.toFixed(3)} at ${peak.shift[1]} columns, ${peak.shift[0]} rows from the middle`);
    }
    const away = Math.hypot(right.peak.shift[0] - wrong.peak.shift[0], right.peak.shift[1] - wrong.peak.shift[1]);
    $("break-numbers").textContent = `Peak ${right.peak.value.toFixed(3)} and ${wrong.peak.value.toFixed(3)}, ${away.toFixed(0)} map pixels apart; ` +
      `loss ${number(right.loss)} and ${number(wrong.loss)}.`;
  }, "broken", { ...settings }, { flaw });
}

export function startBroken() {
  $("flaw").addEventListener("change", show);
  onForward(() => whenSeen($("break"), show));
}
