import { defineConfig } from "astro/config";

// Code in the colours of the page's own theme, light or dark.
export default defineConfig({
  markdown: { shikiConfig: { theme: "css-variables" } },
});
