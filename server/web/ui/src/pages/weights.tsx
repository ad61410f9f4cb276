// How a job's weights lay after its epochs: a ridge for each report, the newest in front.
import { num, type TensorHistogram, type WeightReport } from "../api";
import * as format from "../format";

const ridges = 10;                         // at most, of the newest reports
const [width, height, lift] = [280, 60, 7];

// Reports spread over the whole run, the newest last.
function chosen(reports: WeightReport[]): WeightReport[] {
  const count = Math.min(ridges, reports.length);
  return Array.from({ length: count }, (_, i) => reports[Math.round(((i + 1) * reports.length) / count) - 1]!);
}

// The outline of a histogram over [low, high], its highest bucket at 1.
function outline(h: TensorHistogram, low: number, high: number, base: number): string {
  const counts = (h.buckets ?? []).map(num);
  const most = Math.max(...counts, 1);
  const [min, max] = [num(h.min), num(h.max)];
  const x = (value: number) => (((value - low) / (high - low || 1)) * (width - 2) + 1).toFixed(1);
  const points = counts.flatMap((count, i) => {
    const y = (base - (count / most) * (height - 8)).toFixed(1);
    const edge = (k: number) => x(min + ((max - min) * k) / counts.length);
    return [`${edge(i)},${y}`, `${edge(i + 1)},${y}`];
  });
  return [`${x(min)},${base}`, ...points, `${x(max)},${base}`].join(" ");
}

export function Histogram({ name, history }: { name: string; history: TensorHistogram[] }) {
  const newest = history.at(-1)!;
  const low = Math.min(...history.map((h) => num(h.min)));
  const high = Math.max(...history.map((h) => num(h.max)));
  const count = num(newest.count);
  const mean = num(newest.sum) / (count || 1);
  const deviation = Math.sqrt(Math.max(num(newest.sum_of_squares) / (count || 1) - mean * mean, 0));
  const tall = height + lift * (history.length - 1);
  const told = `mean ${format.value(mean)}, σ ${format.value(deviation)}`;
  return (
    <figure class="chart histogram">
      <figcaption>
        <h3>{name}</h3>
        <span class="note">{(count + num(newest.not_finite)).toLocaleString("en-US")} values</span>
      </figcaption>
      <svg viewBox={`0 0 ${width} ${tall}`} role="img" aria-label={`${name}: ${told}`}>
        {history.map((h, i) => (
          <polygon key={i} points={outline(h, low, high, height - 1 + lift * i)}
                   class={i === history.length - 1 ? "newest" : ""} />
        ))}
      </svg>
      <p class="ends number"><span>{format.value(low)}</span><span>{told}</span><span>{format.value(high)}</span></p>
      {num(newest.not_finite) > 0 && <p class="problem">{num(newest.not_finite)} values are not finite</p>}
    </figure>
  );
}

export function Weights({ reports }: { reports: WeightReport[] }) {
  const shown = chosen(reports);
  const last = shown.at(-1);
  if (!last) return <p class="empty">No report yet: one follows an epoch.</p>;
  return (
    <section aria-label="Weights">
      <p class="hint">
        After epoch{shown.length > 1 ? "s" : ""} {shown.map((r) => num(r.epoch)).join(", ")}; the newest in front. Each on its own height.
      </p>
      <div class="histograms">
        {last.tensors.map((tensor) => (
          <Histogram key={tensor.name} name={tensor.name}
                     history={shown.flatMap((r) => r.tensors.filter((t) => t.name === tensor.name))} />
        ))}
      </div>
    </section>
  );
}
