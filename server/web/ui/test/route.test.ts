import assert from "node:assert/strict";
import test from "node:test";
import { link, parse } from "../src/route";

test("an address says which page and what is chosen there, whatever is in a name", () => {
  const odd = "a/b?c#d<img>";
  const { path, query } = parse(link(["jobs", odd], { tab: "log", log: "loss,val loss" }));
  assert.deepEqual(path, ["jobs", odd]);
  assert.equal(query.get("tab"), "log");
  assert.equal(query.get("log"), "loss,val loss");
  assert.deepEqual(parse("").path, []);
});
