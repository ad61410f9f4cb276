import { num, type Worker } from "../api";
import { usePoll } from "../common";
import { link } from "../route";

export function Workers() {
  const { data, error } = usePoll<Worker[]>("/api/workers", 1000);
  const workers = data ?? [];
  const busy = workers.filter((w) => w.job_id).length;
  return (
    <main>
      <div class="controls">
        <h1>Workers</h1>
        {data && <span class="dim">{workers.length} connected, {busy} busy</span>}
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
      <div class={`threads ${w.job_id ? "busy" : ""}`} role="img" aria-label={`${threads} threads`}>
        {Array.from({ length: Math.min(threads, 64) }, (_, i) => <i key={i} />)}
      </div>
      <p class="dim">
        {threads} threads{w.cores ? ` on ${num(w.cores)} cores` : ""} · {w.supervised ? "this server's own" : "joined"}
        {w.build ? ` · ${w.build}` : ""}
      </p>
    </article>
  );
}
