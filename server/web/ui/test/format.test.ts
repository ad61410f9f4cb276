import assert from "node:assert/strict";
import test from "node:test";
import { age, bytes, clockTicks, duration, percent, short, ticks, value } from "../src/format";

test("numbers have four digits, and an exponent only where a person would write one", () => {
  assert.equal(value(0.123456), "0.1235");
  assert.equal(value(12345.6), "12,346");
  assert.equal(value(1.5e-7), "1.50e-7");
  assert.equal(value(0), "0");
  assert.equal(value(NaN), "NaN");
  assert.equal(value(-Infinity), "−∞");
  assert.equal(value(undefined), "–");
});

test("axes have letters for thousands", () => {
  assert.deepEqual([999, 1000, 25_000, 3.2e6, 0.5].map(short), ["999", "1k", "25k", "3.2M", "0.5"]);
});

test("times are told in the units that matter", () => {
  assert.deepEqual([0.166, 59, 61, 3700, 90_000].map(duration), ["166 ms", "59 s", "1 min 01 s", "1 h 01 min", "1 d 1 h"]);
  assert.deepEqual([2, 59, 61, 7200, 200_000].map(age), ["now", "59 s", "1 min", "2 h", "2 d"]);
});

test("sizes and shares", () => {
  assert.deepEqual([12, 31_900, 4.2e6].map(bytes), ["12 B", "31.9 kB", "4.2 MB"]);
  assert.deepEqual([0.5, 0.051, 0.0004].map(percent), ["50 %", "5.1 %", "0.0 %"]);
});

test("no two ticks of an axis read the same", () => {
  assert.deepEqual(ticks([52000, 52050, 52100, 52150], 50), ["52k", "52.05k", "52.1k", "52.15k"]);
  assert.deepEqual(ticks([2.301, 2.302, 2.303], 1e-3), ["2.301", "2.302", "2.303"]);
  assert.deepEqual(ticks([0, 500, 1000, 1500], 500), ["0", "500", "1,000", "1,500"]);
  assert.deepEqual(ticks([9.75e-4, 1e-3, 1.025e-3], 2.5e-5), ["0.975e-3", "1e-3", "1.025e-3"]);
  assert.deepEqual(clockTicks([1, 1.5, 2], 0.5), ["1 s", "1.5 s", "2 s"]);
  assert.deepEqual(clockTicks([30, 60, 90], 30), ["0:30", "1:00", "1:30"]);
  assert.deepEqual(clockTicks([3600, 3610, 7205], 5), ["1:00:00", "1:00:10", "2:00:05"]);
});
