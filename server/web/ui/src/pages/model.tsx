// One model: its versions, what its weights look like, a request to try it with, and its receipt.
import { useEffect, useState } from "preact/hooks";
import { get, jobPath, modelPath, num, type Event, type ModelVersion, type WeightReport } from "../api";
import { Facts, since, usePoll } from "../common";
import { save } from "../curves";
import * as format from "../format";
import { link, setQuery, useRoute } from "../route";
import { TryIt } from "./try_it";
import { Weights } from "./weights";

export function ModelPage({ name }: { name: string }) {
  const { query } = useRoute();
  const { data, error } = usePoll<{ models?: ModelVersion[] }>(modelPath(name), 5000);
  const versions = data?.models ?? [];
  const wanted = query.get("v") ?? String(versions[0]?.version ?? "");
  const [chosen, setChosen] = useState<ModelVersion | null>(null);
  const [problem, setProblem] = useState("");
  useEffect(() => {
    let closed = false;
    // With its spec and whole receipt, which the list leaves out.
    setChosen(null);
    setProblem("");
    if (wanted) {
      get<ModelVersion>(modelPath(name, `/${wanted}`))
        .then((m) => closed || setChosen(m), (e: Error) => closed || setProblem(e.message));
    }
    return () => { closed = true; };
  }, [name, wanted]);
  const metrics = (versions[0]?.metrics ?? []).map((m) => m.name);
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
              <th>Job</th><th>State hash</th><th class="number">Age</th><th class="number">Weights</th>
            </tr>
          </thead>
          <tbody>
            {versions.map((m) => (
              <tr key={m.version} aria-current={String(m.version) === wanted ? "true" : undefined}>
                <td class="number">
                  <a href={link(["models", name], { v: String(m.version) })}
                     onClick={(e) => e.ctrlKey || e.metaKey || (e.preventDefault(), setQuery({ v: String(m.version) }))}>v{m.version}</a>
                </td>
                {metrics.map((key) => {
                  const found = m.metrics?.find((x) => x.name === key);
                  return <td class="number" key={key}>{format.value(found && num(found.value))}</td>;
                })}
                <td>{m.receipt && <a href={link(["jobs", m.receipt.job_id])}>{m.receipt.job_id}</a>}</td>
                <td><code>{m.receipt?.state_hash.slice(0, 16)}</code></td>
                <td class="number">{format.age(since(m.create_time))}</td>
                <td class="number">
                  <a href={modelPath(name, `/${m.version}/weights`)} download aria-label={`Download the weights of v${m.version}`}>
                    {m.weights ? format.bytes(num(m.weights.size_bytes)) : "–"}
                  </a>
                </td>
              </tr>
            ))}
          </tbody>
        </table>
      </div>
      {problem && <p class="problem" role="alert">{problem}</p>}
      {chosen && <TryIt key={`${name}:${chosen.version}`} model={chosen} />}
      {chosen?.receipt && <JobWeights key={chosen.receipt.job_id} job={chosen.receipt.job_id} />}
      {chosen?.receipt && <Receipt model={chosen} />}
    </main>
  );
}

// What the model's job reported of its weights, if the job is still there.
function JobWeights({ job }: { job: string }) {
  const [reports, setReports] = useState<WeightReport[]>([]);
  useEffect(() => {
    const found: WeightReport[] = [];
    const source = new EventSource(jobPath(job, `/events?steps_after=${Number.MAX_SAFE_INTEGER}`));
    source.onmessage = (message) => {
      const event = JSON.parse(message.data) as Event;
      if (event.weights) found.push(event.weights);
    };
    source.addEventListener("end", () => (source.close(), setReports(found)));
    source.onerror = () => source.close();
    return () => source.close();
  }, [job]);
  if (reports.length === 0) return null;
  return (
    <section>
      <div class="controls"><h2>Weights</h2></div>
      <Weights reports={reports} />
    </section>
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
        ["Contract", field("contract")], ["Seed", <code>{String(receipt.seed ?? 0)}</code>], ["Shards", field("shards")], ["Steps", field("steps")],
        ["Build", field("build")], ["State hash", field("state_hash")], ["Training data", field("train_digest")],
        ["Validation data", field("validation_digest")], ["Fingerprint", field("fingerprint")],
      ]} />
      <pre tabIndex={0} aria-label="Receipt">{text}</pre>
    </section>
  );
}
