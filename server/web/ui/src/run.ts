// A job's curves, reports and log: what /series had when it was opened, then what /events adds.
import { ApiError, ended, get, jobPath, num, reportLost, timings, type BatchNormReport, type Event, type Job, type Num, type SeriesAnswer, type WeightReport } from "./api";
import { append, refine, type Series } from "./series";

function read(answer: SeriesAnswer): Map<string, Series> {
  return new Map(Object.entries(answer.curves).map(([name, c]) =>
    [name, { step: c.step.map(num), time: c.time.map(num), value: c.value.map(num), mean: c.mean.map(num) }]));
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
  private zooms = 0;
  private meanwhile: Event[] | null = null;  // what came while the curves were being fetched

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
    document.addEventListener("visibilitychange", this.seen);
  }

  // The curves alone, and again every two seconds until the job has ended: for many runs at a time.
  async poll() {
    const job = document.hidden ? null : await get<Job>(jobPath(this.id)).catch((error: ApiError) => error);
    if (job) await this.load();
    const over = job instanceof ApiError ? job.status === 404 : job && ended(job);
    if (!this.closed && !over) this.retry = window.setTimeout(() => this.poll(), 2000);
  }

  close() {
    this.closed = true;
    this.source?.close();
    document.removeEventListener("visibilitychange", this.seen);
    clearTimeout(this.retry);
    clearTimeout(this.timer);
  }

  // Fetches more points between two steps, or with null forgets them.
  async zoom(range: [number, number] | null) {
    const asked = ++this.zooms;
    if (range && range[1] >= 0) {
      const [from, to] = range.map((x) => Math.max(0, Math.round(x)));
      const query = `/series?points=${this.points}&from_step=${from}&to_step=${to}`;
      const found = await get<SeriesAnswer>(jobPath(this.id, query)).then(read, () => new Map<string, Series>());
      if (asked !== this.zooms) return;
      this.detail = found;
    } else if (this.detail.size > 0) {
      this.detail = new Map();
    } else {
      return;
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
    const late: Event[] = (this.meanwhile = []);
    try {
      this.curves = read(await get<SeriesAnswer>(jobPath(this.id, `/series?points=${this.points}`)));
      late.forEach((event) => this.addPoints(event));
      this.error = "";
    } catch (error) {
      this.error = (error as Error).message;
    }
    this.meanwhile = null;
    this.notify();
  }

  // The browser resumes after the last id by itself when a connection breaks; when it gave up (the
  // server answered with an error), this starts another.
  private listen() {
    if (this.closed || document.hidden) return;
    this.source?.close();
    const known = this.curves.get("loss")?.step.at(-1) ?? 0;
    const query = `/events?from=${this.sequence + 1}&steps_after=${known}`;
    const source = (this.source = new EventSource(jobPath(this.id, query)));
    source.onmessage = (message) => this.take(JSON.parse(message.data));
    source.addEventListener("end", () => source.close());
    source.onerror = () => {
      if (source.readyState !== EventSource.CLOSED) return reportLost();
      get(jobPath(this.id)).then(
        () => (this.retry = window.setTimeout(() => this.listen(), 1000)),
        (error: ApiError) => error.status === 404 || (this.retry = window.setTimeout(() => this.listen(), 1000)),
      );
    };
  }

  // A page that nobody sees gives its connection back: browsers have six for a server.
  private seen = () => {
    if (document.hidden) this.source?.close();
    else this.listen();
  };

  private take(event: Event) {
    if (num(event.sequence) <= this.sequence) return;
    this.sequence = num(event.sequence);
    this.addPoints(event);
    this.meanwhile?.push(event);
    if (!event.step) this.log.push(event);
    if (event.batch_norm) this.reports.push(event.batch_norm);
    if (event.weights) this.weights.push(event.weights);
    // The server thins what has grown long.
    if (!this.meanwhile && (this.curves.get("loss")?.step.length ?? 0) > 3 * this.points) this.load();
    this.notify();
  }

  private addPoints({ time, step, epoch }: Event) {
    const seconds = Date.parse(time) / 1000;
    const add = (name: string, at: Num, value: Num | undefined) => {
      let curve = this.curves.get(name);
      if (!curve) this.curves.set(name, (curve = { step: [], time: [], value: [], mean: [] }));
      append(curve, num(at), seconds, num(value));
    };
    if (step) {
      for (const m of step.metrics ?? []) add(m.name, step.step, m.mean);
      add("learning_rate", step.step, step.learning_rate);
      add("gradient_norm", step.step, step.gradient_norm);
      if (step.timing) for (const name of timings) add(name, step.step, step.timing[name]);
    }
    for (const m of epoch?.metrics ?? []) {
      add(m.name.startsWith("val_") ? m.name : `epoch_${m.name}`, epoch!.step, m.value);
    }
  }

  private notify() {
    this.timer ||= window.setTimeout(() => {
      this.timer = 0;
      if (!this.closed) this.changed();
    }, 100);
  }
}
