// Rows that are wider than a phone.

/** Scroll a row sideways, and nothing else, until one of its items stands in its middle. */
export function bringIntoView(row, item) {
  if (!row || !item || row.scrollWidth <= row.clientWidth) return;
  const [outer, inner] = [row.getBoundingClientRect(), item.getBoundingClientRect()];
  row.scrollLeft += inner.left - outer.left - (outer.width - inner.width) / 2;
}
