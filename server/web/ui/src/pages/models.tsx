// Published models: the newest version of each.
import { num, type ModelVersion } from "../api";
import { since, usePoll } from "../common";
import * as format from "../format";
import { link } from "../route";

const told = (model: ModelVersion) =>
  (model.metrics ?? []).map((m) => `${m.name.replaceAll("_", " ")} ${format.value(num(m.value))}`).join(" · ");

export function Models() {
  const { data, error } = usePoll<{ models?: ModelVersion[] }>("/api/models", 5000);
  const models = data?.models ?? [];
  return (
    <main>
      <div class="controls"><h1>Models</h1></div>
      {error && !data && <p class="problem" role="alert">{error}</p>}
      {data && models.length === 0 && <p class="empty">No model yet: a job with <code>publish_as</code> publishes one when it succeeds.</p>}
      <div class="cards">
        {models.map((m) => (
          <a class="card" key={m.name} href={link(["models", m.name])}>
            <h2>{m.name} <span class="dim">v{m.version}</span></h2>
            <p>{told(m)}</p>
            <p class="dim">{m.receipt?.job_id} · {format.age(since(m.create_time))}</p>
          </a>
        ))}
      </div>
    </main>
  );
}
