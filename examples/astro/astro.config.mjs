import { defineConfig } from "astro/config";

// Highlights code in the colours of the page's theme, light or dark.
export default defineConfig({
  markdown: { shikiConfig: { theme: "css-variables" } },
});
