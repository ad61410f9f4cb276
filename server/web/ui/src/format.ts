// Numbers and times for people.

// Four significant digits, without an exponent where a person would not write one.
export function value(x: number | null | undefined): string {
  if (x === null || x === undefined) return "–";
  if (!Number.isFinite(x)) return Number.isNaN(x) ? "NaN" : x > 0 ? "∞" : "−∞";
  if (x === 0) return "0";
  const size = Math.abs(x);
  if (size >= 1e6 || size < 1e-4) return x.toExponential(2).replace("e+", "e");
  if (size >= 1000) return Math.round(x).toLocaleString("en-US");
  return String(Number(x.toPrecision(4)));
}

const units = [[1e12, "T"], [1e9, "G"], [1e6, "M"], [1e3, "k"]] as const;

// "1.2k": for axes and narrow columns.
export function short(x: number): string {
  const size = Math.abs(x);
  if (size >= 1e15 || (size > 0 && size < 2e-3)) return Number(x.toPrecision(3)).toExponential().replace("e+", "e");
  for (const [unit, letter] of units) {
    if (size >= unit) return Number((x / unit).toPrecision(3)) + letter;
  }
  return String(Number(x.toPrecision(3)));
}

// As many decimals as it takes to write multiples of `step` exactly.
function decimals(step: number): number {
  let digits = 0;
  while (digits < 20 && Math.abs(step * 10 ** digits - Math.round(step * 10 ** digits)) > 1e-6 * step * 10 ** digits) ++digits;
  return digits;
}

// Of an axis whose ticks are multiples of `step`: all in one unit, and no two the same.
export function ticks(values: number[], step: number): string[] {
  const most = Math.max(...values.map(Math.abs));
  const size = Math.floor(Math.log10(most || 1));
  if (most > 0 && (size >= 15 || size < -2)) {
    const digits = decimals(step / 10 ** size);
    return values.map((x) => (x === 0 ? "0" : `${Number((x / 10 ** size).toFixed(digits))}e${size}`));
  }
  const [unit, letter] = units.find(([u]) => most >= 10 * u) ?? [1, ""];
  const maximumFractionDigits = decimals(step / unit);
  return values.map((x) => (x === 0 ? "0" : (x / unit).toLocaleString("en-US", { maximumFractionDigits }) + letter));
}

// The same for seconds: "2.5 s", "1:30", "2:00:05".
export function clockTicks(values: number[], step: number): string[] {
  const most = Math.max(...values.map(Math.abs));
  if (most < 60) return values.map((x) => `${Number(x.toFixed(decimals(step)))} s`);
  const two = (x: number) => String(x).padStart(2, "0");
  return values.map((x) => {
    const s = Math.abs(x);
    const rest = `${two(Math.floor(s / 60) % 60)}:${step < 1 ? (s % 60).toFixed(decimals(step)).padStart(3 + decimals(step), "0") : two(Math.round(s % 60))}`;
    return `${x < 0 ? "−" : ""}${most < 3600 ? rest.replace(/^0/, "") : `${Math.floor(s / 3600)}:${rest}`}`;
  });
}

export function duration(seconds: number): string {
  if (!Number.isFinite(seconds)) return "–";
  if (seconds > 0 && seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  const s = Math.round(seconds);
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${String(s % 60).padStart(2, "0")} s`;
  if (s < 86400) return `${Math.floor(s / 3600)} h ${String(Math.floor((s % 3600) / 60)).padStart(2, "0")} min`;
  return `${Math.floor(s / 86400)} d ${Math.floor((s % 86400) / 3600)} h`;
}

// Of a moment, in the one unit that matters.
export function age(seconds: number): string {
  if (seconds < 5) return "now";
  if (seconds < 60) return `${Math.floor(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86400)} d`;
}

export function bytes(count: number): string {
  for (const [unit, name] of [[1e9, "GB"], [1e6, "MB"], [1e3, "kB"]] as const) {
    if (count >= unit) return `${(count / unit).toFixed(1)} ${name}`;
  }
  return `${count} B`;
}

export const percent = (fraction: number): string =>
  `${(fraction * 100).toFixed(Math.abs(fraction) < 0.0995 ? 1 : 0)} %`;
