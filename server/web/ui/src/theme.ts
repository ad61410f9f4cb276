// Light, dark, or what the system says; and the palette as canvas needs it: resolved colours.

export type Theme = "system" | "light" | "dark";

const dark = matchMedia("(prefers-color-scheme: dark)");

export const theme = (): Theme => (localStorage.getItem("theme") as Theme | null) ?? "system";
export const isDark = (): boolean => (theme() === "system" ? dark.matches : theme() === "dark");

export function applyTheme(next: Theme = theme()) {
  localStorage.setItem("theme", next);
  document.documentElement.dataset.theme = next;
  dispatchEvent(new Event("themechange"));
}
dark.addEventListener("change", () => dispatchEvent(new Event("themechange")));

// Okabe and Ito's colours (two of them darker on light ground), in the order that tells them apart best on each ground.
const onLight = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#b57f00", "#3a92cc", "#555555"];
const onDark = ["#56b4e9", "#e69f00", "#009e73", "#cc79a7", "#f0e442", "#d55e00", "#b0b4ba"];

// Beyond the seventh the colours come again, dashed.
export function lineStyle(index: number): { color: string; dash?: number[] } {
  const palette = isDark() ? onDark : onLight;
  const turn = Math.floor(index / palette.length);
  const color = palette[index % palette.length]!;
  return turn === 0 ? { color } : { color, dash: turn === 1 ? [8, 4] : [2, 3] };
}

export const withAlpha = (color: string, alpha: number): string =>
  color + Math.round(alpha * 255).toString(16).padStart(2, "0");

export const ink = () => (isDark() ? "#9aa3ad" : "#5c6670");
export const grid = () => (isDark() ? "#262c33" : "#e9ebee");
