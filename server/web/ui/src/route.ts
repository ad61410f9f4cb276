// The address: "#/jobs/ID?tab=log". All state that is worth keeping is in it.
import { useEffect, useState } from "preact/hooks";

export interface Route { path: string[]; query: URLSearchParams }

// Browsers take no more than some changes of the address a second: it follows the newest of them.
let pending = "";
let before = "";                           // the address that pending was made from
let timer = 0;

function flush() {
  if (pending && location.hash === before) history.replaceState(null, "", pending);
  forget();
}

function forget() {
  clearTimeout(timer);
  timer = 0;
  pending = "";
}

const decode = (part: string): string => {
  try {
    return decodeURIComponent(part);
  } catch {
    return part;
  }
};

export function parse(hash: string): Route {
  const [path = "", query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  return { path: path.split("/").filter(Boolean).map(decode), query: new URLSearchParams(query) };
}

const current = () => parse(pending || location.hash);

export function link(path: string[], query: Record<string, string> = {}): string {
  const search = new URLSearchParams(query).toString();
  return `#/${path.map(encodeURIComponent).join("/")}${search && `?${search}`}`;
}

// Sets parts of the query without a new entry in the history; an empty value removes its key.
export function setQuery(change: Record<string, string>) {
  const { path, query } = current();
  for (const [key, value] of Object.entries(change)) value ? query.set(key, value) : query.delete(key);
  before = location.hash;
  pending = link(path, Object.fromEntries(query));
  timer ||= window.setTimeout(flush, 100);
  dispatchEvent(new Event("query"));
}

export function useRoute(): Route {
  const [route, setRoute] = useState(current);
  useEffect(() => {
    const follow = () => setRoute(current());
    const leave = () => (forget(), follow());
    addEventListener("query", follow);
    addEventListener("hashchange", leave);
    addEventListener("pagehide", flush);
    return () => {
      removeEventListener("query", follow);
      removeEventListener("hashchange", leave);
      removeEventListener("pagehide", flush);
    };
  }, []);
  return route;
}
