// Plays the server's HTTP API from a recorded run, for development and tests: `npm run mock [-- PORT]`.
// The recorded jobs have ended; "live-cnn" is the first of them played again, over and over.
import { existsSync, readFileSync } from "node:fs";
import { createServer } from "node:http";
import { extname, join, normalize } from "node:path";
import { fileURLToPath } from "node:url";

const here = fileURLToPath(new URL(".", import.meta.url));
const dist = join(here, "../dist");
const { jobs, models, events } = JSON.parse(readFileSync(join(here, "recording.json"), "utf8"));
const types = { ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml" };
const now = () => new Date().toISOString();

const script = events[jobs[0].id];
const base = { ...jobs[0], published: undefined, state_hash: "", end_time: undefined };
const live = { ...base, id: "live-cnn", worker: { name: "vm:7399", threads: 2 } };
jobs.unshift(live);
jobs.unshift({ ...base, id: "sweep-017", state: "QUEUED", attempt: 0, start_time: undefined, create_time: now(),
               progress: { ...base.progress, step: "0", metrics: [] }, priority: -3 });
events["sweep-017"] = [{ sequence: "1", time: now(), state: { state: "QUEUED" } }];

function restart() {
  events[live.id] = [];
  Object.assign(live, { state: "RUNNING", create_time: now(), start_time: now(), end_time: undefined,
                        progress: { ...base.progress, step: "0", metrics: [] } });
}

function tick() {
  if (live.state !== "RUNNING") return;
  const log = events[live.id];
  const event = { ...script[log.length % script.length], time: now() };
  if (event.state && event.state.state === "SUCCEEDED") return restart();
  log.push(event);
  const record = event.step ?? event.epoch;
  if (!record) return;
  const values = new Map(live.progress.metrics.map((m) => [m.name, m.value]));
  for (const m of record.metrics) values.set(m.name, m.value ?? m.mean);
  live.progress.step = record.step;
  live.progress.metrics = [...values].map(([name, value]) => ({ name, value }));
}
restart();
for (let i = 0; i < 120; ++i) tick();
setInterval(tick, 300).unref();

function series(id) {
  const columns = {};
  const add = (name, event, step, value) => {
    const c = (columns[name] ??= { step: [], time: [], value: [], min: [], max: [] });
    c.step.push(Number(step));
    c.time.push(Date.parse(event.time) / 1000);
    for (const key of ["value", "min", "max"]) c[key].push(value);
  };
  for (const event of events[id]) {
    const { step, epoch } = event;
    for (const m of step?.metrics ?? []) add(m.name, event, step.step, m.mean);
    for (const m of epoch?.metrics ?? []) {
      if (m.name.startsWith("val_")) add(m.name, event, epoch.step, m.value);
    }
    if (!step) continue;
    for (const key of ["learning_rate", "gradient_norm"]) add(key, event, step.step, step[key]);
    for (const [key, value] of Object.entries(step.timing)) add(key, event, step.step, value);
  }
  const isMetric = (name) => /loss|accuracy/.test(name);
  const pick = (want) => Object.fromEntries(Object.entries(columns).filter(([name]) => isMetric(name) === want));
  return { metrics: pick(true), ...pick(false) };
}

function stream(request, response, id, from) {
  response.writeHead(200, { "Content-Type": "text/event-stream" });
  let next = Number(request.headers["last-event-id"] ?? from - 1) + 1;
  const send = () => {
    for (const event of events[id].slice(Math.max(next, 1) - 1)) {
      response.write(`id: ${event.sequence}\ndata: ${JSON.stringify(event)}\n\n`);
      next = Number(event.sequence) + 1;
    }
    if (/SUCCEEDED|FAILED|CANCELLED/.test(find(id).state)) response.end("event: end\ndata:\n\n");
  };
  send();
  const timer = setInterval(send, 300);
  response.on("close", () => clearInterval(timer));
}

const find = (id) => jobs.find((job) => job.id === id);
const after = { pause: "PAUSED", resume: "RUNNING", cancel: "CANCELLED" };

function api(request, response, url) {
  const [kind, id, verb] = url.pathname.split("/").slice(2).map(decodeURIComponent);
  const json = (body, status = 200) => {
    response.writeHead(status, { "Content-Type": "application/json" });
    response.end(JSON.stringify(body));
  };
  const missing = () => json({ error: `no ${kind} ${id}`, code: "NOT_FOUND" }, 404);
  if (kind === "workers") {
    const running = live.state === "RUNNING";
    return json([
      { name: "vm:7399", threads: 2, cores: 2, job_id: running ? live.id : "", attempt: running ? 1 : 0, held: false, supervised: true, build: "avx512 g++-12" },
      { name: "rack3-node11:411", threads: 16, cores: 32, job_id: "", attempt: 0, held: false, supervised: false, build: "avx2 clang-14" },
    ]);
  }
  if (kind === "models") {
    if (!id) return json({ models });
    const model = models.find((m) => m.name === id);
    return model ? json({ ...model, version: verb ?? model.version }) : missing();
  }
  if (kind !== "jobs") return json({}, 404);
  if (!id) return json({ jobs, next_page_token: "" });
  const job = find(id);
  if (!job) return missing();
  if (request.method === "POST") {
    if (after[verb]) job.state = after[verb];
    if (verb === "delete") jobs.splice(jobs.indexOf(job), 1);
    return json(job);
  }
  if (verb === "series") return json(series(id));
  if (verb === "events") return stream(request, response, id, Number(url.searchParams.get("from") ?? 1));
  return json(job);
}

const server = createServer((request, response) => {
  const url = new URL(request.url, "http://mock");
  response.setHeader("Content-Security-Policy", "default-src 'self'");
  if (url.pathname === "/healthz") return response.end("ok\n");
  if (url.pathname.startsWith("/api/")) return api(request, response, url);
  const file = join(dist, normalize(url.pathname === "/" ? "/index.html" : url.pathname));
  if (!existsSync(file)) return response.writeHead(404).end();
  response.writeHead(200, { "Content-Type": types[extname(file)] ?? "application/octet-stream" });
  response.end(readFileSync(file));
});
server.listen(Number(process.argv[2] ?? 8080), "127.0.0.1", () => {
  console.log(`http://127.0.0.1:${server.address().port}/`);
});
