import { num, type Num, type Worker } from "../api";
import { usePoll } from "../common";
import { link } from "../route";

export function Workers() {
  const { data, error } = usePoll<{ workers?: Worker[]; queued_jobs?: Num }>("/api/workers", 1000);
  const workers = data?.workers ?? [];
  const queued = num(data?.queued_jobs);
  const busy = workers.filter((w) => w.job_id).length;
  return (
    <main>
      <div class="controls">
        <h1>Workers</h1>
        {data && <span class="dim">{workers.length} connected, {busy} busy</span>}
        {data && <a href={link(["jobs"], { state: "QUEUED" })}>{queued === 1 ? "1 job waits" : `${queued} jobs wait`}</a>}
      </div>
      {error && !data && <p class="problem" role="alert">{error}</p>}
      {data && workers.length === 0 && <p class="empty">No worker is connected: jobs wait.</p>}
      <div class="cards">
        {workers.map((w) => <Card key={w.name} worker={w} />)}
      </div>
    </main>
  );
}

function Card({ worker: w }: { worker: Worker }) {
  const threads = num(w.threads);
  const busy = w.job_id ? num(w.job_threads) : 0;
  return (
    <article class="card">
      <h2>{w.name}</h2>
      <p>
        {w.job_id ? (
          <><span class="state running"><i aria-hidden="true">▶</i> training</span> <a href={link(["jobs", w.job_id])}>{w.job_id}</a>
            {num(w.attempt) > 1 && <span class="dim">, attempt {num(w.attempt)}</span>}</>
        ) : (
          <span class="state queued"><i aria-hidden="true">◌</i> idle</span>
        )}
        {w.held && <span class="label">held</span>}
      </p>
      <div class="threads" role="img" aria-label={`${busy} of ${threads} threads busy`}>
        {Array.from({ length: Math.min(threads, 64) }, (_, i) => <i key={i} class={i < busy ? "busy" : ""} />)}
      </div>
      <p class="dim">
        {threads} threads{w.cores ? ` on ${num(w.cores)} cores` : ""} · {w.supervised ? "this server's own" : "joined"}
        {w.build ? ` · ${w.build}` : ""}
      </p>
    </article>
  );
}
