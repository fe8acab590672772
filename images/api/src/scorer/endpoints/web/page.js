// The form is built from the served model's contract.
"use strict";

const MAX_REASONS = 4;
const KEY = "credit-risk-key";
const byId = (id) => document.getElementById(id);
let contract = null;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

const sentence = (text) => text.charAt(0).toUpperCase() + text.slice(1);
const titled = (name) => sentence(name.replaceAll("_", " "));

async function request(path, options = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = { ...options.headers, ...(key ? { Authorization: `Bearer ${key}` } : {}) };
  const response = await fetch(path, { ...options, headers });
  const document = await response.json().catch(() => ({ detail: `the service answered ${response.status}` }));
  return { status: response.status, document };
}

async function start() {
  const { status, document } = await request("v1/model");
  const closed = status === 401 || status === 403;
  byId("access").hidden = !closed;
  if (closed) {
    byId("served").textContent = "Access requires an API key or a token.";
    byId("access-error").textContent = sessionStorage.getItem(KEY) ? sentence(document.detail) : "";
    byId("key").focus();
    return;
  }
  if (status !== 200) {
    byId("served").textContent = `${sentence(document.detail)}. Retrying.`;
    setTimeout(begin, 3000);
    return;
  }
  contract = document.contract;
  byId("served").textContent = `Served model: ${document.name}, version ${document.version}`;
  byId("fields").replaceChildren(...contract.features.map(field));
  byId("work").hidden = false;
}

function begin() {
  start().catch((error) => {
    byId("served").textContent = `The service is unreachable: ${error.message}`;
    setTimeout(begin, 3000);
  });
}

function selection(feature, about, reference) {
  const options = feature.categories.map((category) => element("option", { value: category }, category));
  if (feature.missing) options.push(element("option", { value: "" }, "Not provided"));
  for (const option of options) option.defaultSelected = option.value === reference;
  return [element("select", about, ...options)];
}

function suggestions(feature, about, reference) {
  const list = `${about.id}-known`;
  const options = feature.categories.map((category) => element("option", { value: category }));
  return [
    element("input", { ...about, type: "text", autocomplete: "off", value: reference, list }),
    element("datalist", { id: list }, ...options)];
}

function field(feature) {
  const id = `field-${feature.name}`;
  const about = { id, name: feature.name, "aria-describedby": `${id}-hint ${id}-error` };
  const reference = contract.reference_applicant[feature.name];
  let controls;
  const hint = [feature.description];
  if (feature.kind === "categorical") {
    controls = (feature.other ? suggestions : selection)(feature, about, reference);
    if (feature.other) hint.push("other values are accepted too");
  } else {
    const input = { ...about, type: "text", inputmode: "decimal", autocomplete: "off", value: reference };
    controls = [element("input", input)];
    hint.push(`${feature.minimum.toLocaleString("en")} to ${feature.maximum.toLocaleString("en")} ${feature.unit}`);
  }
  if (feature.missing && controls[0].tagName === "INPUT") {
    controls[0].setAttribute("placeholder", "Not provided");
    hint.push("leave it empty if it is not provided");
  }
  return element("div", {},
    element("label", { for: id }, titled(feature.name)), ...controls,
    element("p", { class: "hint", id: `${id}-hint` }, sentence(hint.filter(Boolean).join(", "))),
    element("p", { class: "error", id: `${id}-error` }));
}

function application() {
  // Without a prototype, any name of a feature is just a key.
  const given = Object.create(null);
  for (const feature of contract.features) {
    const text = byId(`field-${feature.name}`).value.trim();
    // Text that is not a number is sent as it is: the service explains what is wrong with it.
    const number = feature.kind === "numeric" && text !== "" && Number.isFinite(Number(text));
    given[feature.name] = number ? Number(text) : text === "" && feature.missing ? null : text;
  }
  return given;
}

function showProblem(problem) {
  const errors = problem ? problem.errors || [] : [];
  const known = new Map(errors.map((error) => [error.field, `${sentence(error.problem)}; allowed: ${error.allowed}.`]));
  for (const feature of contract.features) {
    const control = byId(`field-${feature.name}`);
    control.toggleAttribute("aria-invalid", false);
    if (known.has(feature.name)) control.setAttribute("aria-invalid", "true");
    byId(`field-${feature.name}-error`).textContent = known.get(feature.name) || "";
  }
  const notice = byId("problem");
  notice.hidden = !problem;
  notice.replaceChildren();
  if (!problem) return;
  notice.append(sentence(problem.detail || "the service failed"));
  if (errors.length) {
    notice.append(element("ul", {}, ...errors.map((error) =>
      element("li", {}, element("a", { href: `#field-${error.field}` }, titled(error.field))))));
  }
  notice.focus();
}

function bar(share) {
  const space = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(space, "svg");
  const attributes = { class: "bar", viewBox: "0 0 100 6", preserveAspectRatio: "none", "aria-hidden": "true" };
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, value);
  for (const width of [100, Math.max(100 * share, 1)]) {
    const rect = document.createElementNS(space, "rect");
    for (const [key, value] of Object.entries({ width: width.toFixed(1), height: 6, rx: 1 })) rect.setAttribute(key, value);
    svg.append(rect);
  }
  return svg;
}

function graded(name) {
  const grade = contract.grades.find((candidate) => candidate.name === name);
  return grade ? `${name} (${(100 * grade.expected_default_rate).toFixed(1)} % are expected to default)` : name;
}

// What an adverse-action notice says; whoever is approved gets none.
function notice(answer, reason) {
  const told = answer.decision === "decline" && reason.adverse_action;
  return told ? [element("p", { class: "hint" }, `For the notice: ${reason.adverse_action}`)] : [];
}

function showAnswer(answer) {
  byId("empty").hidden = true;
  byId("answer").hidden = false;
  const decision = byId("decision");
  decision.textContent = sentence(answer.decision);
  decision.className = answer.decision;
  const threshold = `${(100 * contract.decision_threshold).toFixed(1)} %`;
  const figures = [
    ["Probability of default", `${(100 * answer.probability_of_default).toFixed(1)} % (declined at ${threshold} or more)`],
    ["Score points", String(answer.score_points)],
    ...(answer.grade ? [["Grade", graded(answer.grade)]] : []),
    ["Model", `${answer.model.name}, version ${answer.model.version}`],
    ["Served by", answer.served_by],
    ["Request", answer.request_id],
  ];
  byId("figures").replaceChildren(...figures.flatMap(([name, value]) =>
    [element("dt", {}, name), element("dd", {}, value)]));
  const warnings = answer.warnings || [];
  byId("warnings").hidden = warnings.length === 0;
  byId("warnings").replaceChildren(...warnings.map((warning) =>
    element("li", {}, `${titled(warning.field)} ${warning.detail}.`)));
  const reasons = answer.reasons || [];
  const largest = Math.max(...reasons.map((reason) => reason.contribution));
  byId("no-reasons").hidden = reasons.length > 0;
  byId("reasons").hidden = reasons.length === 0;
  byId("reasons").tBodies[0].replaceChildren(...reasons.map((reason) => element("tr", { title: reason.code },
    element("th", { scope: "row" }, reason.reason, ...notice(answer, reason), bar(reason.contribution / largest)),
    element("td", {}, `+${reason.contribution.toFixed(2)}`), element("td", {}, reason.points.toFixed(0)))));
  byId("method").textContent = reasons.length
    ? "Weight is what the feature adds to the log-odds of default, compared with the reference applicant." : "";
  byId("result-title").focus();
}

byId("application").addEventListener("submit", async (event) => {
  event.preventDefault();
  byId("score").disabled = true;
  try {
    const { status, document } = await request(`v1/score?reasons=${Math.min(MAX_REASONS, contract.features.length)}`, {
      method: "POST", headers: { "Content-Type": "application/json" }, body: JSON.stringify(application()),
    });
    if (status === 401 || status === 403) { byId("work").hidden = true; begin(); return; }
    showProblem(status === 200 ? null : document);
    if (status === 200) showAnswer(document);
  } catch (error) {
    showProblem({ detail: `the service is unreachable: ${error.message}` });
  } finally {
    byId("score").disabled = false;
  }
});

byId("application").addEventListener("reset", () => showProblem(null));

byId("access").addEventListener("submit", (event) => {
  event.preventDefault();
  sessionStorage.setItem(KEY, byId("key").value.trim());
  byId("key").value = "";
  begin();
});

begin();
