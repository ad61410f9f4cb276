// The frame around the pages: navigation, whether the server answers, the theme, the token.
import { render } from "preact";
import { useEffect, useState } from "preact/hooks";
import { logIn, watchConnection, type Connection } from "./api";
import * as format from "./format";
import { JobPage } from "./pages/job";
import { Compare, Jobs } from "./pages/jobs";
import { ModelPage } from "./pages/model";
import { Models } from "./pages/models";
import { Workers } from "./pages/workers";
import { useRoute } from "./route";
import "./style.css";
import { applyTheme, theme, type Theme } from "./theme";

const pages = [["jobs", "Jobs"], ["models", "Models"], ["workers", "Workers"]] as const;

function Page({ path: [first = "jobs", second] }: { path: string[] }) {
  switch (first) {
    case "jobs": return second ? <JobPage key={second} id={second} /> : <Jobs />;
    case "compare": return <Compare />;
    case "models": return second ? <ModelPage key={second} name={second} /> : <Models />;
    case "workers": return <Workers />;
    default: return <main><p class="empty">There is no such page. <a href="#/jobs">Jobs</a></p></main>;
  }
}

// A second's clock, so that "for 12 s" counts.
function useNow(on: boolean): number {
  const [now, setNow] = useState(Date.now());
  useEffect(() => {
    if (!on) return;
    setNow(Date.now());
    const timer = setInterval(() => setNow(Date.now()), 1000);
    return () => clearInterval(timer);
  }, [on]);
  return now;
}

function Status({ connection: { lostSince, backSince } }: { connection: Connection }) {
  const now = useNow(lostSince !== null || backSince !== null);
  if (lostSince !== null) {
    return <div class="banner lost">Lost the server <span aria-hidden="true">{format.duration(Math.max(0, Math.round((now - lostSince) / 1000)))} ago</span>; what is shown is from then. Trying again…</div>;
  }
  if (backSince !== null && now - backSince < 6000) return <div class="banner back">The server is back.</div>;
  return null;
}

function Token() {
  const [error, setError] = useState("");
  const submit = (event: SubmitEvent) => {
    event.preventDefault();
    const token = new FormData(event.currentTarget as HTMLFormElement).get("token") as string;
    logIn(token).catch((e: Error) => setError(e.message));
  };
  return (
    <main>
      <form class="login" onSubmit={submit}>
        <h1>This server asks for its token</h1>
        <input name="token" type="password" aria-label="Token" autocomplete="current-password" autofocus required />
        <button class="primary">Log in</button>
        {error && <p class="problem" role="alert">{error}</p>}
      </form>
    </main>
  );
}

function App() {
  const { path } = useRoute();
  const [connection, setConnection] = useState<Connection>({ lostSince: null, backSince: null, needsToken: false });
  const [chosen, setChosen] = useState(theme());
  useEffect(() => watchConnection(setConnection), []);
  useEffect(() => {
    document.title = path.length > 1 ? `${path.at(-1)} · Lockstep` : "Lockstep";
  }, [path.join("/")]);
  const current = path[0] === "compare" ? "jobs" : (path[0] ?? "jobs");
  return (
    <>
      <header class="top">
        <a class="brand" href="#/jobs"><img src="/favicon.svg" width="20" height="20" alt="" /> <span>Lockstep</span></a>
        <nav aria-label="Pages">
          {pages.map(([key, name]) => (
            <a key={key} href={`#/${key}`} aria-current={key === current ? "page" : undefined}>{name}</a>
          ))}
        </nav>
        <select aria-label="Colours" value={chosen}
                onChange={(e) => {
                  const next = e.currentTarget.value as Theme;
                  setChosen(next);
                  applyTheme(next);
                }}>
          <option value="system">System</option>
          <option value="light">Light</option>
          <option value="dark">Dark</option>
        </select>
      </header>
      <div role="status"><Status connection={connection} /></div>
      {connection.needsToken ? <Token /> : <Page path={path} />}
    </>
  );
}

applyTheme();
render(<App />, document.getElementById("app")!);
