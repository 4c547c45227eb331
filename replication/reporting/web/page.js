// Draws the charts, and filters charts and tables by task and algorithm. Without it the page still has every table.
"use strict";
const form = document.querySelector(".filter");
const [task, algorithm, told] = ["task", "algorithm", "told"].map((id) => document.getElementById(id));
const views = [];
const options = { mode: "vega-lite", renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } };

function fits(element) {
  const { task: itsTask, algorithm: itsAlgorithm } = element.dataset;
  return (task.value === "all" || !itsTask || itsTask === task.value) &&
    (algorithm.value === "all" || !itsAlgorithm || itsAlgorithm === algorithm.value);
}

function filter() {
  document.querySelectorAll("[data-task]").forEach((element) => element.toggleAttribute("data-hidden", !fits(element)));
  views.forEach((view) => view.signal("algorithm", algorithm.value).resize().runAsync());
  const left = document.querySelectorAll("tbody tr:not([data-hidden])").length;
  told.textContent = `${left} rows shown`;
}

async function draw(place) {
  const spec = JSON.parse(place.closest("figure").querySelector("script").textContent);
  const { view } = await vegaEmbed(place, spec, options);
  views.push(view);
}

function openTables() {
  document.querySelectorAll("details").forEach((details) => { details.open = true; });
}

// a link to the numbers of a chart opens their table
function openTarget() {
  const target = location.hash && document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (target instanceof HTMLDetailsElement) target.open = true;
}

form.hidden = false;
form.addEventListener("change", filter);
form.addEventListener("submit", (event) => event.preventDefault());
form.addEventListener("reset", () => setTimeout(filter));
addEventListener("hashchange", openTarget);
addEventListener("beforeprint", openTables);
openTarget();
Promise.all([...document.querySelectorAll(".chart")].map(draw)).then(() => {
  filter();
  document.documentElement.dataset.drawn = views.length;
});
