// Parts of pages that keep themselves up to date (templates/facts/every.html).

{
  const opened = new Set();

  document.addEventListener("htmx:beforeSwap", (event) => {
    const { xhr, target } = event.detail;
    if (new URL(xhr.responseURL, location).pathname.endsWith("/login/")) {
      // Logged out meanwhile: the answer is the login page, which belongs into the window.
      event.detail.shouldSwap = false;
      location.reload();
      return;
    }
    for (const details of target.querySelectorAll("details[id]")) {
      if (details.open) opened.add(details.id);
      else opened.delete(details.id);
    }
  });

  document.addEventListener("htmx:afterSettle", () => {
    for (const id of opened) document.getElementById(id)?.setAttribute("open", "");
    updateCharts();
  });

  // Without an answer the page shows what was: it says so until it is answered again.
  const stale = (event) => event.detail.target?.classList.add("stale");
  document.addEventListener("htmx:sendError", stale);
  document.addEventListener("htmx:responseError", stale);

  // A chart that was kept gets the numbers that came with the part around it.
  function updateCharts() {
    const given = document.getElementById("chart-data");
    if (!given) return;
    for (const [id, data] of Object.entries(JSON.parse(given.textContent))) {
      const chart = Chart.getChart(document.querySelector(`#${id} canvas`));
      if (!chart) continue;
      chart.data.labels = data.labels;
      data.datasets.forEach((dataset, index) => (chart.data.datasets[index].data = dataset.data));
      chart.update("none");
    }
  }
}
