// Lines over time, and the same figures as a table for those who cannot see lines.
import { html, useEffect, useRef } from "../lib/html.js";
import uPlot from "../vendor/uplot.js";

const COLOURS = ["--accent", "--line-2", "--line-3", "--line-4", "--line-5", "--line-6"];
const HEIGHT = 220;

/** `times`: Unix seconds, ascending. `lines`: {label, values}, null where nothing is known. `format` writes a value.
 * `isStepped`: a value holds until the next one. */
export function Chart({ title, times, lines, format, isStepped = false }) {
  const box = useRef(null);
  useEffect(() => {
    const element = box.current;
    const draw = () => plotted(element, times, lines, format, isStepped);
    let plot = draw();
    const redraw = () => {
      plot.destroy();
      plot = draw();
    };
    const resized = new ResizeObserver(() => plot.setSize({ width: element.clientWidth, height: HEIGHT }));
    resized.observe(element);
    const dark = window.matchMedia("(prefers-color-scheme: dark)");
    dark.addEventListener("change", redraw);
    window.addEventListener("hodios:theme", redraw);
    return () => {
      resized.disconnect();
      dark.removeEventListener("change", redraw);
      window.removeEventListener("hodios:theme", redraw);
      plot.destroy();
    };
  }, [times, lines, format, isStepped]);
  return html`<figure class="chart">
    <figcaption>${title}</figcaption>
    <div class="chart-box" ref=${box} aria-hidden="true"></div>
    <details><summary>As a table</summary><${AsTable} title=${title} times=${times} lines=${lines} format=${format} /></details>
  </figure>`;
}

function plotted(box, times, lines, format, isStepped) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(name).trim();
  const axis = { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false } };
  return new uPlot(
    {
      width: box.clientWidth || 600,
      height: HEIGHT,
      cursor: { y: false },
      scales: { y: { range: (_, low, high) => [0, high > 0 ? high * 1.1 : 1] } },
      axes: [axis, { ...axis, size: 64, values: (_, values) => values.map(format) }],
      series: [
        { value: (_, at) => (at === null ? "" : new Date(at * 1000).toLocaleString("en-GB", { dateStyle: "short", timeStyle: "short" })) },
        ...lines.map((line, at) => ({
          label: line.label,
          stroke: colour(COLOURS[at % COLOURS.length]),
          width: 2,
          spanGaps: true,
          paths: isStepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
          points: { show: times.length < 60, size: 5 },
          value: (_, value) => (value === null ? "–" : format(value)),
        })),
      ],
    },
    [times, ...lines.map((line) => line.values)],
    box,
  );
}

function AsTable({ title, times, lines, format }) {
  return html`<div class="table-wrap" tabindex="0" role="region" aria-label=${title}><table>
    <thead><tr><th scope="col">Time</th>${lines.map((line) => html`<th scope="col" class="num">${line.label}</th>`)}</tr></thead>
    <tbody>${times.map((time, at) => html`<tr>
      <th scope="row">${new Date(time * 1000).toLocaleString("en-GB", { dateStyle: "short", timeStyle: "short" })}</th>
      ${lines.map((line) => html`<td class="num">${line.values[at] == null ? "–" : format(line.values[at])}</td>`)}
    </tr>`)}</tbody>
  </table></div>`;
}
