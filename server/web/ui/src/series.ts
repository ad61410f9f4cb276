// Curves as columns of numbers, and what is computed from them.

// Of a long run only some points are there; `mean` is that of all points that each stands for.
export interface Series { step: number[]; time: number[]; value: number[]; mean: number[] }

export type XAxis = "step" | "wall" | "relative";

// Exponential moving average, corrected for its start (as TensorBoard's): `weight` in [0, 1) is that of
// the past. What is not finite is passed over and leaves a gap.
export function smooth(values: readonly number[], weight: number): (number | null)[] {
  let sum = 0;
  let mass = 0;
  return values.map((x) => {
    if (!Number.isFinite(x)) return null;
    sum = sum * weight + (1 - weight) * x;
    mass = mass * weight + (1 - weight);
    return sum / mass;
  });
}

// `all` with its part from `detail`'s first step to its last replaced by `detail`.
export function refine(all: Series, detail: Series): Series {
  const from = detail.step[0];
  const to = detail.step.at(-1);
  if (from === undefined || to === undefined) return all;
  const before = all.step.findIndex((s) => s >= from);
  const after = all.step.findIndex((s) => s > to);
  const join = (key: keyof Series) => [
    ...all[key].slice(0, before < 0 ? undefined : before),
    ...detail[key],
    ...(after < 0 ? [] : all[key].slice(after)),
  ];
  return { step: join("step"), time: join("time"), value: join("value"), mean: join("mean") };
}

export function append(series: Series, step: number, time: number, value: number) {
  if (step <= (series.step.at(-1) ?? -1)) return;
  series.step.push(step);
  series.time.push(time);
  series.value.push(value);
  series.mean.push(value);
}

// The means at other steps: of each the last point that is not beyond it.
export function meansAt(series: Series, steps: readonly number[]): number[] {
  let i = 0;
  return steps.map((step) => {
    while (series.step[i + 1]! <= step) ++i;
    return series.mean[i] ?? NaN;
  });
}

export function xValues(series: Series, axis: XAxis, start: number): number[] {
  if (axis === "step") return series.step;
  return axis === "wall" ? series.time : series.time.map((t) => t - start);
}

// Lines that each have their own x, in columns over one grid of x, which is what makes many of them
// quick to draw. A point moves by less than a pixel or two, none is lost. Of a range the grid is finer,
// and has one point of each line beyond either end.
export function onGrid(lines: readonly { x: readonly number[]; y: readonly (number | null)[] }[],
                       range: readonly [number, number] | null): (number | null | undefined)[][] {
  const parts = lines.map(({ x, y }) => {
    if (!range) return { x, y };
    let from = x.findIndex((value) => value >= range[0]);
    if (from < 0) from = x.length;
    let to = from;
    while (to < x.length && x[to]! <= range[1]) ++to;
    return { x: x.slice(Math.max(0, from - 1), to + 1), y: y.slice(Math.max(0, from - 1), to + 1) };
  });
  const low = range?.[0] ?? Math.min(...parts.map(({ x }) => x[0] ?? Infinity));
  const high = range?.[1] ?? Math.max(...parts.map(({ x }) => x.at(-1) ?? -Infinity));
  const size = Math.max(2000, 2 * Math.max(...parts.map(({ x }) => x.length)));
  const width = (high - low) / (size - 3) || 1;
  const grid = Array.from({ length: size }, (_, i) => low + (i - 1) * width);
  return [grid, ...parts.map(({ x, y }) => {
    const column = new Array<number | null | undefined>(size).fill(undefined);
    let last = -1;
    x.forEach((value, i) => {
      const place = Math.round((value - low) / width) + 1;
      last = Math.min(size - 1, Math.max(last + 1, place));
      column[last] = y[i];
    });
    return column;
  })];
}

// Whether ticks can be told apart between the two.
export const apart = (low: number, high: number): boolean =>
  high - low > 1e-9 * Math.max(Math.abs(low), Math.abs(high));

// What an axis shows for values in [low, high]: some room around them; 0 if they come near it.
export function padded(low: number, high: number, zero: boolean): [number, number] {
  const pad = (apart(low, high) ? high - low : Math.abs(high) || 1) * 0.06;
  return [zero || (low >= 0 && low < pad) ? Math.min(low, 0) : low - pad, high + pad];
}

// Ticks of a logarithmic axis: powers of ten, between them 1, 2, 5 or all digits as there is room. (uPlot's
// own never end for some lower ends that are no such ticks.)
export function logTicks(low: number, high: number): number[] {
  const decades = Math.log10(high / low);
  const digits = decades < 1 ? [1, 2, 3, 4, 5, 6, 7, 8, 9] : decades < 4 ? [1, 2, 5] : [1];
  const every = Math.max(1, Math.ceil(decades / 8));
  const first = Math.floor(Math.log10(low) / every) * every;
  const ticks: number[] = [];
  for (let power = first; power <= Math.log10(high); power += every) {
    ticks.push(...digits.map((digit) => Number(`${digit}e${power}`)).filter((t) => low <= t && t <= high));
  }
  return ticks.length > 1 ? ticks : [0.2, 0.5, 0.8].map((part) => low + part * (high - low));
}

// [low, high] of the values without the outermost 2 % on each side.
export function withoutOutliers(values: number[]): [number, number] {
  const sorted = values.sort((a, b) => a - b);
  const at = (q: number) => sorted[Math.round(q * (sorted.length - 1))] ?? 0;
  return [at(0.02), at(0.98)];
}

export const lowerIsBetter = (metric: string): boolean => /loss|error|mae|mse|rmse/.test(metric);

// The metric people judge a job by: of the validation set if there is one, rather an accuracy than a loss.
export function headline(metrics: readonly string[]): string | undefined {
  const rank = (name: string) => (name.startsWith("val_") ? 0 : 2) + (lowerIsBetter(name) ? 1 : 0);
  return [...metrics].sort((a, b) => rank(a) - rank(b))[0];
}
