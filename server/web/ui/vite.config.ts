import { defineConfig } from "vite";

export default defineConfig({
  // No data: addresses: the server's Content-Security-Policy allows what it serves itself, nothing else.
  build: { assetsInlineLimit: 0, target: "es2022", cssTarget: "chrome123", modulePreload: false },
  esbuild: { jsx: "automatic", jsxImportSource: "preact" },
  server: { proxy: { "/api": "http://127.0.0.1:8002", "/healthz": "http://127.0.0.1:8002" } },
});
