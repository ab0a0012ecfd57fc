// The page of the API: Swagger UI on the site's own OpenAPI document.
const place = document.getElementById("api-docs");
const root = document.documentElement;
const prefersDark = matchMedia("(prefers-color-scheme: dark)");

// Swagger UI has a dark look of its own, which a class switches.
function followTheme() {
  const { theme } = root.dataset;
  root.classList.toggle("dark-mode", theme ? theme === "dark" : prefersDark.matches);
}

followTheme();
root.addEventListener("themechange", followTheme);
prefersDark.addEventListener("change", followTheme);

SwaggerUIBundle({
  domNode: place,
  url: place.dataset.document,
  presets: [SwaggerUIBundle.presets.apis],
  layout: "BaseLayout",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: 0,
  // It would ask an address outside the site.
  validatorUrl: null,
});
