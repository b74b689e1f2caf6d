// The page: what is shown, and what the buttons, keys and files do.

import { Engine } from "./engine.js";
import { draw, drawScale, thumbnail } from "./picture.js";
import { Trouble } from "./trouble.js";

const at = (id) => document.getElementById(id);
const STATUS = { ok: "answered", refer: "too uncertain: refer", rejected: "refused", error: "could not be read" };
const SIGN = { ok: "✓", refer: "?", rejected: "×", error: "!" }; // so that no status is told by its colour alone
const THUMBNAILS = 400; // more slices than these get none
const NOTCH = 50; // pixels of a wheel's turn that change the slice; no turn changes more than one
const LINE = [1, 34, 800]; // pixels of a turn's unit: a pixel, a line, a page

const engine = new Engine(askForToken);
let asking = new AbortController(); // of the call whose answers are waited for
let rows = []; // {answer, slice, maps, study}
let current = 0;
let coverage = 0; // of a prediction set, as the model's card says
let chosen = ""; // the class whose map is shown; empty: the leading one

const percent = (share) => (share >= 0.995 ? "> 99 %" : `${Math.round(100 * share)} %`);
const leading = (answer) =>
  answer.probabilities && Object.entries(answer.probabilities).reduce((a, b) => (b[1] > a[1] ? b : a))[0];

// -- from files to answers --------------------------------------------------------------------------------------------

/** @param {File[] | Promise<File[]>} given */
async function ask(given) {
  asking.abort(); // what was asked for before is not wanted any more
  asking = new AbortController();
  const { signal } = asking;
  const say = (text) => signal.aborted || busy(text);
  at("trouble").hidden = true;
  try {
    coverage ||= (await engine.model()).card.conformal_coverage; // asks for a token now, not after all files were sent
    const answered = await engine.answer(await given, say, signal);
    if (signal.aborted) return;
    rows = inOrder(answered).map(withoutRefused);
    chosen = "";
    show(firstWorthSeeing());
    at("start").hidden = true;
    at("work").hidden = at("skip").hidden = false;
    list();
    render();
    follow();
    at(rows.length > 1 ? "view" : "answer").focus({ preventScroll: true }); // the view takes the keys that change the slice
  } catch (error) {
    if (!signal.aborted) tell(error);
  } finally {
    say("");
  }
}

/** Every failure is told; one that nobody foresaw is in the console too. */
function tell(error) {
  const foreseen = error instanceof Trouble;
  if (!foreseen) console.error(error);
  at("trouble").textContent = foreseen ? error.message : `The page failed (${error.message}). Reload it and try again.`;
  at("trouble").hidden = false;
}

/** 2.dcm before 10.dcm, in whatever order the system hands them over. */
const byName = (a, b) => a.name.localeCompare(b.name, undefined, { numeric: true });

/** What a folder of scans holds beside them is not sent: the viewer of a disc, its directory, notes. */
const mayBeScan = ({ name, isDirectory }) =>
  isDirectory || (name.toUpperCase() !== "DICOMDIR" && (!/\.[^.]*$/.test(name) || /\.(png|jpe?g?|jfif|bmp|dib|tiff?|gif|webp|dcm|dicom|ima|mr|nii|nii\.gz|\d+)$/i.test(name)));

/** One of the drawings, as if it had been chosen. */
async function sample(name) {
  const response = await fetch(`static/samples/${name}.png`).catch(() => null);
  if (!response?.ok) throw new Trouble("The drawing cannot be loaded. Is the server of this page still running?");
  return [new File([await response.blob()], `drawn-${name}.png`, { type: "image/png" })];
}

/** What was dropped: files, and the visible files in folders. */
async function dropped(carried) {
  const items = [...carried.items].filter((item) => item.kind === "file");
  const entries = items.map((item) => item.webkitGetAsEntry?.() ?? item.getAsFile()); // at once: after the event they are gone
  const files = (await Promise.all(entries.sort(byName).map(filesOf))).flat();
  if (!files.length) throw new Trouble("There is no scan in what was dropped.");
  return files;
}

async function filesOf(entry) {
  if (entry instanceof File) return entry;
  const read = (what) => new Promise((done) => what(done, () => done(null)));
  if (!entry.isDirectory) {
    const file = await read((done, failed) => entry.file(done, failed));
    if (!file) throw new Trouble(`${entry.name} cannot be read.`);
    return file;
  }
  const [found, reader] = [[], entry.createReader()];
  for (let some; (some = await read((done, failed) => reader.readEntries(done, failed)))?.length; ) found.push(...some); // a hundred at a time
  const visible = found.filter((inside) => !inside.name.startsWith(".") && mayBeScan(inside)).sort(byName);
  return (await Promise.all(visible.map(filesOf))).flat();
}

/** A row without what the model said of a picture that was refused: it means nothing, so it is not shown. */
function withoutRefused(row) {
  if (row.answer.status !== "rejected") return row;
  return { ...row, maps: null, answer: { ...row.answer, probabilities: null, prediction_set: null } };
}

/** The slices of a volume together, where the first of them stands, by their numbers: files come by name. */
function inOrder(answered) {
  const first = new Map();
  answered.forEach(({ study }, row) => study && !first.has(study) && first.set(study, row));
  const places = answered.map((row, number) => ({ row, place: first.get(row.study) ?? number }));
  return places.sort((a, b) => a.place - b.place || a.row.answer.slice - b.row.answer.slice).map(({ row }) => row);
}

/** In a volume the middle slice, among files the first. */
const firstWorthSeeing = () => (rows[0].study ? middleOf(rows[0].study) : 0);

function middleOf(study) {
  const mine = rows.flatMap((row, number) => (row.study === study ? [number] : []));
  return mine[Math.floor(mine.length / 2)];
}

/** What is known of whole volumes, in the order in which they are shown. */
const studies = () => [...new Set(rows.map(({ study }) => study).filter(Boolean))];

function busy(text) {
  at("busy-text").textContent = text;
  at("busy").hidden = !text;
}

async function askForToken(wrong) {
  const dialog = at("ask");
  at("token").value = dialog.returnValue = "";
  at("wrong").hidden = !wrong;
  dialog.showModal();
  await new Promise((done) => dialog.addEventListener("close", done, { once: true }));
  return dialog.returnValue === "ok" ? at("token").value.trim() : "";
}

// -- one slice --------------------------------------------------------------------------------------------------------

function show(number) {
  current = Math.min(Math.max(number, 0), rows.length - 1);
}

function render() {
  const { answer, slice, maps, study } = rows[current];
  const name = chosen || leading(answer);
  const top = draw(at("view"), slice, maps, name, at("opacity").value / 100);

  at("slice").max = rows.length - 1;
  at("slice").value = current;
  at("slice").setAttribute("aria-valuetext", `${current + 1} of ${rows.length}`);
  at("slice").disabled = at("back").disabled = at("next").disabled = rows.length < 2;
  at("count").textContent = `${current + 1} of ${rows.length}`;
  at("caption").textContent = answer.path + (answer.slice === null ? "" : `, slice ${answer.slice}`);
  at("view").setAttribute("aria-label", slice ? `Slice ${current + 1} of ${rows.length}` : "No picture");

  at("study").hidden = !study;
  if (study) showStudy(study);

  at("status").textContent = STATUS[answer.status];
  at("status").className = answer.status;
  at("label").textContent = answer.label ?? (answer.status === "error" ? "No answer" : "Not answered");
  at("reason").textContent =
    answer.reason ??
    `The ${percent(coverage)} prediction set holds this class alone. Probability ${percent(answer.confidence)}.`;

  at("bars").replaceChildren(...bars(answer));
  const members = answer.prediction_set;
  at("set").textContent = members
    ? members.length
      ? `Prediction set (●): ${members.join(", ")}`
      : "The prediction set is empty."
    : "";
  at("map").hidden = !maps;
  if (maps) {
    const options = Object.keys(maps.of).map((key) => new Option(key, key, false, key === name));
    at("class").replaceChildren(...options);
    at("top").textContent = top > 0 ? `highest: ${Number(top.toPrecision(3))} logit per pixel` : "no evidence for it";
  }
  for (const button of at("strip").querySelectorAll("button")) {
    button.setAttribute("aria-current", Number(button.dataset.row) === current);
  }
}

/** The volume of the slice that is shown; with several, also which of them, and the way to the others. */
function showStudy(study) {
  const all = studies();
  at("study-title").textContent = all.length > 1 ? `Volume ${all.indexOf(study) + 1} of ${all.length}: ${study.path}` : "The whole volume";
  at("statement").textContent = study.statement;
  at("study-caution").textContent = [all.length > 1 ? "" : `${study.path}.`, ...study.remarks, study.caution].filter(Boolean).join(" ");
  at("others").hidden = all.length < 2;
  at("others").replaceChildren(
    ...all.filter((other) => other !== study).map((other) => {
      const item = document.createElement("li");
      const button = element("button", "", other.path);
      button.type = "button";
      button.addEventListener("click", () => go(middleOf(other)));
      item.append(button, ` ${other.statement}`);
      return item;
    }),
  );
}

/** Bring the thumbnail of the slice into sight, in the strip alone: the page stays where it is. */
function follow() {
  const strip = at("strip");
  const thumbnail = strip.querySelector("[aria-current=true]");
  if (!thumbnail) return;
  const [inner, outer] = [thumbnail.getBoundingClientRect(), strip.getBoundingClientRect()];
  strip.scrollLeft += Math.min(inner.left - outer.left, 0) + Math.max(inner.right - outer.right, 0);
}

function bars(answer) {
  return Object.entries(answer.probabilities ?? {}).map(([label, share]) => {
    const item = document.createElement("li");
    if (answer.prediction_set?.includes(label)) item.className = "member";
    item.append(element("span", "name", label), element("span", "share", percent(share)));
    const track = element("span", "track");
    const fill = element("span", "fill");
    fill.style.width = `${100 * share}%`; // set by script, which the policy allows; not an attribute, which it forbids
    track.append(fill);
    item.append(track);
    return item;
  });
}

function list() {
  at("strip").hidden = rows.length < 2 || rows.length > THUMBNAILS;
  if (at("strip").hidden) return at("strip").replaceChildren();
  at("strip").replaceChildren(
    ...rows.map(({ answer, slice }, row) => {
      const button = document.createElement("button");
      button.type = "button";
      button.dataset.row = row;
      const said = answer.label ?? STATUS[answer.status];
      button.setAttribute("aria-label", `Slice ${row + 1}: ${said}`);
      button.title = STATUS[answer.status];
      button.append(thumbnail(slice), element("i", answer.status, SIGN[answer.status]));
      button.addEventListener("click", () => go(row));
      const item = document.createElement("li");
      item.append(button);
      return item;
    }),
  );
}

function element(tag, name, text = "") {
  const made = document.createElement(tag);
  made.className = name;
  made.textContent = text;
  return made;
}

function go(number) {
  if (!rows.length) return;
  show(number);
  render();
  follow();
}

// -- the report -------------------------------------------------------------------------------------------------------

function saveReport() {
  const safe = (text) => String(text ?? "").replace(/[&<>"]/g, (c) => `&#${c.charCodeAt(0)};`);
  const lines = rows.map(({ answer, slice, maps, study }) => {
    const canvas = document.createElement("canvas");
    canvas.style.cssText = "position:fixed;left:-999px;width:240px;height:240px";
    document.body.append(canvas);
    draw(canvas, slice, maps, leading(answer), 0.8);
    const picture = slice ? `<img src="${canvas.toDataURL("image/png")}" width="240" height="240" alt="">` : "";
    canvas.remove();
    const shares = Object.entries(answer.probabilities ?? {})
      .map(([label, share]) => `${safe(label)} ${percent(share)}`)
      .join("<br>");
    const what = `${safe(STATUS[answer.status])}<br><b>${safe(answer.label)}</b>`;
    const members = answer.prediction_set ? answer.prediction_set.join(", ") || "empty" : "";
    const of = study && study.path !== answer.path ? `${safe(study.path)}:<br>` : "";
    const where = of + safe(answer.path) + (answer.slice === null ? "" : `, slice ${answer.slice}`);
    return `<tr><td>${picture}<td>${where}<td>${what}<td>${shares}<td>${safe(members)}<td>${safe(answer.reason)}</tr>`;
  });
  const volumes = studies().map(
    (study) => `<h2>${safe(study.path)}</h2><p><b>${safe(study.statement)}</b></p><p>${safe([...study.remarks, study.caution].join(" "))}</p>`,
  );
  const { model, notice } = rows[0].answer;
  const page = `<!doctype html><html lang="en"><meta charset="utf-8"><title>braincam report</title>
<style>body{font:15px/1.45 system-ui,sans-serif;margin:2rem;color:#14181f}table{border-collapse:collapse}td,th{border-bottom:1px solid #ccc;padding:8px 14px;text-align:left;vertical-align:top}img{background:#000}</style>
<h1>braincam report</h1><p><b>${safe(notice)}</b></p>
<p>Model ${safe(model.name)}, sha256 ${safe(model.sha256)}; ${new Date().toISOString().slice(0, 16).replace("T", " ")} UTC.
Heat maps show the evidence for the leading class, each on its own scale. ${safe(at("caution").textContent)}</p>${volumes.join("")}
<table><tr><th>Slice and map<th>File<th>Answer<th>Probabilities<th>${percent(coverage)} prediction set<th>Reason</tr>${lines.join("")}</table></html>`;
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([page], { type: "text/html" }));
  link.download = "braincam-report.html";
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}

// -- the model --------------------------------------------------------------------------------------------------------

async function showCard() {
  const { card, name, sha256 } = await engine.model();
  const scores = card.scores ?? {};
  const interval = scores.ci95?.accuracy;
  const split = card.training.split ?? {};
  const leaky = scores.headline === "all" || split.leaks;
  const facts = {
    Name: name,
    "What it is for": card.notice,
    Classes: card.classes.join(", "),
    Parameters: card.parameters.toLocaleString("en"),
    [leaky ? "Accuracy on a split that leaks" : "Accuracy on patients it has not met"]:
      typeof scores.accuracy !== "number"
        ? "not measured"
        : scores.accuracy.toFixed(3) +
          (interval ? `, 95 % interval ${interval[0].toFixed(3)} to ${interval[1].toFixed(3)}` : "") +
          (leaky && split.verdict ? `; ${split.verdict}` : ""),
    "Prediction sets": `are meant to hold the true class for ${percent(card.conformal_coverage)} of the slices; the model card says what was measured`,
    "Refuses as unlike its training scans": `an outlier score above ${card.outlier_threshold.toFixed(2)}`,
    Trained: card.created || "the time is not noted: a training that can be repeated byte for byte",
    Licence: card.license,
    "SHA-256": sha256,
  };
  const shown = document.createElement("dl");
  for (const [what, value] of Object.entries(facts)) shown.append(element("dt", "", what), element("dd", "", value));
  at("card-text").replaceChildren(shown);
  at("card").showModal();
}

// -- hands ------------------------------------------------------------------------------------------------------------

at("choose").addEventListener("click", () => at("files").click());
at("files").addEventListener("change", async () => {
  const files = [...at("files").files].sort(byName);
  at("files").value = "";
  if (files.length) await ask(files);
});
at("again").addEventListener("click", () => at("files").click());
at("report").addEventListener("click", saveReport);
at("card-button").addEventListener("click", () => showCard().catch(tell));
at("back").addEventListener("click", () => go(current - 1));
at("next").addEventListener("click", () => go(current + 1));
at("slice").addEventListener("input", () => go(Number(at("slice").value)));
at("opacity").addEventListener("input", render);
at("class").addEventListener("change", () => {
  chosen = at("class").value;
  render();
});
let turned = 0; // of a slice: a touchpad sends many small turns where a wheel sends one
at("view").addEventListener(
  "wheel",
  (event) => {
    if (rows.length < 2 || event.ctrlKey) return; // with Ctrl it zooms the page
    event.preventDefault();
    turned += Math.max(-1, Math.min(1, (event.deltaY * LINE[event.deltaMode]) / NOTCH));
    const steps = Math.trunc(turned);
    turned -= steps;
    if (steps) go(current + steps);
  },
  { passive: false },
);
/** The keys of the picture and of the strip; elsewhere, and with one slice, they are the page's own. */
function press(event) {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const steps = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1, PageDown: 10, PageUp: -10, Home: -Infinity, End: Infinity };
  const turns = { "+": 10, "=": 10, "-": -10 };
  if (event.key in steps && rows.length > 1) go(current + steps[event.key]);
  else if (event.key in turns) {
    at("opacity").value = Number(at("opacity").value) + turns[event.key];
    render();
  } else return;
  event.preventDefault();
}
for (const place of ["view", "strip"]) at(place).addEventListener("keydown", press);
for (const button of document.querySelectorAll("[data-sample]")) {
  button.addEventListener("click", () => ask(sample(button.dataset.sample)));
}
for (const kind of ["dragenter", "dragover"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.add("dragging");
  });
}
document.addEventListener("dragleave", (event) => {
  if (!event.relatedTarget) document.body.classList.remove("dragging");
});
document.addEventListener("drop", (event) => {
  event.preventDefault();
  document.body.classList.remove("dragging");
  if (event.dataTransfer.types.includes("Files")) ask(dropped(event.dataTransfer));
});
at("theme").addEventListener("click", () => {
  const dark = document.documentElement.dataset.theme
    ? document.documentElement.dataset.theme === "dark"
    : matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = dark ? "light" : "dark";
});
new ResizeObserver(() => rows.length && render()).observe(at("view"));
at("takes").textContent = `Drop brain MRI slices here: ${engine.takes}. ${engine.where}`;
drawScale(at("scale"));
