// One plot: uPlot with our looks, a legend that tells the values under the crosshair, and zoom, pan and
// keyboard shared by all plots of a page.
import uPlot from "uplot";
import "uplot/dist/uPlot.min.css";
import { useEffect, useMemo, useRef, useState } from "preact/hooks";
import * as format from "./format";
import { apart, logTicks, onGrid, padded, withoutOutliers } from "./series";
import { grid, ink } from "./theme";

export interface Line {
  label: string;
  color: string;
  x: readonly number[];
  y: readonly (number | null)[];
  dash?: number[];
  width?: number;
  fill?: string;
  of?: string;                             // the label of the line behind which this one is, raw
  background?: boolean;                    // not in the legend, not under the crosshair
  markers?: boolean;
  shown?: readonly (number | null)[];      // in the legend, instead of y
}

type Range = [number, number];

// What part of x the plots of a page show. `view` is where they are now; `range`, which the page draws
// for, follows when it is quiet.
export interface Zoom { range: Range | null; view: { current: Range | null }; to: (range: Range | null) => void }

export function useZoom(range: Range | null, set: (range: Range | null) => void): Zoom {
  const view = useRef(range);
  const quiet = useRef(0);
  if (quiet.current === 0) view.current = range;
  useEffect(() => () => clearTimeout(quiet.current), []);
  const to = (wanted: Range | null) => {
    view.current = wanted;
    clearTimeout(quiet.current);
    quiet.current = window.setTimeout(() => {
      quiet.current = 0;
      set(wanted);
    }, wanted ? 150 : 0);
  };
  return { range, view, to };
}

export interface ChartProps {
  title: string;
  note?: string;
  lines: Line[];
  bands?: { between: [number, number]; fill: string }[];   // indices into lines, the upper first
  x?: "step" | "wall" | "relative" | "epoch";
  zoom: Zoom;
  log?: boolean;
  onLog?: (log: boolean) => void;
  clip?: boolean;                          // y without outliers
  zero?: boolean;                          // y begins at 0
}

// With more points than that in all lines together they share one grid of x.
const crowd = 8000;

const xTicks = { step: format.ticks, epoch: format.ticks, relative: format.clockTicks };
const font = "11px system-ui, sans-serif";
const clock = [1e-3, 2e-3, 5e-3, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30,
  ...[1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7200, 14400, 43200].map((minutes) => 60 * minutes)];
const whole = Array.from({ length: 12 }, (_, i) => [1, 2, 5].map((x) => x * 10 ** i)).flat();

function columns(lines: Line[], range: [number, number] | null): uPlot.AlignedData {
  const first = lines[0]?.x;
  if (lines.every((l) => l.x === first)) {
    return [first ?? [], ...lines.map((l) => l.y)] as unknown as uPlot.AlignedData;
  }
  if (lines.reduce((sum, l) => sum + l.x.length, 0) > crowd) return onGrid(lines, range) as unknown as uPlot.AlignedData;
  return uPlot.join(lines.map((l) => [l.x, l.y] as unknown as uPlot.AlignedData));
}

export function Chart(props: ChartProps) {
  const { lines, bands = [], x = "step", zoom: { range, view, to }, log = false, clip = false } = props;
  const host = useRef<HTMLDivElement>(null);
  const legend = useRef<HTMLUListElement>(null);
  const plot = useRef<uPlot | null>(null);
  const current = useRef(props);
  current.current = props;
  const [hidden, setHidden] = useState<ReadonlySet<string>>(new Set());
  const data = useMemo(() => columns(lines, range), [lines, range?.[0], range?.[1]]);
  const looks = JSON.stringify([x, log, clip, ink(), [...hidden], bands,
    lines.map((l) => [l.label, l.color, l.dash, l.width, l.fill, l.markers])]);

  // All plots that can be seen go there at once, with what they have; the page follows when it is quiet.
  const show = (wanted: Range | null) => {
    if (wanted && !apart(...wanted)) return;
    to(wanted);
    for (const u of uPlot.sync(`x-${x}`).plots) {
      const { top, bottom } = u.root.getBoundingClientRect();
      if (!wanted) u.setData(u.data);
      else if (bottom > 0 && top < innerHeight) u.setScale("x", { min: wanted[0], max: wanted[1] });
    }
  };
  const reset = useRef(() => {});
  reset.current = () => show(null);

  // Of each line the value at the crosshair, or its newest.
  const tell = () => {
    const u = plot.current;
    const spans = legend.current?.querySelectorAll("b") ?? [];
    let k = 0;
    current.current.lines.forEach((line, i) => {
      if (line.background) return;
      const at = u?.cursor.idxs?.[i + 1];
      const onPlot = u && (u.cursor.left ?? -1) >= 0 && at !== null && at !== undefined;
      const shown = line.shown ?? line.y;
      const there = line.shown ?? u?.data[i + 1];
      spans[k++]!.textContent = format.value(onPlot ? there?.[at] : shown.at(-1));
    });
  };

  useEffect(() => {
    const element = host.current!;
    const yRange = (u: uPlot, low: number | null, high: number | null): uPlot.Range.MinMax => {
      if (low === null || high === null) return log ? [0.1, 1] : [0, 1];
      if (current.current.clip) {
        const [from, to] = u.series[0]!.idxs ?? [0, 0];
        const seen: number[] = [];
        u.series.forEach((s, i) => {
          if (i === 0 || !s.show || current.current.lines[i - 1]?.background) return;
          for (const y of u.data[i]!.slice(from, to + 1)) if (y !== null && y !== undefined) seen.push(y);
        });
        if (seen.length > 0) [low, high] = withoutOutliers(seen);
      }
      if (log) return [low * 0.9, high * 1.1];
      return padded(low, high, current.current.zero ?? false);
    };
    const axis = { stroke: ink(), font, grid: { stroke: grid(), width: 1 }, ticks: { show: false } };
    const u = new uPlot(
      {
        width: element.clientWidth || 300,
        height: 210,
        padding: [8, 8, 0, 0],
        legend: { show: false },
        cursor: {
          sync: { key: `x-${x}`, scales: ["x", null] },
          drag: { x: true, y: false, setScale: false },
          points: { size: 6 },
          // The nearest point of each line: lines have their own steps.
          dataIdx: (self, series, index) => {
            const column = self.data[series]!;
            for (let d = 0; d < column.length; ++d) {
              if (column[index - d] != null) return index - d;
              if (column[index + d] != null) return index + d;
            }
            return index;
          },
          bind: { dblclick: () => () => (reset.current(), null) },
        },
        scales: {
          x: { time: x === "wall", range: (_, low, high) => view.current ?? (low < high ? [low, high] : [low - 1, high + 1]) },
          y: { distr: log ? 3 : 1, range: yRange },
        },
        axes: [
          { ...axis, size: 24, gap: 4, space: 70, incrs: x === "relative" ? clock : x === "wall" ? undefined : whole,
            values: x === "wall" ? undefined : (_, ticks, _axis, _space, step) => xTicks[x](ticks, step) },
          { ...axis, size: 56, gap: 4, splits: log ? (_, _axis, low, high) => logTicks(low, high) : undefined,
            values: (_, ticks, _axis, _space, step) =>
            (log ? ticks.map((t) => (t === null ? "" : format.short(t))) : format.ticks(ticks, step)) },
        ],
        series: [
          {},
          ...lines.map((l): uPlot.Series => ({
            label: l.label,
            stroke: l.color,
            width: l.width ?? 1.5,
            dash: l.dash,
            fill: l.fill,
            show: !hidden.has(l.of ?? l.label),
            spanGaps: false,
            points: { show: l.markers ?? false, size: 5, fill: l.color },
          })),
        ],
        bands: bands.map((b) => ({ series: [b.between[0] + 1, b.between[1] + 1], fill: b.fill })),
        hooks: {
          setCursor: [tell],
          setSelect: [
            (self) => {
              const { left, width } = self.select;
              if (width < 4) return;
              show([self.posToVal(left, "x"), self.posToVal(left + width, "x")]);
              self.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
            },
          ],
        },
      },
      [[]],
      element,
    );
    plot.current = u;
    const observer = new ResizeObserver(() => u.setSize({ width: element.clientWidth, height: u.height }));
    observer.observe(element);
    return () => {
      observer.disconnect();
      u.destroy();
    };
  }, [looks]);

  useEffect(() => {
    plot.current?.setData(log
      ? (data.map((c, i) => (i === 0 ? c : (c as number[]).map((y) => (y > 0 ? y : y === undefined ? y : null)))) as uPlot.AlignedData)
      : data);
    tell();
  }, [data, looks, range?.[0], range?.[1]]);

  const move = (shift: number, zoom: number) => {
    const { min: left = 0, max: right = 1 } = plot.current?.scales.x ?? {};
    const [min, max] = view.current ?? [left, right];
    const middle = (min + max) / 2 + shift * (max - min);
    const half = ((max - min) / 2) * zoom;
    show([middle - half, middle + half]);
  };
  const key = (event: KeyboardEvent) => {
    const moves: Record<string, () => void> = {
      ArrowLeft: () => move(-0.2, 1), ArrowRight: () => move(0.2, 1),
      "+": () => move(0, 0.6), "-": () => move(0, 1.6), "0": () => show(null),
    };
    if (!moves[event.key] || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    moves[event.key]!();
  };
  const wheel = (event: WheelEvent) => {
    if (!event.shiftKey || !view.current) return;
    event.preventDefault();
    move(Math.sign(event.deltaX || event.deltaY) * 0.1, 1);
  };
  const toggle = (label: string) => {
    const next = new Set(hidden);
    if (!next.delete(label)) next.add(label);
    setHidden(next);
  };

  const told = lines.filter((l) => !l.background);
  return (
    <figure class="chart">
      <figcaption>
        <h3>{props.title}</h3>
        {props.note && <span class="note">{props.note}</span>}
        {props.onLog && (
          <button class="quiet" aria-pressed={log} onClick={() => props.onLog!(!log)} title="Logarithmic scale">
            log
          </button>
        )}
      </figcaption>
      <ul class="legend" ref={legend}>
        {told.map((l) => (
          <li key={l.label}>
            <button class="quiet" aria-pressed={!hidden.has(l.label)} onClick={() => toggle(l.label)}
                    title="Show or hide this curve">
              <Swatch color={l.color} dash={l.dash} />
              {l.label} <b />
            </button>
          </li>
        ))}
      </ul>
      <div class="plot" ref={host} tabIndex={0} role="group" onKeyDown={key} onWheel={wheel}
           aria-label={`${props.title}: ${told.map((l) => `${l.label} ${format.value((l.shown ?? l.y).at(-1))}`).join(", ")}`} />
    </figure>
  );
}

function Swatch({ color, dash }: { color: string; dash?: number[] }) {
  return (
    <svg class="swatch" width="16" height="8" aria-hidden="true">
      <line x1="0" x2="16" y1="4" y2="4" stroke={color} stroke-width="3" stroke-dasharray={dash?.join(" ")} />
    </svg>
  );
}

export function Sparkline({ values, label }: { values: readonly number[]; label: string }) {
  const finite = values.filter(Number.isFinite);
  if (finite.length < 2) return <svg class="spark" width="72" height="18" aria-hidden="true" />;
  const low = Math.min(...finite);
  const span = Math.max(...finite) - low || 1;
  const at = (y: number, i: number) => `${((i / (finite.length - 1)) * 70 + 1).toFixed(1)},${(16 - ((y - low) / span) * 14).toFixed(1)}`;
  return (
    <svg class="spark" width="72" height="18" role="img" aria-label={label}>
      <polyline points={finite.map(at).join(" ")} />
    </svg>
  );
}
