// One job: where it stands, its curves, its BatchNormalizations, its log and its spec.
import { useEffect, useState } from "preact/hooks";
import { jobPath, num, type Event, type Job } from "../api";
import { Controls, Facts, Labels, Progress, State, metric, rate, since, standing, stateName, usePoll } from "../common";
import { Curves, save } from "../curves";
import * as format from "../format";
import { link, setQuery, useRoute } from "../route";
import { Run } from "../run";
import { BatchNorm } from "./batch_norm";
import { Weights } from "./weights";

const tabs = [["", "Curves"], ["bn", "BatchNorm"], ["weights", "Weights"], ["log", "Log"], ["spec", "Spec"]] as const;

export function JobPage({ id }: { id: string }) {
  const tab = useRoute().query.get("tab") ?? "";
  const { data: job, error, refresh } = usePoll<Job>(jobPath(id), 1000);
  const [run, setRun] = useState<Run | null>(null);
  const [version, setVersion] = useState(0);
  useEffect(() => {
    const opened = new Run(id, 2000, () => setVersion((v) => v + 1));
    setRun(opened);
    opened.follow();
    return () => opened.close();
  }, [id]);
  const runs = useState<{ of: Run | null; list: Run[] }>({ of: null, list: [] })[0];
  if (runs.of !== run) Object.assign(runs, { of: run, list: run ? [run] : [] });

  if (!job || !run) return <main>{error ? <p class="problem" role="alert">{error}</p> : <p class="empty">…</p>}</main>;
  const done = (verb: string) => (verb === "delete" ? (location.hash = "#/jobs") : refresh());
  return (
    <main>
      {error && <p class="problem" role="alert">{error}</p>}
      <Head job={job} onDone={done} />
      <nav class="tabs" aria-label="Parts of the job">
        {tabs.map(([key, name]) => (
          <a key={key} href={link(["jobs", id], key ? { tab: key } : {})} aria-current={key === tab ? "page" : undefined}
             onClick={(e) => e.ctrlKey || e.metaKey || (e.preventDefault(), setQuery({ tab: key }))}>
            {name}
          </a>
        ))}
      </nav>
      {tab === "" && <Curves runs={runs.list} version={version} />}
      {tab === "bn" && <BatchNorm reports={run.reports} version={version} />}
      {tab === "weights" && <Weights reports={run.weights} />}
      {tab === "log" && <Log events={run.log} />}
      {tab === "spec" && <Spec job={job} />}
    </main>
  );
}

function Head({ job, onDone }: { job: Job; onDone: (verb: string) => void }) {
  const at = standing(job);
  const metrics = job.progress?.metrics ?? [];
  const running = job.state === "RUNNING";
  return (
    <header class="job">
      <div class="controls">
        <h1>{job.id}</h1>
        <State state={job.state} />
        <Labels job={job} />
        <Controls job={job} onDone={onDone} all />
      </div>
      {job.state_reason && <p class={job.state === "FAILED" ? "problem" : "dim"}>{job.state_reason}</p>}
      <Progress at={at} />
      <Facts facts={[
        ["Epoch", `${at.epoch} / ${at.epochs}`],
        ["Step", `${at.step.toLocaleString("en-US")} / ${at.total.toLocaleString("en-US")}`],
        ...metrics.map((m): [string, string] => [m.name.replaceAll("_", " "), format.value(metric(metrics, m.name))]),
        ["Samples", rate(at.samplesPerSecond)],
        running
          ? ["ETA", at.eta === null ? "–" : format.duration(at.eta)]
          : ["Ran", job.run_seconds ? format.duration(job.run_seconds) : "–"],
        ["Age", format.age(since(job.create_time))],
        ...(job.worker?.name ? [["Worker", job.worker.name] as [string, string]] : []),
        ...((job.attempt ?? 0) > 1 ? [["Attempt", String(job.attempt)] as [string, string]] : []),
        ...(job.published?.name ? [["Model", (
          <a href={link(["models", job.published.name], { v: String(job.published.version) })}>
            {job.published.name}:{job.published.version}
          </a>
        )] as [string, preact.JSX.Element]] : []),
      ]} />
    </header>
  );
}

function describe(e: Event): [string, string] | null {
  if (e.state) return ["state", `${stateName(e.state.state)}${e.state.reason ? `: ${e.state.reason}` : ""}`];
  if (e.text) return [(e.text.severity ?? "INFO").toLowerCase(), e.text.text];
  if (e.epoch) {
    const metrics = (e.epoch.metrics ?? []).map((m) => `${m.name} ${format.value(num(m.value))}`).join("  ");
    return ["epoch", `epoch ${e.epoch.epoch}  ${metrics}  state ${(e.epoch.state_hash ?? "").slice(0, 12)}`];
  }
  if (e.checkpoint) {
    const { step, size_bytes, save_ms } = e.checkpoint;
    return ["checkpoint", `step ${step} is safe: ${format.bytes(num(size_bytes))}, saved in ${format.value(num(save_ms))} ms`];
  }
  return null;
}

const longestLog = 1000;

function Log({ events }: { events: Event[] }) {
  const lines = events.map((e) => ({ e, told: describe(e) })).filter((line) => line.told);
  if (lines.length === 0) return <p class="empty">Nothing has been said yet.</p>;
  return (
    <ol class="log" tabIndex={0} aria-label="Log">
      {lines.length > longestLog && <li class="dim">{(lines.length - longestLog).toLocaleString("en-US")} older lines are not shown</li>}
      {lines.slice(-longestLog).map(({ e, told }) => (
        <li key={e.sequence} class={told![0]}>
          <time dateTime={e.time}>{new Date(e.time).toLocaleTimeString()}</time>
          <span class="kind">{told![0]}</span>
          <span>{told![1]}</span>
        </li>
      ))}
    </ol>
  );
}

function Spec({ job }: { job: Job }) {
  const text = JSON.stringify(job.spec, null, 2);
  return (
    <section>
      <Facts facts={[
        ["Fingerprint", <code>{job.fingerprint}</code>],
        ["Contract", <code>{job.contract}</code>],
        ...(job.state_hash ? [["State hash", <code>{job.state_hash}</code>] as [string, preact.JSX.Element]] : []),
        ...(job.published?.name ? [["Receipt", (
          <a href={link(["models", job.published.name], { v: String(job.published.version) })}>
            of {job.published.name}:{job.published.version}
          </a>
        )] as [string, preact.JSX.Element]] : []),
      ]} />
      <button onClick={() => save(`${job.id}.json`, text + "\n", "application/json")}>Download the spec</button>
      <pre tabIndex={0} aria-label="Spec">{text}</pre>
    </section>
  );
}
