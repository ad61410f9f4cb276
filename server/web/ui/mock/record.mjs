// Makes recording.json from a directory with what `lockstep --json` printed: jobs.ndjson, models.ndjson,
// and ev.ID (watch) for each job. Figures are rounded to five digits to keep it small.
import { existsSync, readFileSync, writeFileSync } from "node:fs";

const directory = process.argv[2] ?? ".";
const round = (_, x) => (typeof x === "number" && !Number.isInteger(x) ? Number(x.toPrecision(5)) : x);
const lines = (name) =>
  readFileSync(`${directory}/${name}`, "utf8").trim().split("\n").map((line) => JSON.parse(line, round));

const jobs = lines("jobs.ndjson").filter((job) => existsSync(`${directory}/ev.${job.id}`));
const events = Object.fromEntries(jobs.map((job) => [job.id, lines(`ev.${job.id}`)]));
const out = new URL("recording.json", import.meta.url);
writeFileSync(out, JSON.stringify({ jobs, models: lines("models.ndjson"), events }));
