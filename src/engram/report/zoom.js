"use strict";
// Every chart is complete without this. It adds a button; pressing it unpacks Vega, which stands in the page as text,
// and draws the chart again from its specification, to be zoomed, moved and hovered. Nothing is fetched.
(() => {
  let ready;

  const unpack = async () => {
    const packed = Uint8Array.from(atob(document.getElementById("vega").textContent), (c) => c.charCodeAt(0));
    const plain = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
    const script = document.createElement("script"); // within the page, so it has run when it is appended
    script.textContent = await new Response(plain).text();
    document.head.append(script);
  };

  const interactive = (figure, width) => {
    const spec = JSON.parse(figure.querySelector(".spec").textContent);
    const views = spec.vconcat ?? [spec];
    const larger = width / figure.querySelector("svg").viewBox.baseVal.width;
    for (const view of views) {
      view.height *= larger;
      view.width *= larger;
      for (const layer of view.layer) if (layer.mark.type) layer.mark = { ...layer.mark, tooltip: true, clip: true };
    }
    views[0].layer[0].params = [{ name: "zoom", select: "interval", bind: "scales" }];
    return spec;
  };

  const start = async (figure, button) => {
    const chart = figure.querySelector(".chart");
    const drawn = chart.firstElementChild;
    if (figure.classList.contains("zooming")) {
      figure.view.finalize();
      chart.replaceChildren(figure.drawn);
      figure.classList.remove("zooming");
      button.textContent = "Zoom";
      return;
    }
    button.textContent = "…";
    ready ??= unpack();
    await ready;
    const place = document.createElement("div");
    const spec = interactive(figure, chart.clientWidth);
    figure.drawn = drawn;
    chart.replaceChildren(place);
    figure.classList.add("zooming");
    figure.view = await window.vegaEmbed(place, spec, { mode: "vega-lite", ast: true, actions: false, renderer: "svg" });
    button.textContent = "Back";
  };

  if (!window.DecompressionStream) return;
  for (const figure of document.querySelectorAll(".zoomable")) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Zoom";
    button.title = "Zoom with the wheel, move by dragging, double-click for the whole; hover for values";
    button.onclick = () => start(figure, button).catch((error) => {
      button.textContent = "Zoom";
      console.error(error);
    });
    figure.prepend(button);
  }
})();
