// Draws signals, scores and forecasts with uPlot, from the numbers of the chart worker.
"use strict";
const style = getComputedStyle(document.documentElement);
const color = (name) => style.getPropertyValue(name).trim();
const HEIGHT = 180, PRINTED = { width: 320, height: 110 }; // of a plot, in pixels
const ZOOM = 2, POINTS_MIN = 100, SERIES = ["#1f6fb2", "#b5651d", "#5b8a3c", "#7d4fa0"];

async function load(url) {
  let answer;
  try { answer = await fetch(url, { headers: { Accept: "application/json" } }); }
  catch { throw new Error(body.dataset.lost); }
  const data = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Error(data.error || String(answer.status));
  return data;
}

function element(name, text, attributes = {}) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  return made;
}

const marks = (lines) => ({ hooks: { draw: [(plot) => {
  const at = plot.ctx;
  at.save();
  at.lineWidth = 2 * devicePixelRatio;
  at.setLineDash([6 * devicePixelRatio, 4 * devicePixelRatio]);
  for (const { x, y, shade } of lines) {
    at.strokeStyle = shade || color("--text");
    at.beginPath();
    if (x !== undefined) {
      const left = plot.valToPos(x, "x", true);
      if (left < plot.bbox.left || left > plot.bbox.left + plot.bbox.width) continue;
      at.moveTo(left, plot.bbox.top);
      at.lineTo(left, plot.bbox.top + plot.bbox.height);
    } else {
      const top = plot.valToPos(y, "y", true);
      if (top < plot.bbox.top || top > plot.bbox.top + plot.bbox.height) continue;
      at.moveTo(plot.bbox.left, top);
      at.lineTo(plot.bbox.left + plot.bbox.width, top);
    }
    at.stroke();
  }
  at.restore();
}] } });

function axes(words) {
  const look = { stroke: color("--text"), grid: { stroke: color("--line") + "55" }, ticks: { stroke: color("--line") } };
  return [{ ...look, values: clockTimes(words) }, { ...look, size: 60 }];
}

// times on the gateway's clock, which may be in another zone than the phone
const clockTimes = (words) => (_, ticks, __, ___, step) => ticks.map((tick) => {
  const options = step >= 86400 ? { day: "numeric", month: "short" }
    : { hour12: false, hour: "2-digit", minute: "2-digit", ...(step < 60 ? { second: "2-digit" } : {}) };
  return new Date((tick + words.offset_s) * 1000).toLocaleString(document.documentElement.lang, { ...options, timeZone: "UTC" });
});

class Charts {
  constructor(box) {
    this.box = box;
    this.words = JSON.parse(box.dataset.words);
    this.words.ahead_s = Date.now() / 1000 - this.words.now_s; // of the gateway's clock
    this.channels = box.dataset.channels.split(",").filter(Boolean);
    this.plots = [];
    this.tools = this.box.appendChild(element("div", undefined, { class: "tools", role: "group", "aria-label": this.words.view }));
    for (const [name, step] of [["earlier", [-0.5, -0.5]], ["later", [0.5, 0.5]], ["closer", [0.25, -0.25]], ["wider", [-0.5, 0.5]]]) {
      const button = this.tools.appendChild(element("button", this.words[name], { type: "button" }));
      button.addEventListener("click", () => this.move(...step));
    }
    this.told = this.box.appendChild(element("p", "", { role: "status" }));
    this.area = this.box.appendChild(element("div", undefined, { class: "plots" }));
    this.table = this.box.appendChild(element("details"));
    this.table.appendChild(element("summary", this.words.table));
    this.table.addEventListener("toggle", () => this.fillTable());
    const now = Date.now() / 1000 - this.words.ahead_s;
    this.to = Number(box.dataset.to) || now;
    this.from = Number(box.dataset.from) || now - Number(box.dataset.span);
    this.asked = 0;
    addEventListener("resize", () => this.resize());
    addEventListener("beforeprint", () => this.resize(PRINTED.width, PRINTED.height));
    addEventListener("afterprint", () => this.resize());
  }

  move(begin, end) {
    const span = this.to - this.from;
    this.show(this.from + begin * span, this.to + end * span);
  }

  async show(from = this.from, to = this.to) {
    if (to - from < 1) return;
    [this.from, this.to] = [from, to];
    const asked = ++this.asked;
    this.told.textContent = this.words.loading;
    const points = Math.max(POINTS_MIN, Math.round(this.box.clientWidth));
    const query = new URLSearchParams({ from: from.toFixed(3), to: to.toFixed(3), points });
    for (const name of this.channels) query.append("channel", name);
    try {
      const [data, window] = await Promise.all([load(`/streams/${this.box.dataset.stream}/history.json?${query}`), this.window()]);
      if (asked !== this.asked) return; // a newer request is under way
      this.told.textContent = data.times.length ? "" : this.words.none;
      this.draw(data, window);
    } catch (error) {
      if (asked === this.asked) this.told.textContent = error.message;
    }
  }

  async window() {
    if (!this.box.dataset.number || this.loaded !== undefined) return this.loaded || null;
    this.loaded = await load(`/alarms/${this.box.dataset.stream}/${this.box.dataset.number}/window.json`).catch(() => null);
    return this.loaded;
  }

  draw(data, window) {
    for (const plot of this.plots) plot.destroy();
    this.plots = [];
    this.area.replaceChildren();
    this.data = data;
    const times = ["onset", "closed"].map((name) => Number(this.box.dataset[name])).filter(Boolean).map((x) => ({ x }));
    data.channels.forEach((channel, at) => {
      const limits = (channel.limits || []).map(([, level, y]) => ({ y, shade: color(level === "critical" ? "--high" : "--low") }));
      const title = channel.unit ? `${channel.title || channel.name} (${channel.unit})` : channel.title || channel.name;
      this.plot(title, ...this.signal(data, channel, window, at), [...times, ...limits]);
    });
    this.plot(this.words.score, ...this.score(data, window), [...times, { y: 1, shade: color("--high") }]);
    if (this.table.open) this.fillTable();
  }

  signal(data, channel, window, at) {
    const stroke = SERIES[at % SERIES.length];
    const columns = [channel.min, channel.max, channel.mean];
    const series = [
      { label: this.words.low, stroke: stroke + "66", width: 1 },
      { label: this.words.high, stroke: stroke + "66", width: 1 },
      { label: this.words.mean, stroke, width: 2 },
    ];
    const expected = window?.channels?.[channel.name]?.expected;
    const joined = expected ? uPlot.join([[data.times, ...columns], [window.times, expected]]) : [data.times, ...columns];
    if (expected) series.push({ label: this.words.expected, stroke: color("--text"), width: 2, dash: [4, 4], spanGaps: true });
    if (expected) series.slice(0, 3).forEach((one) => { one.spanGaps = true; });
    return [joined, series, [{ series: [2, 1], fill: stroke + "33" }]];
  }

  score(data, window) {
    const series = [{ label: this.words.score, stroke: color("--text"), width: 2 }];
    return [[data.times, data.score_max], series, []];
  }

  plot(title, columns, series, bands, lines) {
    const box = this.area.appendChild(element("div", undefined, { class: "plot" }));
    box.appendChild(element("h3", title));
    const options = {
      width: this.box.clientWidth, height: HEIGHT, axes: axes(this.words), bands,
      scales: { x: { min: this.from, max: this.to } }, legend: { show: series.length > 3, live: false },
      cursor: { sync: { key: "charts" }, drag: { setScale: false } },
      series: [{ label: this.words.time }, ...series], plugins: [marks(lines)],
      hooks: { setSelect: [(plot) => this.zoom(plot)] },
    };
    const plot = new uPlot(options, columns, box);
    plot.root.querySelector("canvas").setAttribute("role", "img");
    plot.root.querySelector("canvas").setAttribute("aria-label", title);
    this.pinch(plot);
    this.plots.push(plot);
  }

  zoom(plot) {
    if (plot.select.width < 10) return;
    const from = plot.posToVal(plot.select.left, "x"), to = plot.posToVal(plot.select.left + plot.select.width, "x");
    this.show(from, to);
  }

  pinch(plot) { // two fingers: farther apart is closer
    let began = null;
    const apart = (event) => Math.abs(event.touches[0].clientX - event.touches[1].clientX) || 1;
    plot.over.addEventListener("touchstart", (event) => { began = event.touches.length === 2 ? apart(event) : null; }, { passive: true });
    let share = 1;
    plot.over.addEventListener("touchmove", (event) => { if (began && event.touches.length === 2) share = began / apart(event); }, { passive: true });
    plot.over.addEventListener("touchend", () => {
      if (!began || share === 1) return;
      const middle = (this.from + this.to) / 2, half = (this.to - this.from) / 2 * Math.min(ZOOM * 2, Math.max(1 / (ZOOM * 2), share));
      [began, share] = [null, 1];
      this.show(middle - half, middle + half);
    });
  }

  resize(width = this.box.clientWidth, height = HEIGHT) {
    for (const plot of this.plots) plot.setSize({ width, height });
  }

  fillTable() {
    this.table.querySelector(".chart-table")?.remove();
    if (!this.table.open || !this.data) return;
    const box = this.table.appendChild(element("div", undefined, { class: "chart-table", tabindex: "0", role: "region", "aria-label": this.words.table }));
    const table = box.appendChild(element("table"));
    const head = table.appendChild(element("thead")).appendChild(element("tr"));
    for (const name of [this.words.time, ...this.data.channels.map((one) => one.name), this.words.score]) head.appendChild(element("th", name, { scope: "col" }));
    const rows = table.appendChild(element("tbody")), step = Math.max(1, Math.ceil(this.data.times.length / 200));
    const shown = (value) => value === null ? "–" : value.toLocaleString(document.documentElement.lang, { maximumSignificantDigits: 4 });
    for (let at = 0; at < this.data.times.length; at += step) {
      const row = rows.appendChild(element("tr"));
      const time = new Date((this.data.times[at] + this.words.offset_s) * 1000);
      row.appendChild(element("th", time.toLocaleString(document.documentElement.lang, { timeZone: "UTC" }), { scope: "row" }));
      for (const one of this.data.channels) row.appendChild(element("td", shown(one.mean[at])));
      row.appendChild(element("td", shown(this.data.score_max[at])));
    }
  }
}

function forecastOf(box) {
  const words = JSON.parse(box.dataset.words);
  const told = box.appendChild(element("p", "", { role: "status" })), area = box.appendChild(element("div"));
  let plots = [];
  const show = async (plan) => {
    told.textContent = words.loading;
    try {
      const data = await load(`/streams/${box.dataset.stream}/forecast.json?${new URLSearchParams(plan ? { plan } : {})}`);
      told.textContent = "";
      for (const plot of plots) plot.destroy();
      plots = [];
      area.replaceChildren();
      data.channels.forEach((channel, at) => {
        const supposed = data.hypothetical?.channels[at];
        const stroke = SERIES[at % SERIES.length], columns = [data.times], series = [{}], bands = [];
        for (const one of [...channel.intervals].reverse()) {
          columns.push(one.low, one.high);
          series.push({ label: `${one.percent} %`, stroke: stroke + "55", width: 1 }, { label: `${one.percent} %`, stroke: stroke + "55", width: 1 });
          bands.push({ series: [series.length - 1, series.length - 2], fill: stroke + "22" });
        }
        columns.push(channel.median);
        series.push({ label: words.median, stroke, width: 2 });
        if (supposed) { columns.push(supposed.median); series.push({ label: words.supposed, stroke: color("--text"), width: 2, dash: [6, 4] }); }
        const lines = data.limits.filter((one) => one.channel === channel.name).map((one) => ({ y: one.value, shade: color("--high") }));
        const part = area.appendChild(element("div", undefined, { class: "plot" }));
        part.appendChild(element("h3", channel.unit ? `${channel.name} (${channel.unit})` : channel.name));
        const plot = new uPlot({ width: box.clientWidth, height: 160, axes: axes(words), series, bands, legend: { show: false }, plugins: [marks(lines)] }, columns, part);
        plot.root.querySelector("canvas").setAttribute("role", "img");
        plot.root.querySelector("canvas").setAttribute("aria-label", channel.name);
        plots.push(plot);
      });
    } catch (error) { told.textContent = error.message; }
  };
  document.getElementById("what-if").addEventListener("submit", (event) => {
    event.preventDefault();
    const form = event.target;
    show(form.value.value.trim() ? `${form.channel.value}=${form.value.value.trim().replace(",", ".")}` : null);
  });
  show(null);
}

for (const box of document.querySelectorAll(".chart")) {
  const charts = new Charts(box);
  charts.show();
  for (const button of document.querySelectorAll("[data-span]:not(.chart)"))
    button.addEventListener("click", () => {
      for (const other of document.querySelectorAll("[data-span]:not(.chart)")) other.setAttribute("aria-pressed", String(other === button));
      const now = Date.now() / 1000 - charts.words.ahead_s;
      charts.show(now - Number(button.dataset.span), now);
    });
  for (const check of document.querySelectorAll("[data-channel]"))
    check.addEventListener("change", () => {
      charts.channels = [...document.querySelectorAll("[data-channel]:checked")].map((one) => one.dataset.channel);
      charts.show();
    });
}
for (const box of document.querySelectorAll(".forecast")) forecastOf(box);
