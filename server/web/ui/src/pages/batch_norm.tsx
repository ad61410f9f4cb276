// Whether inference will be what training was: moving statistics over epochs, each layer's distance from
// its batches, dead channels, and the loss both ways.
import { useMemo, useState } from "preact/hooks";
import { num, type BatchNormLayer, type BatchNormReport, type Spread } from "../api";
import { Chart, useZoom, type Line, type Zoom } from "../chart";
import * as format from "../format";
import { lineStyle, withAlpha } from "../theme";

type Grade = "good" | "fair" | "bad";
const marks: Record<Grade, string> = { good: "✓", fair: "!", bad: "✕" };

const grade = (x: number, fair: number, bad: number): Grade => (!(x < bad) ? "bad" : x >= fair ? "fair" : "good");

// The loss of the same batch both ways, relative to the greater.
const gap = (r: BatchNormReport): number => {
  const [training, inference] = [num(r.training_loss), num(r.inference_loss)];
  return Math.abs(inference - training) / Math.max(Math.abs(training), Math.abs(inference), 1e-3);
};

const verdicts: Record<Grade, string> = {
  good: "Inference agrees with training",
  fair: "Inference is somewhat off training",
  bad: "Inference will not be what training was",
};

export function BatchNorm({ reports, version }: { reports: BatchNormReport[]; version: number }) {
  const zoom = useZoom(...useState<[number, number] | null>(null));
  const last = reports.at(-1);
  const epochs = useMemo(() => reports.map((r) => num(r.epoch)), [reports, version]);
  if (!last) return <p class="empty">No report yet: one follows each epoch of a network with BatchNormalization.</p>;
  const difference = gap(last);
  const verdict = grade(difference, 0.15, 0.4);
  const losses = (["training_loss", "inference_loss"] as const).map((key, i): Line => ({
    ...lineStyle(i), dash: i === 0 ? undefined : [4, 3], label: i === 0 ? "batch statistics" : "moving statistics",
    x: epochs, y: reports.map((r) => num(r[key])), width: 2, markers: epochs.length < 40,
  }));
  return (
    <section class="batchnorm" aria-label="BatchNorm">
      <div class="verdict">
        <Mark grade={verdict} />
        <div>
          <h2>{verdicts[verdict]}</h2>
          <p>
            After epoch {last.epoch}, the last batch's loss is {format.value(num(last.training_loss))} with its own statistics
            and {format.value(num(last.inference_loss))} with the moving ones: {format.percent(difference)} apart.
          </p>
        </div>
        {zoom.range && <button onClick={() => zoom.to(null)}>Reset zoom</button>}
      </div>
      <div class="overview">
        <div class="scroll" tabIndex={0} role="region" aria-label="Layers">
          <table>
            <thead>
              <tr>
                <th>Layer</th><th class="number">Channels</th><th class="number">Dead</th>
                <th class="number">Mean drift, σ</th><th class="number">Most, σ</th><th class="number">in channel</th>
                <th class="number">Greatest variance</th>
              </tr>
            </thead>
            <tbody>
              {last.layers.map((l) => <LayerRow key={l.layer} layer={l} />)}
            </tbody>
          </table>
        </div>
        <Chart title="Loss of the last batch" x="epoch" zoom={zoom} lines={losses} />
      </div>
      {last.layers.map((l, i) => <Layer key={l.layer} name={l.layer} index={i} reports={reports} epochs={epochs} zoom={zoom} />)}
      <p class="hint">
        Bands: least to greatest channel faint, the middle half darker, median as a line. Dashed: the median of the last batch.
      </p>
    </section>
  );
}

function Mark({ grade, }: { grade: Grade }) {
  return <span class={`mark ${grade}`} role="img" aria-label={grade}>{marks[grade]}</span>;
}

function LayerRow({ layer }: { layer: BatchNormLayer }) {
  const dead = num(layer.dead_channels);
  const channels = num(layer.channels);
  const drift = num(layer.mean_drift);
  const most = num(layer.max_drift);
  const explosion = num(layer.batch_variance.max);
  return (
    <tr>
      <td>{layer.layer}</td>
      <td class="number">{channels}</td>
      <td class="number"><Mark grade={grade(dead / channels, 0.05, 0.5)} /> {dead}</td>
      <td class="number"><Mark grade={grade(drift, 0.3, 1)} /> {format.value(drift)}</td>
      <td class="number"><Mark grade={grade(most, 1.5, 4)} /> {format.value(most)}</td>
      <td class="number">{num(layer.max_drift_channel)}</td>
      <td class="number"><Mark grade={grade(explosion, 1e4, 1e6)} /> {format.value(explosion)}</td>
    </tr>
  );
}

function Layer(props: { name: string; index: number; reports: BatchNormReport[]; epochs: number[]; zoom: Zoom }) {
  const { name, index, reports, epochs, zoom } = props;
  const ground = lineStyle(0).color;
  const [mean, variance, drift] = useMemo(() => {
    const layers = reports.map((r) => r.layers.find((l) => l.layer === name) ?? r.layers[index]!);
    const markers = epochs.length < 40;
    const lines = (moving: (l: BatchNormLayer) => Spread, batch: (l: BatchNormLayer) => Spread): Line[] => {
      const edge = (key: keyof Spread): Line => ({
        label: key, color: withAlpha(ground, 0.2), width: 1, x: epochs, background: true, y: layers.map((l) => num(moving(l)[key])),
      });
      return [
        edge("max"), edge("upper"), edge("lower"), edge("min"),
        { label: "moving", color: ground, width: 2, x: epochs, y: layers.map((l) => num(moving(l).median)), markers },
        { label: "batch", color: lineStyle(1).color, dash: [4, 3], x: epochs, y: layers.map((l) => num(batch(l).median)), markers },
      ];
    };
    const line = (label: string, i: number, y: (l: BatchNormLayer) => number): Line => ({
      ...lineStyle(i), dash: i === 0 ? undefined : [4, 3], label, x: epochs, y: layers.map(y), width: 2, markers,
    });
    return [
      lines((l) => l.moving_mean, (l) => l.batch_mean),
      lines((l) => l.moving_variance, (l) => l.batch_variance),
      [line("mean", 0, (l) => num(l.mean_drift)), line("most", 1, (l) => num(l.max_drift))],
    ];
  }, [reports, epochs, name, index, ground]);
  const bands = [
    { between: [0, 3] as [number, number], fill: withAlpha(ground, 0.1) },
    { between: [1, 2] as [number, number], fill: withAlpha(ground, 0.22) },
  ];
  return (
    <section class="layer" aria-label={name}>
      <h2>{name}</h2>
      <div class="charts">
        <Chart title="Mean" note="of each channel" x="epoch" zoom={zoom} lines={mean!} bands={bands} />
        <Chart title="Variance" note="of each channel" x="epoch" zoom={zoom} lines={variance!} bands={bands} />
        <Chart title="Drift" note="of the batch from the moving mean, σ" x="epoch" zoom={zoom} lines={drift!} zero />
      </div>
    </section>
  );
}
