// Numbers, money, sizes and times for people to read. "–" stands for what nobody knows.

export const UNKNOWN = "–";
const compact = new Intl.NumberFormat("en", { notation: "compact", maximumFractionDigits: 1 });
const plain = new Intl.NumberFormat("en", { maximumFractionDigits: 1 });
const isMissing = (value) => value === null || value === undefined || Number.isNaN(Number(value));

export const number = (value) => (isMissing(value) ? UNKNOWN : plain.format(value));
export const short = (value) => (isMissing(value) ? UNKNOWN : compact.format(value));

/** Dollars, exact: as many digits as there are, and two at least. */
export function dollars(value) {
  if (isMissing(value)) return UNKNOWN;
  const amount = Number(value);
  if (amount === 0) return "$0.00";
  const digits = Math.abs(amount) >= 1 ? 2 : Math.min(9, 1 - Math.floor(Math.log10(Math.abs(amount))) + 2);
  return `$${amount.toFixed(digits).replace(/(\.\d\d\d*?)0+$/, "$1")}`;
}

/** $ per million tokens, of a price per token as OpenRouter writes it. */
export function perMillion(perToken) {
  if (isMissing(perToken)) return UNKNOWN;
  const amount = Number(perToken) * 1e6;
  return amount === 0 ? "free" : `$${amount.toFixed(3).replace(/0$/, "")}`;
}

export function milliseconds(value) {
  if (isMissing(value)) return UNKNOWN;
  if (value < 1000) return `${Math.round(value)} ms`;
  return `${(value / 1000).toFixed(value < 10_000 ? 2 : 1)} s`;
}

export const percent = (value) => (isMissing(value) ? UNKNOWN : `${Number(value).toFixed(Number(value) === 100 ? 0 : 2)} %`);
export const speed = (value) => (isMissing(value) ? UNKNOWN : `${Number(value).toFixed(Number(value) < 10 ? 1 : 0)} tok/s`);

export function bytes(value) {
  if (isMissing(value)) return UNKNOWN;
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let amount = Number(value);
  let unit = 0;
  while (amount >= 1024 && unit < units.length - 1) {
    amount /= 1024;
    unit += 1;
  }
  return `${amount.toFixed(unit && amount < 100 ? 1 : 0)} ${units[unit]}`;
}

/** A moment as the reader's clock shows it. */
export function moment(iso) {
  if (!iso) return UNKNOWN;
  return new Date(iso).toLocaleString("en-GB", { dateStyle: "medium", timeStyle: "short" });
}

export function ago(iso, now = Date.now()) {
  if (!iso) return UNKNOWN;
  const seconds = Math.max(0, (now - new Date(iso).getTime()) / 1000);
  for (const [size, unit] of [[86_400, "d"], [3600, "h"], [60, "min"]]) {
    if (seconds >= size) return `${Math.floor(seconds / size)} ${unit} ago`;
  }
  return "just now";
}

/** "3 models", "1 model". */
export const counted = (num, noun) => `${plain.format(num)} ${noun}${num === 1 ? "" : "s"}`;
