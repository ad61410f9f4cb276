// A job's curves, reports and log: what /series had when it was opened, then what /events adds.
import { ended, get, jobPath, num, reportLost, type BatchNormReport, type Event, type Job, type Num, type SeriesAnswer, type WeightReport } from "./api";
import { append, refine, type Series } from "./series";

function read(answer: SeriesAnswer): Map<string, Series> {
  return new Map(Object.entries(answer.curves).map(([name, c]) =>
    [name, { step: c.step.map(num), time: c.time.map(num), value: c.value.map(num) }]));
}

export class Run {
  curves = new Map<string, Series>();
  log: Event[] = [];                       // all but step records
  reports: BatchNormReport[] = [];
  weights: WeightReport[] = [];
  error = "";
  private detail = new Map<string, Series>();
  private source: EventSource | null = null;
  private retry = 0;
  private sequence = 0;
  private timer = 0;
  private closed = false;

  // `changed` is called at most some times a second.
  constructor(
    readonly id: string,
    private readonly points: number,
    private readonly changed: () => void,
  ) {}

  // With its log and live, one connection to the server for as long as it is open.
  async follow() {
    await this.load();
    this.listen();
  }

  // The curves alone, and again every two seconds until the job has ended: for many runs at a time.
  async poll() {
    await this.load();
    const job = await get<Job>(jobPath(this.id)).catch(() => null);
    if (!this.closed && !(job && ended(job))) this.retry = window.setTimeout(() => this.poll(), 2000);
  }

  close() {
    this.closed = true;
    this.source?.close();
    clearTimeout(this.retry);
    clearTimeout(this.timer);
  }

  // Fetches more points between two steps, or with null forgets them.
  async zoom(range: [number, number] | null) {
    if (!range && this.detail.size === 0) return;
    this.detail.clear();
    if (range) {
      const [from, to] = range.map(Math.round);
      const query = `/series?points=${this.points}&from_step=${from}&to_step=${to}`;
      this.detail = await get<SeriesAnswer>(jobPath(this.id, query)).then(read, () => new Map());
    }
    this.notify();
  }

  curve(name: string): Series | undefined {
    const all = this.curves.get(name);
    const detail = this.detail.get(name);
    return all && detail ? refine(all, detail) : all;
  }

  start(): number {
    return Math.min(...[...this.curves.values()].map((c) => c.time[0] ?? Infinity));
  }

  private async load() {
    try {
      this.curves = read(await get<SeriesAnswer>(jobPath(this.id, `/series?points=${this.points}`)));
      this.error = "";
    } catch (error) {
      this.error = (error as Error).message;
    }
    this.notify();
  }

  // The browser resumes after the last id by itself when a connection breaks; when it gave up (the
  // server answered with an error), this starts another.
  private listen() {
    if (this.closed) return;
    const known = this.curves.get("loss")?.step.at(-1) ?? 0;
    const query = `/events?from=${this.sequence + 1}&steps_after=${known}`;
    const source = (this.source = new EventSource(jobPath(this.id, query)));
    source.onmessage = (message) => this.take(JSON.parse(message.data));
    source.addEventListener("end", () => source.close());
    source.onerror = () => {
      if (source.readyState === EventSource.CLOSED) this.retry = window.setTimeout(() => this.listen(), 1000);
      reportLost();
    };
  }

  private take(event: Event) {
    if (num(event.sequence) <= this.sequence) return;
    this.sequence = num(event.sequence);
    const time = Date.parse(event.time) / 1000;
    const add = (name: string, step: Num, value: Num | undefined) => {
      if (value === undefined) return;
      let curve = this.curves.get(name);
      if (!curve) this.curves.set(name, (curve = { step: [], time: [], value: [] }));
      append(curve, num(step), time, num(value));
    };
    const { step, epoch } = event;
    if (step) {
      for (const m of step.metrics) add(m.name, step.step, m.mean);
      add("learning_rate", step.step, step.learning_rate);
      add("gradient_norm", step.step, step.gradient_norm);
      for (const [name, value] of Object.entries(step.timing ?? {})) add(name, step.step, value);
    } else {
      this.log.push(event);
    }
    for (const m of epoch?.metrics ?? []) {
      add(m.name.startsWith("val_") ? m.name : `epoch_${m.name}`, epoch!.step, m.value);
    }
    if (event.batch_norm) this.reports.push(event.batch_norm);
    if (event.weights) this.weights.push(event.weights);
    this.notify();
  }

  private notify() {
    this.timer ||= window.setTimeout(() => {
      this.timer = 0;
      if (!this.closed) this.changed();
    }, 100);
  }
}
