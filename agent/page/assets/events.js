// Holds the one event stream of a browser's tabs, as HTTP/1.1 has six connections to a host for all of
// them. It is a shared worker. Where there are none it is a worker of one tab, which ends it when hidden.
"use strict";
const AGAIN_MS = 2000;
const STALE_MS = 20000; // events come at least every 5 s
const tabs = new Set();
let source = null, last = null, heard = 0;

function tell(news) { for (const tab of tabs) tab.postMessage(news); }

function listen() {
  source?.close();
  source = new EventSource("/events");
  [last, heard] = [null, Date.now()];
  for (const kind of ["alarms", "values"]) source.addEventListener(kind, (event) => {
    heard = Date.now();
    last = { kind, data: JSON.parse(event.data), heard };
    tell(last);
  });
  source.addEventListener("error", () => {
    const ended = source.readyState === EventSource.CLOSED; // else it tries again by itself
    last = null;
    tell({ kind: "lost", ended });
    if (!ended) return;
    source = null;
    setTimeout(() => { if (tabs.size && !source) listen(); }, AGAIN_MS);
  });
}

function join(tab) {
  tabs.add(tab);
  tab.onmessage = () => leave(tab); // the only thing that a tab says
  if (!source || Date.now() - heard > STALE_MS) listen();
  else if (last) tab.postMessage(last);
}

function leave(tab) {
  tabs.delete(tab);
  if (tabs.size) return;
  source?.close();
  source = null;
}

if ("onconnect" in self) onconnect = (event) => join(event.ports[0]);
else join(self);
