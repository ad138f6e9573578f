// Keeps what is marked data-live up to date, says when it is not, and calls when an alarm is new.
// Without this script the page still works: it is then as old as its last load.
"use strict";
const CALM_MS = 2000; // rows do not move so soon after a touch or while somebody writes
const STALE_MS = 20000; // events come at least every 5 s
const CLOCK_S = 30;
const body = document.body;
const connection = document.getElementById("connection");
let touched = 0, row = Number(body.dataset.row), pending = false, heard = Date.now(), fresh = true;
let unacknowledged = null, audio = null, ahead = 0;

for (const kind of ["pointerdown", "touchmove", "keydown", "wheel"])
  addEventListener(kind, () => { touched = Date.now(); }, { passive: true });

const writing = () => document.querySelector("#actions details[open]");
const busy = () => Date.now() - touched < CALM_MS || writing()
  || document.activeElement?.matches("input, select, textarea");

function say(text) { if (connection.textContent !== text) connection.textContent = text; }

function setFresh(now) {
  if (fresh === now) return;
  fresh = now;
  for (const button of document.querySelectorAll("form[method=post] button")) button.disabled = !now;
}

async function refresh() {
  if (busy()) { if (!pending) { pending = true; setTimeout(() => { pending = false; refresh(); }, CALM_MS); } return; }
  let answer;
  try { answer = await fetch(location.href, { headers: { "X-Live": "1" } }); } catch { return; }
  if (answer.redirected && new URL(answer.url).pathname === "/login") { location.reload(); return; }
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  if (busy()) { refresh(); return; }
  for (const old of document.querySelectorAll("[data-live]")) {
    const now = page.getElementById(old.id);
    if (now && now.outerHTML !== old.outerHTML) replace(old, now);
  }
  const count = document.getElementById("count"), there = page.getElementById("count");
  if (Boolean(count) !== Boolean(there)) replaceNav(page);
  row = Number(page.body.dataset.row); // not before: a refresh that failed is tried again
  setFresh(true);
}

const FOCUSABLE = "a, button, summary, input, select, textarea";
const identity = (one) => one.id || one.getAttribute("href") || `${one.form?.getAttribute("action")} ${one.textContent.trim()}`;

function replace(old, now) {
  const focused = old.contains(document.activeElement) && identity(document.activeElement);
  const opened = [...old.querySelectorAll("details")].map((one) => one.open);
  const fresh = document.importNode(now, true);
  fresh.querySelectorAll("details").forEach((one, at) => { one.open = Boolean(opened[at]); });
  old.replaceWith(fresh);
  if (focused) [...fresh.querySelectorAll(FOCUSABLE)].find((one) => identity(one) === focused)?.focus();
}

function replaceNav(page) {
  const old = document.querySelector("header nav"), now = page.querySelector("header nav");
  if (old && now) replace(old, now);
}

// kind: "alarms" if they changed, "values" now and then; at: when it came, milliseconds
function heardOf(kind, news, at) {
  heard = at;
  const now = at / 1000 - news.now;
  if (Math.abs(now - ahead) > CLOCK_S / 2) ahead = Math.round(now); // else it is said again and again
  say(Math.abs(ahead) > CLOCK_S ? body.dataset.clock.replace("{seconds}", String(ahead)) : "");
  title(news.unacknowledged);
  if (unacknowledged !== null && news.unacknowledged > unacknowledged) call();
  unacknowledged = news.unacknowledged;
  if (kind === "alarms" || !fresh || news.row !== row) refresh();
  else if (!document.querySelector(".alarm-view, .chart")) refresh();
  if (writing()) setFresh(true); // nothing is refreshed then; the agent refuses an old revision
}

const plain = document.title;
function title(count) { document.title = count ? `(${count}) ${plain}` : plain; }

// sound: off until somebody turns it on, because browsers forbid it before a touch
const sound = document.getElementById("sound"), silence = document.getElementById("silence");
let quietUntil = 0, ringing = 0;
function beep() {
  if (!audio) return;
  for (const at of [0, 0.3, 0.6]) {
    const tone = audio.createOscillator(), loud = audio.createGain();
    tone.frequency.value = at === 0.3 ? 660 : 880;
    loud.gain.value = 0.2;
    tone.connect(loud).connect(audio.destination);
    tone.start(audio.currentTime + at);
    tone.stop(audio.currentTime + at + 0.2);
  }
}
const CALLING = ".alarm:not(.quiet) > a"; // the most urgent first
const hrefs = (links) => new Set([...links].map((one) => one.getAttribute("href")));
let known = hrefs(document.querySelectorAll(`.newest a, ${CALLING}`)); // the viewer has been told
async function call() {
  quietUntil = 0; // a new alarm ends the silence
  const answer = await fetch("/alarms", { headers: { "X-Live": "1" } }).catch(() => null);
  if (answer?.ok) {
    const page = new DOMParser().parseFromString(await answer.text(), "text/html"), calling = [...page.querySelectorAll(CALLING)];
    const fresh = calling.filter((one) => !known.has(one.getAttribute("href")));
    const told = (fresh.length ? fresh : calling.slice(0, 1)).map((one) => one.querySelector(".sentence").textContent.trim());
    if (told.length) document.getElementById("announce").textContent = told.join(". ");
    known = hrefs(calling);
  }
  clearInterval(ringing);
  if (sound.getAttribute("aria-pressed") !== "true") return;
  beep();
  silence.hidden = false;
  ringing = setInterval(() => {
    if (!unacknowledged) { clearInterval(ringing); silence.hidden = true; }
    else if (Date.now() > quietUntil) beep();
  }, 10000);
}
document.querySelector(".sound").hidden = !window.AudioContext;
const kept = (() => { try { return sessionStorage; } catch { return null; } })(); // a browser may forbid it
function turnSound(on) {
  sound.setAttribute("aria-pressed", String(on));
  sound.textContent = on ? sound.dataset.on : sound.dataset.off;
  kept?.setItem("sound", on ? "on" : "off");
  if (!on) { clearInterval(ringing); silence.hidden = true; }
}
sound.addEventListener("click", () => {
  audio = audio || new AudioContext();
  audio.resume();
  turnSound(sound.getAttribute("aria-pressed") !== "true");
});
if (window.AudioContext && kept?.getItem("sound") === "on") { // it was on in the view before
  audio = new AudioContext();
  const again = (event) => { if (event?.target !== sound && kept.getItem("sound") === "on") audio.resume().then(() => turnSound(true)); };
  again();
  for (const kind of ["pointerdown", "keydown"]) addEventListener(kind, again, { once: true }); // some browsers wait for it
}
document.getElementById("sound-test").addEventListener("click", () => {
  audio = audio || new AudioContext();
  audio.resume();
  beep();
});
silence.addEventListener("click", () => { quietUntil = Date.now() + 300000; silence.hidden = true; });

// what tells of changes: see events.js
let port = null;
function disconnect() {
  port?.postMessage("leave");
  port?.terminate?.();
  port = null;
}
function connect() {
  disconnect();
  port = window.SharedWorker ? new SharedWorker(body.dataset.events).port : new Worker(body.dataset.events);
  port.onmessage = ({ data: told }) => {
    if (told.kind !== "lost") { heardOf(told.kind, told.data, told.heard); return; }
    say(body.dataset.lost);
    setFresh(false);
    if (told.ended) refresh(); // which shows the log-in, if that is why
  };
}
function reconnect() { setFresh(false); connect(); }
connect();
setInterval(() => { // a phone that sleeps hears nothing, and its connection may hang
  if (!port || Date.now() - heard < STALE_MS) return;
  say(body.dataset.stale);
  setFresh(false);
  if (Date.now() - heard > 2 * STALE_MS) { heard = Date.now() - STALE_MS; connect(); }
}, 1000);
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") { if (!port || Date.now() - heard > STALE_MS / 2) reconnect(); }
  else if (!window.SharedWorker) disconnect(); // for the tabs that are seen
});
addEventListener("pagehide", disconnect);
addEventListener("pageshow", (event) => { if (event.persisted) reconnect(); }); // back from the cache
