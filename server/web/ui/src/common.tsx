// Small parts that several pages share.
import type { ComponentChildren } from "preact";
import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError, ended, get, jobPath, num, post, type Job, type JobState, type Metric } from "./api";
import * as format from "./format";

const marks: Record<JobState, string> = {
  QUEUED: "◌", RUNNING: "▶", SUCCEEDED: "✓", FAILED: "✕", CANCELLED: "⊘", PAUSED: "‖",
};

export const stateName = (state: JobState): string => state.toLowerCase();

export function State({ state }: { state: JobState }) {
  return (
    <span class={`state ${stateName(state)}`}>
      <i aria-hidden="true">{marks[state]}</i> {stateName(state)}
    </span>
  );
}

// Asks for `path` every `every_ms` while the page can be seen; at once when it comes to be seen.
export function usePoll<T>(path: string, every_ms: number): { data: T | null; error: string; refresh: () => void } {
  const [answer, setAnswer] = useState<{ path: string; data: T | null; error: string }>({ path, data: null, error: "" });
  const refresh = useRef(() => {});
  useEffect(() => {
    let timer = 0;
    let closed = false;
    const ask = async () => {
      clearTimeout(timer);
      if (!document.hidden) {
        const next = await get<T>(path).then(
          (data) => ({ data, error: "" }),
          (error: ApiError) => ({ error: error.message, lost: error.status === 0 }),
        );
        if (closed) return;
        // The banner tells of a server that is lost; what was known stays.
        setAnswer((old) => (old.path === path && old.data && "lost" in next && next.lost ? { ...old, error: "" }
          : { path, data: old.path === path ? old.data : null, ...next }));
      }
      clearTimeout(timer);
      timer = window.setTimeout(ask, every_ms);
    };
    refresh.current = ask;
    ask();
    document.addEventListener("visibilitychange", ask);
    return () => {
      closed = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", ask);
    };
  }, [path, every_ms]);
  return { ...(answer.path === path ? answer : { data: null, error: "" }), refresh: () => refresh.current() };
}

// A question in a modal dialog; closes itself.
export function Question(props: { text: string; yes: string; onYes: () => void; onClose: () => void }) {
  const dialog = useRef<HTMLDialogElement>(null);
  useEffect(() => dialog.current?.showModal(), []);
  const answer = (event: SubmitEvent) => {
    if ((event.submitter as HTMLButtonElement | null)?.value === "yes") props.onYes();
  };
  return (
    <dialog ref={dialog} onClose={props.onClose} aria-labelledby="question">
      <form method="dialog" onSubmit={answer}>
        <p id="question">{props.text}</p>
        <div class="buttons">
          <button value="no" autofocus>No</button>
          <button value="yes" class="danger">{props.yes}</button>
        </div>
      </form>
    </dialog>
  );
}

const questions = {
  cancel: { text: (id: string) => `Cancel ${id}? It ends here and cannot be resumed.`, yes: "Cancel the job" },
  delete: { text: (id: string) => `Delete ${id}, its log and its checkpoints? Models stay.`, yes: "Delete the job" },
};

// What can be done with a job now.
export function Controls({ job, onDone, all }: { job: Job; onDone: (verb: string) => void; all?: boolean }) {
  const [asking, setAsking] = useState<keyof typeof questions | null>(null);
  const [error, setError] = useState("");
  const send = (verb: string) =>
    post(jobPath(job.id, `/${verb}`)).then(
      () => (setError(""), onDone(verb)),
      (e: Error) => setError(e.message),
    );
  const button = (text: string, action: () => void) => (
    <button onClick={action} aria-label={`${text} ${job.id}`}>{text}</button>
  );
  return (
    <span class="actions">
      {(job.state === "RUNNING" || job.state === "QUEUED") && button("Pause", () => send("pause"))}
      {job.state === "PAUSED" && button("Resume", () => send("resume"))}
      {!ended(job) && button("Cancel", () => setAsking("cancel"))}
      {ended(job) && all && button("Delete", () => setAsking("delete"))}
      {error && <span class="problem" role="alert">{error}</span>}
      {asking && (
        <Question text={questions[asking].text(job.id)} yes={questions[asking].yes}
                  onYes={() => send(asking)} onClose={() => setAsking(null)} />
      )}
    </span>
  );
}

export const labels = (job: Job): string[] =>
  Object.entries(job.spec.labels ?? {}).map(([key, value]) => `${key}=${value}`);

export function Labels({ job }: { job: Job }) {
  return <>{labels(job).map((label) => <span class="label" key={label}>{label}</span>)}</>;
}

export const metric = (metrics: Metric[] | undefined, name: string): number | undefined => {
  const found = metrics?.find((m) => m.name === name);
  return found && num(found.value);
};

export const since = (time: string | undefined): number => (time ? (Date.now() - Date.parse(time)) / 1000 : 0);

// Where a job stands, with its speed as two polls of it show it.
export interface Standing {
  epoch: number; epochs: number; step: number; total: number;
  samplesPerSecond: number | null; eta: number | null;
}

const speeds = new Map<string, { step: number; at: number; perSecond: number | null }>();

export function standing(job: Job): Standing {
  const p = job.progress ?? {};
  const [step, total, perEpoch] = [num(p.step), num(p.total_steps), num(p.steps_per_epoch)];
  const batch = num(job.spec.training?.batch_size);
  const at = performance.now() / 1000;
  let perSecond: number | null = null;
  if (job.state === "RUNNING") {
    const last = speeds.get(job.id);
    if (!last || step < last.step) {
      speeds.set(job.id, { step, at, perSecond: null });
    } else if (at - last.at >= 1.5 && step > last.step) {
      const now = (step - last.step) / (at - last.at);
      speeds.set(job.id, { step, at, perSecond: last.perSecond === null ? now : 0.6 * last.perSecond + 0.4 * now });
    }
    perSecond = speeds.get(job.id)!.perSecond;
  } else if (ended(job) && job.run_seconds) {
    perSecond = step / job.run_seconds;
  }
  return {
    epoch: perEpoch ? Math.min(Math.floor(step / perEpoch) + (step < total && job.attempt ? 1 : 0), num(p.epochs)) : 0,
    epochs: num(p.epochs), step, total,
    samplesPerSecond: perSecond === null ? null : perSecond * batch,
    eta: perSecond && job.state === "RUNNING" ? (total - step) / perSecond : null,
  };
}

export function Progress({ at }: { at: Standing }) {
  return (
    <progress max={Math.max(at.total, 1)} value={at.step} aria-label={`Step ${at.step} of ${at.total}`} />
  );
}

export function Facts({ facts }: { facts: [string, ComponentChildren][] }) {
  return (
    <dl class="facts">
      {facts.map(([name, value]) => (
        <div key={name}><dt>{name}</dt><dd>{value}</dd></div>
      ))}
    </dl>
  );
}

export const rate = (perSecond: number | null): string => (perSecond === null ? "–" : `${format.short(Math.round(perSecond))}/s`);
