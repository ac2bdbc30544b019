// Draws each chart from the table behind it, so that both always agree.
(() => {
  "use strict";
  const drawn = new Map();
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const value = (cell) => cell.dataset.v === "" ? null : Number(cell.dataset.v);
  const percent = (share) => share === null || share === undefined ? "–" : `${(100 * share).toFixed(1)} %`;

  function read(figure) {
    const head = [...figure.querySelectorAll("details thead th")];
    const rows = [...figure.querySelectorAll("details tbody tr")];
    const times = rows.map((row) => Number(row.dataset.x));
    const column = (role) => {
      const at = head.findIndex((one) => one.dataset.role === role);
      return at < 0 ? null : { label: head[at].textContent, values: rows.map((row) => value(row.children[at])) };
    };
    return { times, column, labels: rows.map((row) => row.dataset.label || "") };
  }

  // Rows stand at equal distances; a time between two rows lies between them.
  function position(times, time) {
    const after = times.findIndex((one) => one >= time);
    if (after < 0) return times.length - 0.5;
    if (after === 0) return -0.2;
    return after - (times[after] - time) / (times[after] - times[after - 1] || 1);
  }

  function drawExtras(plot, dots, low, high, markers) {
    const { ctx } = plot;
    const ratio = devicePixelRatio || 1;
    ctx.save();
    ctx.lineWidth = ratio;
    ctx.textAlign = "left";
    for (const mark of markers) {
      if (mark.x < plot.scales.x.min || mark.x > plot.scales.x.max) continue;
      const x = Math.round(plot.valToPos(mark.x, "x", true));
      ctx.setLineDash([4 * ratio, 4 * ratio]);
      ctx.strokeStyle = color("--muted");
      ctx.beginPath(); ctx.moveTo(x, plot.bbox.top); ctx.lineTo(x, plot.bbox.top + plot.bbox.height); ctx.stroke();
      ctx.setLineDash([]);
      ctx.fillStyle = color("--muted");
      ctx.font = `${11 * ratio}px system-ui, sans-serif`;
      const width = ctx.measureText(mark.label).width;
      const isNearEnd = x + width + 6 * ratio > plot.bbox.left + plot.bbox.width;
      ctx.fillText(mark.label, isNearEnd ? x - width - 4 * ratio : x + 4 * ratio, plot.bbox.top + 12 * ratio);
    }
    if (dots && low && high) {
      ctx.strokeStyle = color("--series-2");
      dots.values.forEach((one, at) => {
        if (one === null || low.values[at] === null) return;
        const x = plot.valToPos(plot.data[0][at], "x", true);
        ctx.beginPath();
        ctx.moveTo(x, plot.valToPos(low.values[at], "y", true));
        ctx.lineTo(x, plot.valToPos(high.values[at], "y", true));
        ctx.stroke();
      });
    }
    ctx.restore();
  }

  function draw(figure) {
    const target = figure.querySelector(".plot");
    const { times, column, labels } = read(figure);
    const xs = times.map((_, at) => at);
    const line = column("line"), low = column("low"), high = column("high");
    const dots = column("dots"), dotsLow = column("dots-low"), dotsHigh = column("dots-high");
    const markers = JSON.parse(figure.dataset.markers || "[]")
      .map((one) => ({ ...one, x: position(times, one.x) }));
    const isNarrow = target.clientWidth < 480;
    const isShare = figure.dataset.unit === "share";
    const shown = isShare ? percent : (one) => one === null || one === undefined ? "–" : one.toLocaleString("en");
    const series = [{ label: "Time", value: (_, x) => x === null || x === undefined ? "–" : labels[x] }];
    const data = [xs];
    const add = (one, options) => { if (one) { data.push(one.values); series.push({ label: one.label, value: (_, v) => shown(v), spanGaps: true, ...options }); } };
    add(high, { class: "bound", stroke: "transparent", points: { show: false } });
    add(low, { class: "bound", stroke: "transparent", points: { show: false } });
    add(line, { stroke: color("--series-1"), width: 2, points: { show: xs.length < 30, size: 6, fill: color("--series-1") } });
    add(dots, { stroke: color("--series-2"), paths: () => null, points: { show: true, size: 7, fill: color("--surface"), stroke: color("--series-2"), width: 2 } });
    const known = data.slice(1).concat(dotsLow ? [dotsLow.values, dotsHigh.values] : []).flat().filter((one) => one !== null);
    const floor = isShare ? Math.max(0, Math.floor(10 * Math.min(...known, 1)) / 10) : 0;
    const axis = { stroke: color("--muted"), grid: { stroke: color("--line"), width: 1 }, ticks: { stroke: color("--line"), width: 1 }, font: "12px system-ui, sans-serif" };
    const plot = new uPlot({
      width: Math.max(200, target.clientWidth), height: isNarrow ? 220 : 280,
      cursor: { points: { show: false }, drag: { x: false, y: false } },
      legend: { live: !isNarrow },
      scales: {
        x: { time: false, range: [-0.4, Math.max(1, xs.length - 1) + 0.4] },
        y: isShare ? { range: [floor, 1] } : { range: (_, min, max) => [0, max * 1.1 || 1] },
      },
      axes: [
        { ...axis, space: 92, incrs: [1, 2, 5, 10, 20, 50], values: (_, at) => at.map((one) => labels[one] || "") },
        { ...axis, size: 56, values: (_, at) => at.map((one) => isShare ? `${Math.round(100 * one)} %` : one.toLocaleString("en")) },
      ],
      bands: low && high ? [{ series: [1, 2], fill: color("--band") }] : [],
      series,
      hooks: { draw: [(one) => drawExtras(one, dots, dotsLow, dotsHigh, markers)] },
    }, data, target);
    drawn.set(target, plot);
  }

  function drawAll() {
    for (const [target, plot] of drawn) { plot.destroy(); drawn.delete(target); target.replaceChildren(); }
    document.querySelectorAll("figure.chart").forEach(draw);
  }

  let width = innerWidth;
  addEventListener("resize", () => { if (innerWidth !== width) { width = innerWidth; drawAll(); } });
  document.addEventListener("theme-changed", drawAll);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
  document.addEventListener("htmx:after:swap", drawAll);
  drawAll();
})();
