// Published models: the newest of each, and all versions of one with their receipts.
import { useEffect, useState } from "preact/hooks";
import { get, num, type ModelVersion } from "../api";
import { Facts, since, usePoll } from "../common";
import { save } from "../curves";
import * as format from "../format";
import { link, setQuery, useRoute } from "../route";

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

// The newest 30 versions.
function useVersions(name: string): { versions: ModelVersion[]; error: string } {
  const { data, error } = usePoll<ModelVersion>(`/api/models/${encodeURIComponent(name)}`, 5000);
  const [versions, setVersions] = useState<ModelVersion[]>([]);
  const newest = num(data?.version);
  useEffect(() => {
    let closed = false;
    const numbers = Array.from({ length: Math.min(newest, 30) }, (_, i) => newest - i);
    Promise.all(numbers.map((v) => get<ModelVersion>(`/api/models/${encodeURIComponent(name)}/${v}`).catch(() => null)))
      .then((all) => closed || setVersions(all.filter((m) => m !== null)));
    return () => { closed = true; };
  }, [name, newest]);
  return { versions, error };
}

export function ModelPage({ name }: { name: string }) {
  const { query } = useRoute();
  const { versions, error } = useVersions(name);
  const chosen = versions.find((m) => String(m.version) === query.get("v")) ?? versions[0];
  const metrics = (chosen?.metrics ?? []).map((m) => m.name);
  return (
    <main>
      <div class="controls"><h1>{name}</h1><a href="#/models">All models</a></div>
      {error && <p class="problem" role="alert">{error}</p>}
      <div class="scroll" tabIndex={0} role="region" aria-label="Versions">
        <table>
          <thead>
            <tr>
              <th class="number">Version</th>
              {metrics.map((m) => <th class="number" key={m}>{m.replaceAll("_", " ")}</th>)}
              <th>Job</th><th>State hash</th><th class="number">Size</th><th class="number">Age</th>
            </tr>
          </thead>
          <tbody>
            {versions.map((m) => (
              <tr key={m.version} aria-current={m === chosen ? "true" : undefined}>
                <td class="number">
                  <a href={link(["models", name], { v: String(m.version) })}
                     onClick={(e) => (e.preventDefault(), setQuery({ v: String(m.version) }))}>v{m.version}</a>
                </td>
                {metrics.map((key) => {
                  const found = m.metrics?.find((x) => x.name === key);
                  return <td class="number" key={key}>{format.value(found && num(found.value))}</td>;
                })}
                <td>{m.receipt && <a href={link(["jobs", m.receipt.job_id])}>{m.receipt.job_id}</a>}</td>
                <td><code>{m.receipt?.state_hash.slice(0, 16)}</code></td>
                <td class="number">{m.weights ? format.bytes(num(m.weights.size_bytes)) : "–"}</td>
                <td class="number">{format.age(since(m.create_time))}</td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {chosen?.receipt && <Receipt model={chosen} />}
    </main>
  );
}

function Receipt({ model }: { model: ModelVersion }) {
  const receipt = model.receipt!;
  const text = JSON.stringify(receipt, null, 2);
  const field = (key: string) => <code>{String(receipt[key] ?? "–")}</code>;
  return (
    <section>
      <div class="controls">
        <h2>Receipt of v{model.version}</h2>
        <button onClick={() => save(`${model.name}-${model.version}.receipt.json`, text + "\n", "application/json")}>Download</button>
        <span class="hint">Train it again and compare: <code>lockstep verify --receipt FILE</code></span>
      </div>
      <Facts facts={[
        ["Contract", field("contract")], ["Seed", field("seed")], ["Shards", field("shards")], ["Steps", field("steps")],
        ["Build", field("build")], ["State hash", field("state_hash")], ["Training data", field("train_digest")],
        ["Validation data", field("validation_digest")], ["Fingerprint", field("fingerprint")],
      ]} />
      <pre tabIndex={0} aria-label="Receipt">{text}</pre>
    </section>
  );
}
