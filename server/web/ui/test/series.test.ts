import assert from "node:assert/strict";
import test from "node:test";
import { append, apart, headline, logTicks, meansAt, onGrid, padded, refine, smooth, withoutOutliers, xValues, type Series } from "../src/series";

const series = (steps: number[]): Series =>
  ({ step: [...steps], time: steps.map((s) => 1000 + s / 10), value: steps.map((s) => s * s), mean: steps.map((s) => s * s) });

test("smoothing is corrected for its start and leaves gaps where values are not finite", () => {
  assert.deepEqual(smooth([4, 4, 4], 0.9), [4, 4, 4]);
  const [first, second] = smooth([1, 3], 0.5);
  assert.equal(first, 1);
  assert.ok(Math.abs(second! - (0.25 * 1 + 0.5 * 3) / 0.75) < 1e-12);
  assert.deepEqual(smooth([1, NaN, 1], 0.5), [1, null, 1]);
  assert.deepEqual(smooth([5, 7], 0), [5, 7]);
});

test("curves with other points are brought to the same steps", () => {
  const sparse = series([10, 20, 40]);
  assert.deepEqual(meansAt(sparse, [5, 10, 15, 20, 39, 40, 100]), [100, 100, 100, 400, 400, 1600, 1600]);
  assert.deepEqual(meansAt(series([]), [1, 2]), [NaN, NaN]);
});

test("an axis has room for ticks even where values differ by rounding only", () => {
  const smoothedOnes = smooth(Array.from({ length: 50 }, () => 1), 0.6) as number[];
  const [low, high] = padded(Math.min(...smoothedOnes, 1 - 2 ** -53), Math.max(...smoothedOnes), false);
  assert.ok(low < 0.95 && high > 1.05);
  assert.deepEqual(padded(0, 10, false), [0, 10.6]);
  assert.deepEqual(padded(-10, 0, true), [-10, 0.6]);
  assert.ok(apart(0, 1e-30) && apart(1.76e9, 1.76e9 + 2));
  assert.ok(!apart(1, 1) && !apart(2, 1) && !apart(1.76e9, 1.76e9 + 1e-3) && !apart(NaN, 1));
});

test("a logarithmic axis has a few ticks, whatever its ends", () => {
  assert.deepEqual(logTicks(0.02, 3), [0.02, 0.05, 0.1, 0.2, 0.5, 1, 2]);
  assert.deepEqual(logTicks(1e-9, 1), [1e-8, 1e-6, 1e-4, 1e-2, 1]);
  assert.deepEqual(logTicks(0.35, 0.75), [0.4, 0.5, 0.6, 0.7]);
  for (let exponent = -300; exponent < 300; ++exponent) {
    for (const digits of [1, 3.3, 9.568, 9.999]) {
      for (const ratio of [1.0001, 1.2, 7, 300, 1e8]) {
        const low = Number(`${digits}e${exponent}`);
        const ticks = logTicks(low, low * ratio);
        assert.ok(ticks.length >= 2 && ticks.length <= 13, `${low} ${ratio}: ${ticks}`);
        assert.ok(ticks.every((t, i) => low <= t && t <= low * ratio && (i === 0 || t > ticks[i - 1]!)),
          `${low} ${ratio}: ${ticks}`);
      }
    }
  }
});

test("detail takes the place of its steps and nothing else", () => {
  const all = series([1, 10, 20, 30, 40]);
  const detail = series([18, 19, 20, 21, 22]);
  assert.deepEqual(refine(all, detail).step, [1, 10, 18, 19, 20, 21, 22, 30, 40]);
  assert.deepEqual(refine(all, series([])), all);
  assert.deepEqual(refine(all, series([50])).step, [1, 10, 20, 30, 40, 50]);
  assert.deepEqual(refine(all, series([0])).step, [0, 1, 10, 20, 30, 40]);
});

test("what was known already is not appended again", () => {
  const curve = series([1, 2]);
  append(curve, 2, 0, 7);
  append(curve, 3, 5, 9);
  assert.deepEqual(curve.step, [1, 2, 3]);
  assert.equal(curve.value.at(-1), 9);
});

test("outliers are the outermost 2 % on each side", () => {
  const values = Array.from({ length: 101 }, (_, i) => i);
  assert.deepEqual(withoutOutliers([...values.slice(0, 100), 1e9]), [2, 98]);
  assert.deepEqual(withoutOutliers([3]), [3, 3]);
});

test("many lines share one grid: no point is lost, each is near its place, a range has its neighbours", () => {
  const lines = [0, 1, 2].map((shift) => {
    const x = Array.from({ length: 900 }, (_, i) => i * 110 + ((i * 37 + shift * 11) % 100));
    return { x, y: x.map((value) => Math.sin(value)) };
  });
  const [grid, ...columns] = onGrid(lines, null);
  columns.forEach((column, k) => {
    const placed = column.map((y, i) => [grid![i]!, y] as const).filter(([, y]) => y !== undefined);
    assert.deepEqual(placed.map(([, y]) => y), lines[k]!.y);
    placed.forEach(([x], i) => assert.ok(Math.abs(x - lines[k]!.x[i]!) < (99_000 / 2000) * 2.5));
  });
  const [, part] = onGrid(lines, [10_000, 20_000]);
  const inside = lines[0]!.y.filter((_, i) => lines[0]!.x[i]! >= 10_000 && lines[0]!.x[i]! <= 20_000);
  const placed = part!.filter((y) => y !== undefined);
  assert.equal(placed.length, inside.length + 2);
  assert.deepEqual(placed.slice(1, -1), inside);
});

test("time runs from a start or as the clock does", () => {
  const curve = series([0, 10]);
  assert.deepEqual(xValues(curve, "step", 1000), [0, 10]);
  assert.deepEqual(xValues(curve, "wall", 1000), [1000, 1001]);
  assert.deepEqual(xValues(curve, "relative", 1000), [0, 1]);
});

test("a job is judged by validation before training, by accuracy before loss", () => {
  assert.equal(headline(["loss", "accuracy", "val_loss", "val_accuracy"]), "val_accuracy");
  assert.equal(headline(["loss", "val_loss"]), "val_loss");
  assert.equal(headline(["loss"]), "loss");
  assert.equal(headline([]), undefined);
});
