// Asks a model for a prediction: draw or drop an image, or write numbers.
import { useEffect, useRef, useState } from "preact/hooks";
import { get, modelPath, num, post, type ModelVersion, type Num } from "../api";
import * as format from "../format";

interface Tensor { name: string; datatype: string; shape: Num[] }
interface Metadata { inputs: Tensor[]; outputs: Tensor[] }
interface Answer { outputs: { name: string; shape: number[]; data: (number | null)[] }[] }

const side = 196;                          // of the canvas on the screen

// Of one sample: without the dimension that counts them.
const sampleShape = (tensor: Tensor): number[] => tensor.shape.slice(1).map(num);
const isImage = (shape: number[]): boolean => shape.length === 3 && (shape[2] === 1 || shape[2] === 3);

export function TryIt({ model }: { model: ModelVersion }) {
  const [metadata, setMetadata] = useState<Metadata | null>(null);
  const [values, setValues] = useState<Record<string, number[] | null>>({});
  const [answer, setAnswer] = useState<Answer | null>(null);
  const [error, setError] = useState("");
  const version = String(model.version);
  useEffect(() => {
    get<Metadata>(modelPath(model.name, `/metadata?version=${version}`)).then(setMetadata, (e: Error) => setError(e.message));
  }, [model.name, version]);

  const inputs = metadata?.inputs ?? [];
  const ready = inputs.length > 0 && inputs.every((input) => values[input.name]);
  // One request at a time; what has changed meanwhile is asked about when its answer is there.
  const newest = useRef(values);
  newest.current = values;
  const asking = useRef<typeof values | null>(null);
  const ask = () => {
    if (asking.current) return;
    const data = (asking.current = newest.current);
    post<Answer>(modelPath(model.name, "/infer"), {
      version: num(model.version),
      inputs: inputs.map(({ name, datatype, shape }) => ({ name, datatype, shape: [1, ...shape.slice(1).map(num)], data: data[name] })),
    })
      .then((a) => (setAnswer(a), setError("")), (e: Error) => setError(e.message))
      .finally(() => {
        asking.current = null;
        if (drawn && newest.current !== data) ask();
      });
  };
  // An image is asked about as soon as it changes, numbers when the button is pressed.
  const drawn = inputs.length === 1 && isImage(sampleShape(inputs[0]!));
  useEffect(() => { if (drawn && ready) ask(); }, [drawn, values]);

  return (
    <section aria-label="Try it">
      <div class="controls"><h2>Try it</h2><span class="hint">One sample to v{version}, as any client would send it</span></div>
      <div class="try">
        {inputs.map((input) => {
          const shape = sampleShape(input);
          const set = (data: number[] | null) => {
            setValues((old) => ({ ...old, [input.name]: data }));
            if (!drawn) setAnswer(null);
          };
          return isImage(shape)
            ? <Drawing key={input.name} name={input.name} shape={shape} model={model} onChange={set} />
            : <Numbers key={input.name} name={input.name} shape={shape} onChange={set} />;
        })}
        <div class="answer" aria-live="polite">
          {!drawn && <button class="primary" disabled={!ready} onClick={ask}>Predict</button>}
          {error && <p class="problem" role="alert">{error}</p>}
          {answer?.outputs.map((output) => <Bars key={output.name} name={output.name} data={output.data} />)}
          {!answer && !error && <p class="dim">{drawn ? "Draw something, or drop an image." : ""}</p>}
        </div>
      </div>
    </section>
  );
}

// The greatest values of an output, as bars.
function Bars({ name, data }: { name: string; data: (number | null)[] }) {
  const finite = data.map((y) => y ?? NaN);
  const most = Math.max(...finite.map(Math.abs), 1e-12);
  const shares = finite.length > 1 && finite.every((y) => y >= 0) && Math.abs(finite.reduce((a, b) => a + b, 0) - 1) < 1e-3;
  const rows = finite.map((value, index) => ({ value, index })).sort((a, b) => b.value - a.value).slice(0, 10);
  return (
    <table class="bars" aria-label={name}>
      <thead class="hidden"><tr><th>{finite.length > 1 ? "Class" : "Output"}</th><th>Value</th></tr></thead>
      <tbody>
        {rows.map(({ value, index }) => (
          <tr key={index}>
            <th scope="row" class="number">{index}</th>
            <td>
              <meter min={0} max={1} value={Math.abs(value) / (shares ? 1 : most)} aria-label={`${name} ${index}`} />
              <span class="number">{shares ? format.percent(value) : format.value(value)}</span>
            </td>
          </tr>
        ))}
      </tbody>
    </table>
  );
}

// A canvas of the input's own pixels. Models that scale their input by about 1/255 get bytes, others
// numbers from 0 to 1.
function Drawing(props: { name: string; shape: number[]; model: ModelVersion; onChange: (data: number[]) => void }) {
  const [high = 1, wide = 1, channels = 1] = props.shape;
  const canvas = useRef<HTMLCanvasElement>(null);
  const [problem, setProblem] = useState("");
  const inputs = (props.model.spec as { inputs?: { name?: string; scale?: Num }[] } | undefined)?.inputs;
  const scale = num((inputs?.find((input) => input.name === props.name) ?? inputs?.[0])?.scale);
  const factor = scale > 0 && scale < 0.05 ? 1 : 1 / 255;
  const pen = () => canvas.current!.getContext("2d", { willReadFrequently: true })!;
  const read = () => {
    const { data } = pen().getImageData(0, 0, wide, high);
    const values: number[] = [];
    for (let i = 0; i < data.length; i += 4) {
      if (channels === 3) values.push(...[0, 1, 2].map((c) => data[i + c]! * factor));
      else values.push((0.299 * data[i]! + 0.587 * data[i + 1]! + 0.114 * data[i + 2]!) * factor);
    }
    props.onChange(values.map((x) => Math.round(x * 1e5) / 1e5));
  };
  const clear = () => {
    const context = pen();
    context.fillStyle = "#000";
    context.fillRect(0, 0, wide, high);
  };
  useEffect(clear, [wide, high]);

  const draw = (event: PointerEvent) => {
    if (!(event.buttons & 1)) return;
    const box = canvas.current!.getBoundingClientRect();
    const context = pen();
    context.fillStyle = "#fff";
    context.beginPath();
    context.arc(((event.clientX - box.left) / box.width) * wide, ((event.clientY - box.top) / box.height) * high,
                Math.max(wide, high) / 18, 0, 2 * Math.PI);
    context.fill();
    read();
  };
  const show = async (file: File | null | undefined) => {
    if (!file) return;
    try {
      const image = await createImageBitmap(file);
      const context = pen();
      context.imageSmoothingQuality = "high";
      clear();
      context.drawImage(image, 0, 0, wide, high);
      setProblem("");
      read();
    } catch {
      setProblem(`${file.name} is no image that this browser can read`);
    }
  };
  return (
    <div class="drawing" onDragOver={(e) => e.preventDefault()}
         onDrop={(e) => (e.preventDefault(), show(e.dataTransfer?.files[0]))}>
      <canvas ref={canvas} width={wide} height={high} role="img" aria-label={`${props.name}: ${high} by ${wide} pixels to draw on`}
              style={{ width: `${side}px`, height: `${(side * high) / wide}px` }} onPointerDown={draw} onPointerMove={draw} />
      <div class="buttons">
        <button onClick={() => (clear(), read())}>Clear</button>
        <label class="button">
          Image…<input class="hidden" type="file" accept="image/*" onChange={(e) => show(e.currentTarget.files?.[0])} />
        </label>
      </div>
      {problem && <p class="problem" role="alert">{problem}</p>}
    </div>
  );
}

function Numbers({ name, shape, onChange }: { name: string; shape: number[]; onChange: (data: number[] | null) => void }) {
  const count = shape.reduce((a, b) => a * b, 1);
  const [text, setText] = useState(() => Array.from({ length: count }, () => "0").join(" "));
  const numbers = text.split(/[\s,;]+/).filter(Boolean).map(Number);
  const wrong = numbers.some((x) => !Number.isFinite(x)) ? "only numbers, please"
    : numbers.length !== count ? `${numbers.length} of ${count} numbers` : "";
  useEffect(() => onChange(wrong ? null : numbers), [text]);
  return (
    <label class="numbers">
      {name} <span class="dim">[{shape.join(", ")}]</span>
      <textarea rows={5} spellcheck={false} value={text} onInput={(e) => setText(e.currentTarget.value)} />
      {wrong && <span class="problem">{wrong}</span>}
    </label>
  );
}
