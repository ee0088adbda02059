"use strict";

SwaggerUIBundle({
  // Whole, since a page that was opened as http://name:key@host may not fetch what is relative to that.
  url: location.origin + location.pathname.replace(/docs$/, "openapi.json"),
  dom_id: "#manual",
  deepLinking: true,
  tryItOutEnabled: true,
  displayRequestDuration: true,
  defaultModelsExpandDepth: 0,
  validatorUrl: null,
});
