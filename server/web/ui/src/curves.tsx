// The curves of one job or of several, with the controls that they share. What is chosen stands in the
// address: x, smooth, clip, log (names of plots), from and to.
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import { Chart, useZoom, type Line, type Zoom } from "./chart";
import { setQuery, useRoute } from "./route";
import type { Run } from "./run";
import { apart, meansAt, smooth, xValues, type Series, type XAxis } from "./series";
import { lineStyle, withAlpha } from "./theme";

const parts = ["compute_ms", "wait_ms", "reduce_ms"] as const;
const titles: Record<string, string> = {
  learning_rate: "Learning rate", gradient_norm: "Gradient norm", samples_per_second: "Samples per second",
  step_ms: "Step time, ms",
};
// Of more runs only the smoothed curves are drawn, thin, and long ones without dashes, which take long.
const mostRaw = 8;
const smoothed = new Set(["gradient_norm", "samples_per_second", "step_ms"]);

// "val_loss" and "epoch_loss" are drawn in the plot of "loss"; metrics come first, then what is about
// the run. The BatchNorm view has its own.
function plotNames(runs: Run[]): string[] {
  const names = new Set<string>();
  for (const run of runs) {
    for (const name of run.curves.keys()) {
      if (!name.startsWith("batch_norm/")) names.add(name.replace(/^(val|epoch)_/, ""));
    }
  }
  for (const part of parts) names.delete(part);
  if (runs.length === 1) names.delete("step_ms");
  const rank = (name: string) => (name === "loss" ? 0 : name in titles ? 2 : 1);
  return [...names].sort((a, b) => rank(a) - rank(b));
}

export function Curves({ runs, version }: { runs: Run[]; version: number }) {
  const { query } = useRoute();
  const axis = (query.get("x") ?? "step") as XAxis;
  const weight = Math.min(Math.max(Number(query.get("smooth") ?? 0.6), 0), 0.99);
  const clip = query.get("clip") === "1";
  const logs = (query.get("log") ?? "").split(",").filter(Boolean);
  const [from, to] = [Number(query.get("from")), Number(query.get("to"))];
  const range: [number, number] | null = apart(from, to) && Number.isFinite(to - from) ? [from, to] : null;
  const [, redraw] = useState(0);
  useEffect(() => {
    const follow = () => redraw((n) => n + 1);
    addEventListener("themechange", follow);
    return () => removeEventListener("themechange", follow);
  }, []);

  const settled = useRef(0);
  useEffect(() => {
    const detail = axis === "step" ? range : null;
    settled.current = window.setTimeout(() => runs.forEach((run) => run.zoom(detail)), 200);
    return () => clearTimeout(settled.current);
  }, [axis, range?.[0], range?.[1], runs]);

  const zoom = useZoom(range, (to) =>
    setQuery({ from: to ? String(+to[0].toPrecision(12)) : "", to: to ? String(+to[1].toPrecision(12)) : "" }));
  const setAxis = (x: string) => setQuery({ x: x === "step" ? "" : x, from: "", to: "" });
  const setLog = (name: string, on: boolean) =>
    setQuery({ log: (on ? [...logs, name] : logs.filter((l) => l !== name)).join(",") });

  const ground = lineStyle(0).color;
  const plots = useMemo(() => plotNames(runs).map((name) => {
    const lines: Line[] = [];
    const draw = (run: Run, curve: Series, label: string, look: ReturnType<typeof lineStyle>, soften: boolean) => {
      const style = runs.length > mostRaw ? { ...look, width: 1, dash: curve.step.length < 500 ? look.dash : undefined } : look;
      const x = xValues(curve, axis, run.start());
      const raw = curve.value.map((y) => (Number.isFinite(y) ? y : null));
      const points = curve.step.length < 40;
      if (!soften || weight === 0 || runs.length > mostRaw) {
        const y = soften && weight > 0 ? smooth(curve.mean, weight) : raw;
        lines.push({ ...style, label, x, y, markers: points });
        return;
      }
      lines.push({ ...style, color: withAlpha(style.color, 0.28), label: `${label}, raw`, of: label, x, y: raw, width: 1, background: true });
      lines.push({ ...style, label, x, y: smooth(curve.mean, weight), width: 2, markers: curve.step.length === 1 });
    };
    const both = runs.some((run) => run.curve(`val_${name}`));
    runs.forEach((run, i) => {
      const single = runs.length === 1;
      // Some metrics exist for whole epochs only.
      const train = run.curve(name) ?? run.curve(`epoch_${name}`);
      const validation = run.curve(`val_${name}`);
      if (train) {
        const label = !single ? run.id : both ? "training" : name.replaceAll("_", " ");
        draw(run, train, label, lineStyle(i), !(name in titles) || smoothed.has(name));
      }
      if (validation) {
        const style = single ? lineStyle(1) : { ...lineStyle(i), dash: [3, 3] };
        draw(run, validation, single ? "validation" : `${run.id} val`, style, false);
      }
    });
    return { name, lines };
  }), [runs, version, axis, weight, range?.[0], range?.[1], ground]);

  const shared = { x: axis, zoom, clip };
  return (
    <section aria-label="Curves">
      <div class="controls">
        <Choice label="Horizontal axis" value={axis} onChange={setAxis}
                options={[["step", "Step"], ["relative", "Relative"], ["wall", "Wall time"]]} />
        <label>
          Smoothing
          <input type="range" min="0" max="0.99" step="0.01" value={weight}
                 onInput={(e) => setQuery({ smooth: e.currentTarget.value })} />
          <output>{weight.toFixed(2)}</output>
        </label>
        <label>
          <input type="checkbox" checked={clip} onChange={(e) => setQuery({ clip: e.currentTarget.checked ? "1" : "" })} />
          Cut outliers
        </label>
        {range && <button onClick={() => zoom.to(null)}>Reset zoom</button>}
        <button onClick={() => download(runs)}>CSV</button>
        <span class="hint">Drag or + to zoom, arrows or Shift and wheel to pan, double click or 0 to reset</span>
      </div>
      <div class="charts">
        {plots.map(({ name, lines }) => (
          <Chart key={name} {...shared} title={titles[name] ?? name.replaceAll("_", " ")} lines={lines}
                 log={logs.includes(name)} onLog={(on) => setLog(name, on)} />
        ))}
        {runs.length === 1 && <StepTime {...shared} run={runs[0]!} version={version} weight={weight} />}
      </div>
      {plots.length === 0 && <p class="empty">No curves yet: they begin with the first step record.</p>}
    </section>
  );
}

// Where the time of a step goes, stacked; the legend tells each part by itself.
function StepTime(props: { run: Run; version: number; weight: number; x: XAxis; clip: boolean;
                           zoom: Zoom }) {
  const { run, version, weight, x, zoom: { range } } = props;
  const top = lineStyle(0).color;
  const lines = useMemo(() => {
    const curves = parts.map((name) => run.curve(name));
    if (!curves.every((c) => c !== undefined)) return [];
    const xs = xValues(curves[0]!, x, run.start());
    const values = curves.map((c) => smooth(meansAt(c!, curves[0]!.step), weight));
    const sums = values[0]!.map(() => 0);
    const stacked = values.map((column, i): Line => {
      column.forEach((y, k) => (sums[k]! += y ?? 0));
      const { color } = lineStyle([0, 4, 3][i]!);
      return { label: ["compute", "wait", "reduce"][i]!, color, width: 1, x: xs, y: [...sums], shown: column,
               fill: i === 0 ? withAlpha(color, 0.45) : undefined };
    });
    return stacked;
  }, [run, version, weight, x, range?.[0], range?.[1], top]);
  if (lines.length === 0) return null;
  const bands = [1, 2].map((i) => ({ between: [i, i - 1] as [number, number], fill: withAlpha(lines[i]!.color, 0.45) }));
  const share = (i: number) => (lines[i]!.shown!.at(-1) ?? 0) / ((lines[2]!.y.at(-1) as number) || 1);
  return <Chart {...props} title="Step time, ms" zero lines={lines} bands={bands}
                note={`now ${Math.round(share(0) * 100)} % compute, ${Math.round(share(1) * 100)} % wait`} />;
}

export function Choice(props: { label: string; value: string; options: [string, string][]; onChange: (value: string) => void }) {
  return (
    <div class="choice" role="group" aria-label={props.label}>
      {props.options.map(([value, text]) => (
        <button key={value} aria-pressed={value === props.value} onClick={() => props.onChange(value)}>{text}</button>
      ))}
    </div>
  );
}

function download(runs: Run[]) {
  const rows = ["job,series,step,time,value"];
  for (const run of runs) {
    for (const [name, c] of run.curves) {
      c.step.forEach((step, i) => rows.push(`${run.id},${name},${step},${c.time[i]},${c.value[i]}`));
    }
  }
  save(`${runs.map((r) => r.id).join("+").slice(0, 80)}.csv`, rows.join("\n") + "\n", "text/csv");
}

export function save(name: string, text: string, type: string) {
  const url = URL.createObjectURL(new Blob([text], { type }));
  Object.assign(document.createElement("a"), { href: url, download: name }).click();
  URL.revokeObjectURL(url);
}
