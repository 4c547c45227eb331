// Draws the charts, and filters charts and tables by task and algorithm. Without it the page still has every table.
"use strict";
const form = document.querySelector(".filter");
const [task, algorithm, told] = ["task", "algorithm", "told"].map((id) => document.getElementById(id));
const views = [];
const options = { mode: "vega-lite", renderer: "svg", actions: { export: true, source: false, compiled: false, editor: false } };

function fits(element) {
  const { task: itsTask, algorithm: itsAlgorithm, algorithms } = element.dataset;
  const names = algorithms ? JSON.parse(algorithms) : [itsAlgorithm];
  return (task.value === "all" || !itsTask || itsTask === task.value) &&
    (algorithm.value === "all" || !names[0] || names.includes(algorithm.value));
}

function filter() {
  document.querySelectorAll("[data-task]").forEach((element) => element.toggleAttribute("data-hidden", !fits(element)));
  for (const [figure, view] of views) {
    if (fits(figure)) view.signal("algorithm", algorithm.value).runAsync();
  }
  dispatchEvent(new Event("resize")); // a chart that was hidden may have missed that the window changed
  const left = document.querySelectorAll("tbody tr:not([data-hidden])").length;
  told.textContent = `${left} rows shown`;
}

async function draw(place) {
  const figure = place.closest("figure");
  const { view } = await vegaEmbed(place, JSON.parse(figure.querySelector("script").textContent), options);
  const title = figure.querySelector("figcaption").textContent;
  place.querySelector("summary").setAttribute("aria-label", `Save the picture: ${title}`);
  views.push([figure, view]);
}

// on paper a closed table is lost; one of hundreds of rows is not worth its pages
function openTables() {
  document.querySelectorAll("details").forEach((details) => { details.open ||= details.querySelectorAll("tr").length < 200; });
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
