// The server's HTTP API: shapes (protobuf's JSON: int64 as strings, "NaN" and "Infinity" as strings, and
// what is 0 or empty may be left out),
// requests, and whether the server answers at all.

export type Num = number | string;

export interface Metric { name: string; value?: Num }
export interface Spread { min: Num; lower: Num; median: Num; upper: Num; max: Num }

export type JobState = "QUEUED" | "RUNNING" | "SUCCEEDED" | "FAILED" | "CANCELLED" | "PAUSED";

export interface JobSpec {
  training?: { batch_size?: Num; epochs?: Num };
  labels?: Record<string, string>;
  publish_as?: string;
  [field: string]: unknown;
}

export interface Job {
  id: string;
  spec: JobSpec;
  state: JobState;
  state_reason?: string;
  attempt?: number;
  fingerprint?: string;
  contract?: string;
  create_time?: string;
  start_time?: string;
  end_time?: string;
  progress?: { step?: Num; total_steps?: Num; steps_per_epoch?: Num; epochs?: Num; metrics?: Metric[] };
  published?: { name: string; version: Num };
  state_hash?: string;
  priority?: number;
  worker?: { name: string; threads?: number };
  run_seconds?: number;
}

export const timings = ["samples_per_second", "step_ms", "compute_ms", "wait_ms", "reduce_ms"] as const;

export interface BatchNormLayer {
  layer: string;
  channels: Num;
  dead_channels?: Num;
  mean_drift?: Num;
  max_drift?: Num;
  max_drift_channel?: Num;
  batch_mean: Spread;
  moving_mean: Spread;
  batch_variance: Spread;
  moving_variance: Spread;
}

export interface BatchNormReport {
  epoch: Num;
  step: Num;
  layers: BatchNormLayer[];
  training_loss: Num;
  inference_loss: Num;
}

export interface Event {
  sequence: string;
  time: string;
  attempt?: number;
  state?: { state: JobState; reason?: string };
  step?: {
    step: Num;
    metrics?: { name: string; mean?: Num }[];
    learning_rate?: Num;
    gradient_norm?: Num;
    timing?: Partial<Record<(typeof timings)[number], Num>>;
  };
  epoch?: { epoch: Num; step: Num; metrics?: Metric[]; state_hash?: string };
  text?: { severity?: "INFO" | "WARNING" | "ERROR"; text: string; step?: Num };
  batch_norm?: BatchNormReport;
  checkpoint?: { step: Num; size_bytes: Num; stall_ms?: Num; save_ms?: Num };
  weights?: WeightReport;
}

export interface TensorHistogram {
  name: string;
  count?: Num;
  not_finite?: Num;
  min?: Num;
  max?: Num;
  sum?: Num;
  sum_of_squares?: Num;
  buckets?: Num[];
}

export interface WeightReport { epoch: Num; step: Num; tensors: TensorHistogram[] }

// Columns of equal length.
export interface SeriesAnswer { curves: Record<string, Record<"step" | "time" | "value" | "mean", Num[]>> }

export interface ModelVersion {
  name: string;
  version: Num;
  spec?: unknown;
  weights?: { size_bytes?: Num; sha256?: string };
  receipt?: { job_id: string; state_hash: string; steps: Num; build?: string; [field: string]: unknown };
  metrics?: Metric[];
  create_time?: string;
}

export interface Worker {
  name: string;
  threads: Num;
  cores?: Num;
  job_id?: string;
  attempt?: Num;
  job_threads?: Num;
  held?: boolean;
  supervised?: boolean;
  build?: string;
}

export const num = (value: Num | undefined): number => (value === undefined ? 0 : Number(value));
export const ended = (job: Job): boolean =>
  job.state === "SUCCEEDED" || job.state === "FAILED" || job.state === "CANCELLED";

export class ApiError extends Error {
  constructor(
    message: string,
    readonly status: number,
  ) {
    super(message);
  }
}

export interface Connection { lostSince: number | null; backSince: number | null; needsToken: boolean }

let connection: Connection = { lostSince: null, backSince: null, needsToken: false };
const watchers = new Set<(connection: Connection) => void>();

export function watchConnection(watcher: (connection: Connection) => void): () => void {
  watchers.add(watcher);
  watcher(connection);
  return () => watchers.delete(watcher);
}

function update(change: Partial<Connection>) {
  connection = { ...connection, ...change };
  for (const watcher of watchers) watcher(connection);
}

export function reportLost() {
  if (connection.lostSince !== null) return;
  update({ lostSince: Date.now(), backSince: null });
  const ping = () => request("/healthz").catch(() => setTimeout(ping, 1000));
  setTimeout(ping, 1000);
}

// Every request goes through here, so that one place knows whether the server answers.
async function request(path: string, init?: RequestInit): Promise<Response> {
  let response: Response;
  try {
    response = await fetch(path, { ...init, signal: AbortSignal.timeout(15_000) });
  } catch {
    reportLost();
    throw new ApiError("The server does not answer.", 0);
  }
  if (response.status === 502) {           // of a proxy before a server that is gone
    reportLost();
    throw new ApiError("The server does not answer.", 0);
  }
  if (connection.lostSince !== null) update({ lostSince: null, backSince: Date.now() });
  if (response.ok) return response;
  if (response.status === 401) update({ needsToken: true });
  const body = await response.json().catch(() => null);
  throw new ApiError(body?.error ?? `The server answered ${response.status}.`, response.status);
}

export async function get<T>(path: string): Promise<T> {
  return (await request(path)).json();
}

export async function post<T>(path: string, body: object = {}): Promise<T> {
  const response = await request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
  });
  return response.json();
}

export async function logIn(token: string): Promise<void> {
  await post("/api/login", { token });
  update({ needsToken: false });
}

export const modelPath = (name: string, rest = "") => `/api/models/${encodeURIComponent(name)}${rest}`;
export const jobPath = (id: string, rest = "") => `/api/jobs/${encodeURIComponent(id)}${rest}`;
