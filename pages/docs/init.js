"use strict";

// Swagger UI's stylesheet is dark under this class only; its own switch is in a part that is not served.
const dark = window.matchMedia("(prefers-color-scheme: dark)");
const paint = () => document.documentElement.classList.toggle("dark-mode", dark.matches);
dark.addEventListener("change", paint);
paint();

window.SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#docs",
  deepLinking: true,
  tryItOutEnabled: true,
  // The default theme's numbers have too little contrast.
  syntaxHighlight: { theme: "tomorrow-night" },
  // A token stays in this page's memory, and ends with it.
  persistAuthorization: false,
  // The badge asks another host.
  validatorUrl: null,
});
