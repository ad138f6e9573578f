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
  return [{ ...look, space: 80, values: clockTimes(words) }, { ...look, size: 60 }];
}

// times on the gateway's clock, which may be in another zone than the phone
const clockTimes = (words) => (_, ticks, __, ___, step) => ticks.map((tick) => {
  const options = step >= 86400 ? { day: "numeric", month: "short" }
    : { hourCycle: "h23", hour: "2-digit", minute: "2-digit", ...(step < 60 ? { second: "2-digit" } : {}) };
  return onClock(words, tick).toLocaleString(document.documentElement.lang, { ...options, timeZone: "UTC" });
});

// a moment whose parts in UTC are those of the gateway's clock, which summer time may have changed since
function onClock(words, time) {
  let [, offset] = words.offsets[0];
  for (const [since, then] of words.offsets) if (since <= time) offset = then;
  return new Date((time + offset) * 1000);
}

// the same for uPlot, which reads local parts: its ticks are at the gateway's full hours and midnights
const clockDate = (words) => (time) => {
  const at = onClock(words, time);
  return new Date(at.getUTCFullYear(), at.getUTCMonth(), at.getUTCDate(), at.getUTCHours(), at.getUTCMinutes(), at.getUTCSeconds(), at.getUTCMilliseconds());
};

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
    this.to = Math.min(Number(box.dataset.to) || now, now);
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
    const place = (one) => this.channels.indexOf(one.name); // those of an alarm come by their share
    data.channels.sort((one, other) => place(one) - place(other));
    const times = ["onset", "closed"].map((name) => Number(this.box.dataset[name])).filter(Boolean).map((x) => ({ x }));
    data.channels.forEach((channel, at) => {
      const limits = (channel.limits || []).map(([, level, y]) => ({ y, shade: color(level === "critical" ? "--high" : "--low") }));
      const title = channel.unit ? `${channel.title} (${channel.unit})` : channel.title;
      this.plot(title, ...this.signal(data, channel, window, at), [...times, ...limits]);
    });
    // with the threshold in sight, whatever the scores are
    this.plot(this.words.score, ...this.score(data, window), [...times, { y: 1, shade: color("--high") }], (_, __, high) => [0, 1.05 * Math.max(1.2, high ?? 0)]);
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
    const expected = window?.channels.find((one) => one.channel === channel.name)?.expected;
    const joined = expected ? uPlot.join([[data.times, ...columns], [window.times, expected]]) : [data.times, ...columns];
    if (expected) series.push({ label: this.words.expected, stroke: color("--text"), width: 2, dash: [4, 4], spanGaps: true });
    if (expected) series.slice(0, 3).forEach((one) => { one.spanGaps = true; });
    return [joined, series, [{ series: [2, 1], fill: stroke + "33" }]];
  }

  score(data, window) {
    const series = [{ label: this.words.score, stroke: color("--text"), width: 2 }];
    return [[data.times, data.score_max], series, []];
  }

  plot(title, columns, series, bands, lines, range) {
    const box = this.area.appendChild(element("div", undefined, { class: "plot" }));
    box.appendChild(element("h3", title));
    const options = {
      width: this.box.clientWidth, height: HEIGHT, axes: axes(this.words), bands, tzDate: clockDate(this.words),
      scales: { x: { min: this.from, max: this.to }, y: range ? { range } : {} }, legend: { show: series.length > 3, live: false },
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
    for (const name of [this.words.time, ...this.data.channels.map((one) => one.title), this.words.score]) head.appendChild(element("th", name, { scope: "col" }));
    const rows = table.appendChild(element("tbody")), step = Math.max(1, Math.ceil(this.data.times.length / 200));
    const shown = (value) => value === null ? "–" : value.toLocaleString(document.documentElement.lang, { maximumSignificantDigits: 4 });
    for (let at = 0; at < this.data.times.length; at += step) {
      const row = rows.appendChild(element("tr"));
      const time = onClock(this.words, this.data.times[at]);
      row.appendChild(element("th", time.toLocaleString(document.documentElement.lang, { timeZone: "UTC" }), { scope: "row" }));
      for (const one of this.data.channels) row.appendChild(element("td", shown(one.mean[at])));
      row.appendChild(element("td", shown(this.data.score_max[at])));
    }
  }
}

// the lines differ in their dashes, as colors alone cannot be told apart by all
const DASHES = { forecast: [], supposed: [6, 4], previous: [12, 4], last: [2, 4], season: [9, 3, 2, 3] };

class Foretold {
  constructor(box) {
    this.box = box;
    this.words = JSON.parse(box.dataset.words);
    this.told = box.appendChild(element("p", "", { role: "status" }));
    this.legend = box.appendChild(element("ul", undefined, { class: "legend" }));
    this.area = box.appendChild(element("div"));
    this.plots = [];
    this.asked = 0;
    this.data = this.rivals = null;
    addEventListener("resize", () => { for (const plot of this.plots) plot.setSize({ width: box.clientWidth, height: 160 }); });
  }

  // returns the document; an error leaves the chart as it is
  async show(plans = []) {
    const asked = ++this.asked;
    this.told.textContent = this.words.loading;
    try {
      const data = await load(`/streams/${this.box.dataset.stream}/forecast.json?${new URLSearchParams(plans.map((plan) => ["plan", plan]))}`);
      if (asked === this.asked) { this.data = data; this.draw(); }
      return data;
    } finally { if (asked === this.asked) this.told.textContent = this.words[this.data?.stands_in] || ""; }
  }

  async compare(area) {
    area.appendChild(element("p", this.words.loading, { role: "status" }));
    try {
      this.rivals = await load(`/streams/${this.box.dataset.stream}/rivals.json`);
      area.replaceChildren(...rivalsTable(this.rivals));
      if (this.data) this.draw();
    } catch (error) { area.replaceChildren(element("p", error.message)); }
  }

  draw() {
    for (const plot of this.plots) plot.destroy();
    this.area.replaceChildren();
    const wanted = this.box.dataset.channels?.split(",");
    this.plots = this.data.channels.map((channel, at) => !wanted || wanted.includes(channel.name) ? this.plot(channel, at) : null).filter(Boolean);
    this.explain();
  }

  plot(channel, at) {
    const stroke = SERIES[at % SERIES.length], supposed = this.data.hypothetical?.channels[at];
    const columns = [this.data.times], series = [{}], bands = [], rivals = this.rivals?.lines || [];
    for (const one of [...channel.intervals].reverse()) {
      columns.push(one.low, one.high);
      series.push({ stroke: stroke + "55", width: 1 }, { stroke: stroke + "55", width: 1 });
      bands.push({ series: [series.length - 1, series.length - 2], fill: stroke + "22" });
    }
    columns.push(channel.median);
    series.push({ stroke, width: 2 });
    if (supposed) { columns.push(supposed.median); series.push({ stroke: color("--text"), width: 2, dash: DASHES.supposed, spanGaps: true }); }
    for (const one of rivals) series.push({ stroke: color("--text"), width: 1, dash: DASHES[one.line], spanGaps: true });
    const others = rivals.map((one) => this.rivals.times.map((_, step) => one.values[channel.name]?.[step] ?? null));
    const joined = others.length ? uPlot.join([columns, [this.rivals.times, ...others]]) : columns;
    for (const one of series) one.spanGaps = others.length > 0;
    const lines = this.data.limits.filter((one) => one.channel === channel.name).map((one) => ({ y: one.value, shade: color("--high") }));
    const part = this.area.appendChild(element("div", undefined, { class: "plot" })), title = this.data.titles[channel.name];
    part.appendChild(element("h3", channel.unit ? `${title} (${channel.unit})` : title));
    const plot = new uPlot({ width: this.box.clientWidth, height: 160, axes: axes(this.words), tzDate: clockDate(this.words), series, bands, legend: { show: false }, plugins: [marks(lines)] }, joined, part);
    plot.root.querySelector("canvas").setAttribute("role", "img");
    plot.root.querySelector("canvas").setAttribute("aria-label", title);
    return plot;
  }

  explain() {
    const bands = (this.data.channels[0]?.intervals || []).map((one) => `${one.percent} %`).join(", ");
    const lines = [["forecast", bands ? `${this.words.median}, ${this.words.bands} ${bands}` : this.words.median]];
    if (this.data.hypothetical) lines.push(["supposed", this.words.supposed]);
    for (const one of this.rivals?.lines || []) lines.push([one.line, one.title]);
    this.legend.replaceChildren(...lines.map(([name, text]) => {
      const entry = element("li");
      entry.append(sample(DASHES[name], name === "forecast" || name === "supposed" ? 2 : 1), text);
      return entry;
    }));
  }
}

function sample(dash, width) {
  const picture = document.createElementNS("http://www.w3.org/2000/svg", "svg"), line = document.createElementNS(picture.namespaceURI, "path");
  for (const [key, value] of [["viewBox", "0 0 48 8"], ["width", "48"], ["height", "8"], ["aria-hidden", "true"]]) picture.setAttribute(key, value);
  for (const [key, value] of [["d", "M0 4H48"], ["stroke", "currentColor"], ["stroke-width", String(width)], ["stroke-dasharray", dash.join(" ")]]) line.setAttribute(key, value);
  picture.appendChild(line);
  return picture;
}

function rivalsTable(rivals) {
  const box = element("div", undefined, { class: "wide", role: "region", tabindex: "0", "aria-labelledby": "rivals-title" });
  const table = box.appendChild(element("table", undefined, { class: "rivals", "aria-describedby": "rivals-caption" }));
  const head = table.appendChild(element("thead")).appendChild(element("tr"));
  for (const text of rivals.head) head.appendChild(element("th", text, { scope: "col" }));
  for (const channel of rivals.channels) {
    const body = table.appendChild(element("tbody"));
    body.appendChild(element("tr")).appendChild(element("th", channel.title, { scope: "rowgroup", colspan: String(rivals.head.length) }));
    for (const [line, ...figures] of channel.rows) {
      const row = body.appendChild(element("tr"));
      row.appendChild(element("th", line, { scope: "row" }));
      for (const figure of figures) row.appendChild(element("td", figure));
    }
  }
  return [element("p", rivals.caption, { id: "rivals-caption" }), box, ...rivals.notes.map((note) => element("p", note))];
}

class WhatIf {
  constructor(form, foretold) {
    [this.form, this.foretold, this.words] = [form, foretold, foretold.words];
    this.template = form.querySelector("template");
    this.error = form.querySelector(".error");
    this.addButton = form.querySelector(".add");
    this.addButton.addEventListener("click", () => this.add().querySelector("select").focus());
    form.addEventListener("submit", (event) => { event.preventDefault(); this.submit(); });
    form.hidden = true;
  }

  // the channels and commands as the bundle has them; those that cannot be set say so
  offer(data) {
    this.channels = [...data.channels, ...data.commands].map(({ name, unit }) => ({ name, title: unit ? `${data.titles[name]} (${unit})` : data.titles[name], able: data.plannable.includes(name) }));
    const able = data.plannable.length;
    this.form.querySelector(".hint").textContent = !able ? this.words.none_plannable : able < this.channels.length ? this.words.why_not : "";
    this.form.hidden = false;
    this.form.querySelectorAll("button").forEach((button) => { button.disabled = !able; });
    this.add();
  }

  add() {
    const row = this.template.content.firstElementChild.cloneNode(true), select = row.querySelector("select");
    const taken = this.rows().map((one) => one.querySelector("select").value);
    for (const { name, title, able } of this.channels) {
      const option = select.appendChild(element("option", able ? title : `${title}: ${this.words.unplannable}`, { value: name }));
      option.disabled = !able;
    }
    select.value = (this.channels.find((one) => one.able && !taken.includes(one.name)) || this.channels.find((one) => one.able) || this.channels[0]).name;
    if (!this.channels.some((one) => one.able)) row.querySelectorAll("select, input, button").forEach((one) => { one.disabled = true; });
    row.querySelector(".remove").addEventListener("click", () => this.remove(row));
    this.template.before(row);
    this.count();
    return row;
  }

  remove(row) {
    row.remove();
    this.count();
    this.addButton.focus();
  }

  count() { // as many rows as channels that can be set, and at least one
    const rows = this.rows(), able = this.channels.filter((one) => one.able).length;
    this.addButton.hidden = rows.length >= able;
    for (const row of rows) row.querySelector(".remove").hidden = rows.length < 2;
  }

  rows() { return [...this.form.querySelectorAll(".plan")]; }

  wrong(text, field) {
    this.error.textContent = text;
    this.error.hidden = !text;
    this.form.querySelectorAll("[aria-invalid]").forEach((one) => { one.removeAttribute("aria-invalid"); one.removeAttribute("aria-describedby"); });
    if (!field) return;
    field.setAttribute("aria-invalid", "true");
    field.setAttribute("aria-describedby", this.error.id);
    field.focus();
  }

  async submit() {
    const plans = new Map();
    for (const row of this.rows()) {
      const select = row.querySelector("select"), input = row.querySelector("input"), text = input.value.trim().replace(",", ".");
      if (!text) continue;
      if (!Number.isFinite(Number(text))) return this.wrong(this.words.not_number, input);
      if (plans.has(select.value)) return this.wrong(this.words.twice, select);
      plans.set(select.value, text);
    }
    this.wrong("");
    try { await this.foretold.show([...plans].map(([name, value]) => `${name}=${value}`)); }
    catch (error) { this.wrong(error.message); }
  }
}

class LastTime { // the curves of two alarms, in seconds since the onset of each
  constructor(box) {
    this.box = box;
    this.words = JSON.parse(box.dataset.words);
    this.told = box.appendChild(element("p", "", { role: "status" }));
    this.area = box.appendChild(element("div", undefined, { class: "plots" }));
    this.plots = [];
    addEventListener("resize", () => { for (const plot of this.plots) plot.setSize({ width: box.clientWidth, height: HEIGHT }); });
  }

  async show() {
    this.told.textContent = this.words.loading;
    try {
      const [now, then] = await Promise.all([this.past("onset"), this.past("then")]);
      this.told.textContent = then.times.length ? "" : this.words.none;
      for (const channel of then.times.length ? now.channels : []) this.plot(channel, now, then);
    } catch (error) { this.told.textContent = error.message; }
  }

  async past(which) {
    const { stream, before, after, channels } = this.box.dataset, onset = Number(this.box.dataset[which]);
    const query = new URLSearchParams({ from: (onset - before).toFixed(3), to: (onset + Number(after)).toFixed(3), points: 300 });
    for (const name of channels.split(",")) query.append("channel", name);
    const data = await load(`/streams/${stream}/history.json?${query}`);
    return { ...data, times: data.times.map((time) => Math.round(10 * (time - onset)) / 10) };
  }

  plot(channel, now, then) {
    const other = then.channels.find((one) => one.name === channel.name);
    if (!other) return;
    const title = channel.unit ? `${channel.title} (${channel.unit})` : channel.title;
    const box = this.area.appendChild(element("div", undefined, { class: "plot" }));
    box.appendChild(element("h3", title));
    const [across, up] = axes(this.words);
    const minutes = (_, ticks) => ticks.map((tick) => `${tick < 0 ? "−" : ""}${Math.abs(Math.round(tick / 6) / 10).toLocaleString(document.documentElement.lang)} min`);
    const plot = new uPlot({
      width: this.box.clientWidth, height: HEIGHT, axes: [{ ...across, values: minutes, incrs: [30, 60, 120, 300, 600, 900, 1800, 3600] }, up],
      scales: { x: { time: false } }, legend: { show: true, live: false }, cursor: { drag: { setScale: false } },
      series: [{ label: this.words.time }, { label: this.words.this, stroke: SERIES[0], width: 2, spanGaps: true },
        { label: this.words.then, stroke: color("--text"), width: 2, dash: [6, 4], spanGaps: true }],
      plugins: [marks([{ x: 0 }])],
    }, uPlot.join([[now.times, channel.mean], [then.times, other.mean]]), box);
    plot.root.querySelector("canvas").setAttribute("role", "img");
    plot.root.querySelector("canvas").setAttribute("aria-label", `${title}: ${this.words.this}, ${this.words.then}`);
    this.plots.push(plot);
  }
}

async function forecastOf(box) {
  const foretold = new Foretold(box), form = document.getElementById("what-if");
  const whatIf = form && new WhatIf(form, foretold);
  try { const data = await foretold.show(); whatIf?.offer(data); }
  catch (error) { foretold.told.textContent = error.message; }
  if (form) foretold.compare(document.getElementById("rivals"));
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
for (const box of document.querySelectorAll(".last-time")) new LastTime(box).show();
