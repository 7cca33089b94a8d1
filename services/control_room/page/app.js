// The page: one stream in, one picture out. Every message holds everything of its kind, so nothing has to be remembered
// here, and a page that was away for a while is right again with the first message.

import { drawLatency, drawRate, drawTimeline } from "/room/page/plots.js";
import { showCache, showCards, showEvents, showLoad, showSign, showStatus } from "/room/page/show.js";

const SILENT_AFTER_MS = 1500;
const RECONNECT_AFTER_MS = 4000;
const COMPLAINT_MS = 12_000;

const at = (id) => document.getElementById(id);
let token = "";
let heardAt = Date.now();
let source = null;

// The stream.

function connect() {
  source?.close();
  source = new EventSource("/room/stream");
  on("welcome", (welcome) => {
    token = welcome.token;
    offerFrontEnds(Object.keys(welcome.public));
  });
  on("snapshot", (snapshot) => {
    showStatus(snapshot);
    showCards(snapshot, act);
    showCache(snapshot, switchCache);
  });
  on("story", (story) => {
    drawTimeline(at("timeline"), story);
    drawRate(at("rate"), at("rate-key"), story);
    drawLatency(at("latency"), at("latency-key"), story);
    showEvents(at("events"), story.events);
  });
  on("load", showLoad);
}

function on(kind, show) {
  source.addEventListener(kind, (event) => {
    heardAt = Date.now();
    showSilence();
    show(JSON.parse(event.data));
  });
}

function showSilence() {
  const silentMs = Date.now() - heardAt;
  const isSilent = silentMs > SILENT_AFTER_MS;
  document.body.classList.toggle("silent", isSilent);
  at("silence").hidden = !isSilent;
  if (isSilent) {
    showSign("unknown"); // how it was says nothing of how it is
    const text = `for ${Math.floor(silentMs / 1000)} s`;
    if (at("silence-time").textContent !== text) at("silence-time").textContent = text;
  }
}

let triedAt = Date.now();
setInterval(() => {
  showSilence();
  // The browser reconnects by itself after a broken connection, but not after a refusal, and it never notices a hang.
  if (Date.now() - Math.max(heardAt, triedAt) > RECONNECT_AFTER_MS) {
    triedAt = Date.now();
    connect();
  }
}, 250);

// What the buttons do.

async function ask(method, path, body) {
  const response = await fetch(path, {
    method,
    headers: { "content-type": "application/json", "x-bazaar-token": token },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
  const answer = await response.json();
  if (!response.ok) throw new Error(answer.error?.message ?? `status ${response.status}`);
  return answer;
}

let complaintTimer = 0;

async function complaining(work) {
  clearTimeout(complaintTimer);
  at("complaint").textContent = "";
  try {
    return await work();
  } catch (error) {
    at("complaint").textContent = `That could not be done: ${error.message}`;
    complaintTimer = setTimeout(() => (at("complaint").textContent = ""), COMPLAINT_MS);
    return null;
  }
}

const act = (name, action) => complaining(() => ask("POST", `/room/services/${name}/${action}`));
const switchCache = (name, on) => complaining(() => ask("POST", `/room/caches/${name}`, { on }));

at("load-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = new FormData(event.target);
  const request = { clients: Number(form.get("clients")), p: Number(form.get("p")), seconds: Number(form.get("seconds")) };
  complaining(() => ask("POST", "/room/load", request));
});
at("load-stop").addEventListener("click", () => complaining(() => ask("DELETE", "/room/load")));

// The customer's form.

const callForm = at("call-form");

function showFields() {
  const what = callForm.elements.what.value;
  for (const label of callForm.querySelectorAll("[data-for]")) {
    label.hidden = !label.dataset.for.split(" ").includes(what);
  }
}
callForm.elements.what.addEventListener("change", showFields);
showFields();

function offerFrontEnds(names) {
  const select = callForm.elements.front_end;
  if ([...select.options].map((option) => option.value).join() === names.join()) return;
  select.replaceChildren(...names.map((name) => new Option(name, name)));
  at("front-end-label").hidden = names.length < 2;
}

callForm.addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = new FormData(callForm);
  const wanted = { what: form.get("what"), name: form.get("name"), front_end: form.get("front_end") ?? "front-end-1" };
  if (form.get("quantity")) wanted.quantity = Number(form.get("quantity"));
  if (form.get("number")) wanted.number = Number(form.get("number"));
  if (form.get("key")) wanted.key = form.get("key");
  at("call-state").textContent = "Sent; waiting for the answer.";
  const answer = await complaining(() => ask("POST", "/room/calls", wanted));
  if (answer === null) {
    at("call-state").textContent = "";
    return;
  }
  at("call-request").textContent = answer.request;
  at("call-answer").textContent = answer.answer;
  const outcome = answer.status === null ? "No answer" : `Answered ${answer.status}`;
  at("call-state").textContent = `${outcome} after ${answer.ms < 1000 ? `${answer.ms} ms` : `${(answer.ms / 1000).toFixed(2)} s`}.`;
  if (answer.status === 201) callForm.elements.number.value = JSON.parse(answer.answer.split("\n\n").pop()).data.number;
});

connect();
