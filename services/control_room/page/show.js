// The words of the page: status, cards, cache, load, events. What is there already is changed, not made anew, so that
// the keyboard's focus and what is selected stay where they are.

const at = (id) => document.getElementById(id);

// A shape for every state, in a box of 24 by 24.
const SIGNS = {
  leader: "M12 2l3 6.6 7.2.8-5.4 4.9 1.5 7.1L12 17.8 5.700 21.400l1.500-7.100L1.800 9.400l7.200-.8z",
  level: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z",
  running: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18z",
  behind: "M12 3a9 9 0 1 0 0 18zM12 3v2a7 7 0 0 1 0 14v2a9 9 0 0 0 0-18z",
  starting: "M12 3a9 9 0 1 0 0 18zM12 3v2a7 7 0 0 1 0 14v2a9 9 0 0 0 0-18z",
  paused: "M5 3h5v18H5zM14 3h5v18h-5z",
  down: "M5.600 3L12 9.400 18.400 3 21 5.600 14.600 12 21 18.400 18.400 21 12 14.600 5.600 21 3 18.400 9.400 12 3 5.600z",
  failed: "M12 2l11 20H1zM11 9v7h2V9zM11 18v2h2v-2z",
  healthy: "M9 19.500L2 12.500l2.500-2.500L9 14.500 19.500 4 22 6.500z",
  degraded: "M12 2l11 20H1zM11 9v7h2V9zM11 18v2h2v-2z",
  unknown: "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18zm0 2a7 7 0 1 1 0 14 7 7 0 0 1 0-14z",
};
const ACTIONS = [
  ["kill", "Kill", "SIGKILL, and it stays down", ["running", "starting", "paused"]],
  ["pause", "Pause", "SIGSTOP: it keeps its connections and says nothing", ["running", "starting"]],
  ["resume", "Resume", "SIGCONT", ["paused"]],
  ["start", "Start", "a new process", ["down", "failed"]],
];

const number = (value) => value.toLocaleString("en-US");

export function write(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

export function make(tag, attributes = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children);
  return node;
}

function sign(look) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
  path.setAttribute("fill-rule", "evenodd");
  path.setAttribute("d", SIGNS[look]);
  svg.append(path);
  return svg;
}

function duration(seconds) {
  if (seconds === null) return "–";
  if (seconds < 120) return `${Math.floor(seconds)} s`;
  if (seconds < 7200) return `${Math.floor(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

// A bazaar that was started again may have other services.
function clearForOthers(box, services) {
  const names = services.map((service) => service.name).join();
  if (box.dataset.names === names) return;
  box.dataset.names = names;
  box.replaceChildren();
}

// The one sentence.

export function showStatus(snapshot) {
  const { condition, sentence, fail_over: failOver } = snapshot.health;
  at("status").dataset.condition = condition;
  showSign(condition);
  write(at("sentence"), sentence);
  write(at("fail-over"), failOver ?? "No fail-over so far.");
  document.title = `${sentence.split(":")[0]} – Bazaar control room`;
}

export function showSign(condition) {
  at("status-sign").setAttribute("fill-rule", "evenodd");
  at("status-sign").setAttribute("d", SIGNS[condition]);
}

// The cards.

function lookOf(service, leader) {
  if (service.state !== "running" || !service.name.startsWith("order-")) return service.state;
  if (service.name === `order-${leader}`) return "leader";
  return service.level ? "level" : "behind";
}

// What it does, or why it does not.
function noteOf(service, look) {
  if (service.reason && service.state !== "running") return service.reason;
  if (look === "leader") return "leader";
  if (service.name.startsWith("order-")) return service.state === "running" ? "follower" : "replica";
  return service.name.startsWith("front-end") ? `leader: ${service.leader ? `order-${service.leader}` : "none"}` : "decides every trade";
}

function factsOf(service) {
  const facts = [];
  if (!service.name.startsWith("front-end")) {
    facts.push(["head", service.head ? number(service.head.position) : "–"]);
    facts.push(["digest", service.head ? service.head.digest.slice(0, 12) : "–"]);
  } else {
    facts.push(["cache", service.cache ? (service.cache.on ? `on, ${service.cache.size} of ${service.cache.capacity}` : "off") : "–"]);
    facts.push(["address", service.url.replace("http://", "")]);
  }
  if (service.name.startsWith("order-")) facts.push(["lag", service.lag === null ? "–" : number(service.lag)]);
  else facts.push(["restarts", number(service.restarts ?? 0)]);
  facts.push(["up", duration(service.uptime_s)], ["process", service.pid ?? "–"]);
  return facts.map(([name, value]) => [name, String(value)]);
}

function makeCard(service, act) {
  const card = make("article", { class: "card", id: `card-${service.name}`, "aria-labelledby": `name-${service.name}` });
  const facts = make("dl", { class: "facts" });
  for (const [name] of factsOf(service)) facts.append(make("dt", {}, name), make("dd"));
  const buttons = make("div", { class: "buttons", role: "group", "aria-label": `Break and mend ${service.name}` });
  for (const [action, label, title] of ACTIONS) {
    const button = make("button", { type: "button", title, "data-action": action, "aria-label": `${label} ${service.name}` }, label);
    button.addEventListener("click", () => {
      if (button.getAttribute("aria-disabled") !== "true") act(service.name, action);
    });
    buttons.append(button);
  }
  // With several hosts, which of them runs it.
  const place = service.host === undefined ? "" : ` on ${service.host}`;
  const heading = make("h3", { id: `name-${service.name}` }, service.name + place);
  card.append(heading, make("p", { class: "state" }), make("p", { class: "note" }), facts, buttons);
  return card;
}

export function showCards(snapshot, act) {
  const services = [...snapshot.services].sort((a, b) => rank(a.name).localeCompare(rank(b.name)));
  clearForOthers(at("cards"), services);
  for (const service of services) {
    let card = at(`card-${service.name}`);
    if (card === null) {
      card = makeCard(service, act);
      at("cards").append(card);
    }
    const look = lookOf(service, snapshot.health.leader);
    if (card.dataset.look !== look) {
      card.dataset.look = look;
      card.querySelector(".state").replaceChildren(sign(look), make("span"));
    }
    write(card.querySelector(".state span"), stateText(service, look));
    write(card.querySelector(".note"), noteOf(service, look));
    const values = card.querySelectorAll("dd");
    factsOf(service).forEach(([, value], n) => write(values[n], value));
    for (const [action, , , states] of ACTIONS) {
      const isOff = String(!states.includes(service.state));
      const button = card.querySelector(`[data-action="${action}"]`);
      if (button.getAttribute("aria-disabled") !== isOff) button.setAttribute("aria-disabled", isOff);
    }
  }
}

function stateText(service, look) {
  if (service.state !== "running" || !service.name.startsWith("order-")) return service.state;
  const part = look === "leader" ? "leads" : "running";
  if (service.level) return `${part}, caught up`;
  if (service.level === null) return `${part}, does not answer`;
  return service.lag === null ? `${part}, waits for the catalog` : `${part}, behind`;
}

// Front-ends first, then the replicas, the catalog last: the way of a trade.
const rank = (name) => (name.startsWith("front") ? `0${name}` : name.startsWith("order") ? `1${name}` : `2${name}`);

// The cache.

export function showCache(snapshot, switchCache) {
  const frontEnds = snapshot.services.filter((each) => each.name.startsWith("front-end"));
  clearForOthers(at("caches"), frontEnds);
  for (const service of frontEnds) {
    let box = at(`cache-${service.name}`);
    if (box === null) {
      box = makeCache(service, switchCache);
      at("caches").append(box);
    }
    const cache = service.cache;
    const button = box.querySelector("button");
    button.setAttribute("aria-disabled", String(cache === null || cache.capacity === 0));
    if (cache === null) {
      write(box.querySelector(".cache-state"), "does not answer");
      continue;
    }
    button.dataset.on = String(cache.on);
    write(button, cache.on ? "Turn off" : "Turn on");
    button.setAttribute("aria-label", `${cache.on ? "Turn off" : "Turn on"} the cache of ${service.name}`);
    write(box.querySelector(".cache-state"), stateOfCache(cache));
    const counts = [cache.hits, cache.misses, cache.evictions, cache.invalidations, `${cache.size} / ${cache.capacity}`];
    box.querySelectorAll(".counts b").forEach((node, n) => write(node, typeof counts[n] === "number" ? number(counts[n]) : counts[n]));
    showEntries(box.querySelector(".entries"), cache.entries);
  }
}

function stateOfCache(cache) {
  if (!cache.on) return "off: every look-up asks the catalog";
  return cache.live ? "on" : "on, without a session: nothing may be hit";
}

function makeCache(service, switchCache) {
  const button = make("button", { type: "button" });
  button.addEventListener("click", () => {
    if (button.getAttribute("aria-disabled") !== "true") switchCache(service.name, button.dataset.on !== "true");
  });
  const counts = make("div", { class: "counts" });
  for (const name of ["hits", "misses", "evictions", "invalidations", "entries"]) counts.append(make("div", {}, make("b", {}, "–"), name));
  const heading = make("h3", {}, `${service.name}: `, make("span", { class: "cache-state" }));
  return make(
    "div",
    { class: "cache", id: `cache-${service.name}` },
    make("div", { class: "cache-head" }, heading, button),
    counts,
    make("ol", { class: "entries", "aria-label": `Entries of the cache of ${service.name}, the next to go first` }),
    make("p", { class: "order-note" }, "The one used longest ago comes first and is the next to go."),
  );
}

function showEntries(list, entries) {
  const key = entries.map((entry) => `${entry.name} ${entry.quantity}`).join();
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(
    ...entries.map((entry) => make("li", {}, make("b", {}, entry.name), " ", make("span", {}, number(entry.quantity)))),
  );
}

// Load and events.

const VERDICTS = { true: " All is well.", false: " A check failed." };

export function showLoad(load) {
  const running = load.request && `${load.request.clients} clients, p = ${load.request.p}`;
  const texts = {
    running: () => `Running: ${running}, for ${load.request.seconds} s.`,
    checking: () => "The clients check all their orders.",
    idle: () => (load.result === null ? "No load runs." : `Last load: ${load.result}.${VERDICTS[load.passed] ?? ""}`),
  };
  write(at("load-state"), texts[load.state]());
  at("load-form").querySelector("[type=submit]").setAttribute("aria-disabled", String(load.state !== "idle"));
  at("load-stop").setAttribute("aria-disabled", String(load.state !== "running"));
}

export function showEvents(list, events) {
  const key = `${events.length} ${events.map((event) => event.at_ms + event.text).join()}`;
  if (list.dataset.key === key) return;
  list.dataset.key = key;
  list.replaceChildren(...events.map(makeEvent));
}

function makeEvent(event) {
  const time = new Date(event.at_ms);
  const text = make("div");
  if (event.fail_over === null) {
    text.append(event.text);
  } else {
    const chain = event.fail_over;
    const began = chain.struck_ms ?? chain.noticed_ms;
    text.append(`${chain.leader} leads now: ${chain.before} ${chain.cause ?? "did not answer"} (as ${chain.front_end} saw it).`);
    const steps = [["noticed", chain.noticed_ms], ["selected", chain.selected_ms], ["first trade", chain.first_trade_ms]];
    const first = make("span", {}, chain.cause?.replace("was ", "") ?? "noticed");
    const rest = steps.filter(([name, at]) => at !== null && !(chain.struck_ms === null && name === "noticed"));
    text.append(make("div", { class: "chain" }, first, ...rest.map(([name, at]) => make("span", {}, `${name} +${short(at - began)}`))));
  }
  const stamp = make("time", { datetime: time.toISOString() }, time.toLocaleTimeString("en-GB"));
  return make("li", {}, stamp, text);
}

const short = (ms) => (ms < 1000 ? `${ms} ms` : `${(ms / 1000).toFixed(2)} s`);
