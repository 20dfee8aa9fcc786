// Memory that is used again.  Fresh memory is zeroed by the system page by page, which for some
// megabytes takes as long as a layer of the network.

const kept = new Map();

/** An array of this length that still holds what was last written to it: for intermediates that nobody keeps. */
export function reused(name, length) {
  if (kept.get(name)?.length !== length) kept.set(name, new Float64Array(length));
  return kept.get(name);
}
