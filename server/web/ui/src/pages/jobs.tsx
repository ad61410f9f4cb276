// The table of jobs, and several jobs' curves over each other.
import { useEffect, useRef, useState } from "preact/hooks";
import { ended, get, jobPath, num, type Job, type JobState, type SeriesAnswer } from "../api";
import { Sparkline } from "../chart";
import { Controls, Labels, Progress, State, labels, metric, rate, since, standing, stateName, usePoll } from "../common";
import { Choice, Curves } from "../curves";
import * as format from "../format";
import { link, setQuery, useRoute } from "../route";
import { Run } from "../run";
import { headline, lowerIsBetter } from "../series";

interface Best { metric: string; best: number; history: number[] }

// Each job's best metric with its history: fetched once for a job that has ended, else every 5 seconds,
// three at a time.
function useBest(jobs: Job[]): Map<string, Best> {
  const [found, setFound] = useState(new Map<string, Best>());
  const asked = useRef(new Map<string, number>());
  const busy = useRef(0);
  useEffect(() => {
    const longest = [...jobs].sort((a, b) => (asked.current.get(a.id) ?? 0) - (asked.current.get(b.id) ?? 0));
    for (const job of longest) {
      if (busy.current >= 3) return;
      const name = headline((job.progress?.metrics ?? []).map((m) => m.name));
      const last = asked.current.get(job.id);
      if (!name || (last !== undefined && (last === Infinity || Date.now() - last < 5000))) continue;
      asked.current.set(job.id, ended(job) ? Infinity : Date.now());
      busy.current++;
      get<SeriesAnswer>(jobPath(job.id, `/series?points=60&names=${encodeURIComponent(name)}`))
        .then(({ curves }) => {
          const history = (curves[name]?.value ?? []).map(num);
          const finite = history.filter(Number.isFinite);
          const best = lowerIsBetter(name) ? Math.min(...finite) : Math.max(...finite);
          setFound((old) => new Map(old).set(job.id, { metric: name, best, history }));
        })
        .catch(() => asked.current.delete(job.id))
        .finally(() => busy.current--);
    }
  }, [jobs]);
  return found;
}

type Key = "name" | "state" | "progress" | "loss" | "best" | "speed" | "eta" | "worker" | "age";
const heads: [Key, string][] = [
  ["name", "Job"], ["state", "State"], ["progress", "Progress"], ["loss", "Loss"], ["best", "Best"],
  ["speed", "Samples"], ["eta", "ETA"], ["worker", "Worker"], ["age", "Age"],
];
const order: JobState[] = ["RUNNING", "QUEUED", "PAUSED", "SUCCEEDED", "FAILED", "CANCELLED"];

export function Jobs() {
  const { query } = useRoute();
  const [limit, setLimit] = useState(100);
  const [ticked, setTicked] = useState<ReadonlySet<string>>(new Set());
  const { data, error, refresh } = usePoll<{ jobs: Job[]; next_page_token?: string }>(`/api/jobs?page_size=${limit}`, 1000);
  const jobs = data?.jobs ?? [];
  const best = useBest(jobs);
  const wanted = query.get("state") ?? "";
  const text = (query.get("q") ?? "").toLowerCase();
  const [sort = "age", way = "up"] = (query.get("sort") ?? "").split(".").filter(Boolean);

  const keys: Record<Key, (job: Job) => number | string> = {
    name: (job) => job.id,
    state: (job) => order.indexOf(job.state),
    progress: (job) => num(job.progress?.step) / (num(job.progress?.total_steps) || 1),
    loss: (job) => { const loss = metric(job.progress?.metrics, "loss"); return loss === undefined || Number.isNaN(loss) ? Infinity : loss; },
    best: (job) => best.get(job.id)?.best ?? -Infinity,
    speed: (job) => standing(job).samplesPerSecond ?? -1,
    eta: (job) => standing(job).eta ?? Infinity,
    worker: (job) => job.worker?.name ?? "~",
    age: (job) => since(job.create_time),
  };
  const by = keys[sort as Key] ?? keys.age;
  const rows = jobs
    .filter((job) => !wanted || job.state === wanted)
    .filter((job) => `${job.id} ${labels(job).join(" ")} ${job.spec.publish_as ?? ""} ${job.worker?.name ?? ""}`.toLowerCase().includes(text))
    .map((job) => ({ job, key: by(job) }))
    .sort((a, b) => (a.key < b.key ? -1 : a.key > b.key ? 1 : 0) * (way === "up" ? 1 : -1))
    .map(({ job }) => job);
  const states = order.filter((s) => s === wanted || jobs.some((job) => job.state === s));
  const tick = (id: string) => {
    const next = new Set(ticked);
    if (!next.delete(id)) next.add(id);
    setTicked(next);
  };

  return (
    <main>
      <div class="controls">
        <h1>Jobs</h1>
        <Choice label="State" value={wanted} onChange={(state) => setQuery({ state })}
                options={[["", `All ${jobs.length}`], ...states.map((s): [string, string] =>
                  [s, `${stateName(s)} ${jobs.filter((job) => job.state === s).length}`])]} />
        <input type="search" placeholder="Name, label, model, worker" aria-label="Search jobs" value={query.get("q") ?? ""}
               onInput={(e) => setQuery({ q: e.currentTarget.value })} />
        <select class="sort" aria-label="Sort by" value={`${sort}.${way}`} onChange={(e) => setQuery({ sort: e.currentTarget.value })}>
          {heads.flatMap(([key, name]) => [["up", "↑"], ["down", "↓"]].map(([direction, arrow]) => (
            <option key={key + direction} value={`${key}.${direction}`}>{name} {arrow}</option>
          )))}
        </select>
        {ticked.size > 0 && (
          <a class="button primary" href={link(["compare"], { jobs: [...ticked].join(",") })}>Compare {ticked.size}</a>
        )}
      </div>
      {error && !data && <p class="problem" role="alert">{error}</p>}
      <table class="jobs" role="table">
        <thead role="rowgroup">
          <tr role="row">
            <th role="columnheader"><span class="hidden">Compare</span></th>
            {heads.map(([key, name]) => (
              <th key={key} role="columnheader" class={key} aria-sort={key !== sort ? "none" : way === "up" ? "ascending" : "descending"}>
                <button class="quiet" onClick={() => setQuery({ sort: `${key}.${key === sort && way === "up" ? "down" : "up"}` })}>
                  {name}{key === sort && <i aria-hidden="true">{way === "up" ? " ↑" : " ↓"}</i>}
                </button>
              </th>
            ))}
            <th role="columnheader"><span class="hidden">Controls</span></th>
          </tr>
        </thead>
        <tbody role="rowgroup">
          {rows.map((job) => (
            <Row key={job.id} job={job} best={best.get(job.id)} ticked={ticked.has(job.id)} tick={tick} refresh={refresh} />
          ))}
        </tbody>
      </table>
      {data && rows.length === 0 && (
        <p class="empty">{jobs.length === 0 ? <>No jobs yet. Hand one in: <code>lockstep submit job.json</code></> : "No job fits."}</p>
      )}
      {data?.next_page_token && limit < 1000 && (
        <button onClick={() => setLimit(Math.min(limit + 300, 1000))}>Show older jobs</button>
      )}
    </main>
  );
}

function Row(props: { job: Job; best: Best | undefined; ticked: boolean; tick: (id: string) => void; refresh: () => void }) {
  const { job, best } = props;
  const at = standing(job);
  const loss = metric(job.progress?.metrics, "loss");
  return (
    <tr role="row" class={ended(job) ? "ended" : ""}>
      <td role="cell" class="tick">
        <input type="checkbox" checked={props.ticked} onChange={() => props.tick(job.id)} aria-label={`Compare ${job.id}`} />
      </td>
      <td role="cell" class="name">
        <a href={link(["jobs", job.id])}>{job.id}</a> <span class="dim">{job.spec.publish_as}</span> <Labels job={job} />
      </td>
      <td role="cell" class="state">
        <State state={job.state} />{job.worker?.name && <span class="dim on">on {job.worker.name}</span>}
      </td>
      <td role="cell" class="progress" data-name="Progress">
        <span class="number">epoch {at.epoch}/{at.epochs}</span>
        <span class="number dim">{at.step.toLocaleString("en-US")}/{at.total.toLocaleString("en-US")}</span>
        <Progress at={at} />
      </td>
      <td role="cell" class="loss number" data-name="Loss">{format.value(loss)}</td>
      <td role="cell" class="best" data-name="Best">
        {best && Number.isFinite(best.best) && (
          <>
            <Sparkline values={best.history} label={`${best.metric} over the run`} />
            <span class="number">{format.value(best.best)}</span> <span class="dim">{best.metric.replaceAll("_", " ")}</span>
          </>
        )}
      </td>
      <td role="cell" class="speed number" data-name="Samples">{rate(at.samplesPerSecond)}</td>
      <td role="cell" class="eta number" data-name="ETA">{at.eta === null ? "–" : format.duration(at.eta)}</td>
      <td role="cell" class="worker" data-name="Worker">{job.worker?.name || "–"}</td>
      <td role="cell" class="age number" data-name="Age">{format.age(since(job.create_time))}</td>
      <td role="cell" class="do"><Controls job={job} onDone={props.refresh} /></td>
    </tr>
  );
}

export function Compare() {
  const { query } = useRoute();
  const ids = query.get("jobs") ?? "";
  const [runs, setRuns] = useState<Run[]>([]);
  const [version, setVersion] = useState(0);
  useEffect(() => {
    const names = ids.split(",").filter(Boolean).slice(0, 50);
    const points = Math.max(300, Math.min(2000, Math.floor(20_000 / (names.length || 1))));
    let timer = 0;
    const changed = () => {
      timer ||= window.setTimeout(() => {
        timer = 0;
        setVersion((v) => v + 1);
      }, 200);
    };
    const opened = names.map((id) => new Run(id, points, changed));
    setRuns(opened);
    opened.forEach((run) => run.poll());
    return () => {
      clearTimeout(timer);
      opened.forEach((run) => run.close());
    };
  }, [ids]);
  const problems = runs.filter((run) => run.error);
  return (
    <main>
      <div class="controls">
        <h1>Compare</h1>
        {runs.map((run) => <a class="label" key={run.id} href={link(["jobs", run.id])}>{run.id}</a>)}
      </div>
      {problems.map((run) => <p class="problem" key={run.id}>{run.id}: {run.error}</p>)}
      <Curves runs={runs} version={version} />
    </main>
  );
}
