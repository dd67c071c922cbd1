// The row browser's script: unpacks the blocks of rows, searches and filters them, and shows the way of one.
// Whatever a row says is put into the page as text, never as markup. Nothing is loaded from anywhere.
"use strict";

const FACETS = ["end", "at", "why", "family", "who"];
const GONE = ["dropped", "judged"]; // how the endings begin that did not go on
const NOT_SEARCHED = ["teacher", "request", "in", "trained", "family", "score"];
const A_PAGE = 50;
const MAX_CHOICES = 300; // of one filter; the rarer ones are left out
const MAX_SOUGHT = 32; // words whose rows are remembered
const EXCERPT = 160; // characters shown of a row
const END = "\u0001"; // of a segment; no query holds it, so no hit spans two

const $ = (id) => document.getElementById(id);
const make = (tag, className, textContent = "") =>
  Object.assign(document.createElement(tag), { className, textContent });
const lookOf = (end) => (GONE.some((start) => end.startsWith(start)) ? "dropped-text" : "kept-text");

// A block's text is the segments of its stories: the prompt's, then one of each row. `starts` says where each begins,
// `from` and `to` which rows it belongs to.
const blocks = [];
const ids = [], blockOf = [], storyOf = [], ownSegment = [], storySegment = [];
const forEach = (empty) => Object.fromEntries(FACETS.map((name) => [name, empty()]));
const values = forEach(() => []), codes = forEach(() => []), known = forEach(() => new Map()); // by code, row, value
const sought = new Map(); // word to what `holds` gave
let found = []; // rows that the filters let through, in order
let words = [];
let page = 0;
let opened = null;

/** The stories of one block, from base64 of zlib of JSON. */
async function unpack(packed) {
  const binary = atob(packed);
  const bytes = new Uint8Array(binary.length);
  for (let i = 0; i < bytes.length; i++) bytes[i] = binary.charCodeAt(i);
  const plain = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return JSON.parse(await new Response(plain).text());
}

/** In small letters, of the same length, so that places in one are places in the other; both small sigmas are one. */
function small(text) {
  const lower = text.toLowerCase();
  const same = lower.length === text.length ? lower : text.replace(/\p{Changes_When_Lowercased}/gu, smallLetter);
  return same.replaceAll("\u03c2", "\u03c3");
}

/** A letter whose small one is of another length, as the Turkish I with a dot, stays as it is. */
function smallLetter(letter) {
  const lower = letter.toLowerCase();
  return lower.length === letter.length ? lower : letter;
}

/** What of some lines is searched: not what the filters find, nor a request's key. */
function said(lines) {
  const searched = lines.filter(([label]) => !NOT_SEARCHED.includes(label));
  return searched.map(([, text, , more]) => (more ? `${text} ${more}` : text)).join("\n");
}

function code(facet, value) {
  const map = known[facet];
  if (!map.has(value)) map.set(value, values[facet].push(value) - 1);
  return map.get(value);
}

function add(packed, stories) {
  sought.clear();
  const block = { packed, starts: [], from: [], to: [] };
  const number = blocks.push(block) - 1;
  const parts = [];
  let length = 0;
  const segment = (text, from, to) => {
    parts.push(text, END);
    block.starts.push(length);
    block.from.push(from);
    block.to.push(to);
    length += text.length + END.length;
    return block.starts.length - 1;
  };
  stories.forEach((story, storyNumber) => {
    const first = ids.length;
    const whole = segment(said(story.lines), first, first + story.rows.length);
    story.rows.forEach((row, index) => {
      const own = segment(`${row.id}\n${said(row.lines)}`, first + index, first + index + 1);
      ids.push(row.id);
      blockOf.push(number);
      storyOf.push(storyNumber);
      ownSegment.push(own);
      storySegment.push(whole);
      for (const facet of FACETS) codes[facet].push(code(facet, facet === "family" ? story.family : row[facet]));
    });
  });
  block.text = parts.join("");
  block.small = small(block.text);
}

/** Row to 1 where the row or its prompt has the word; a word that was looked for before is not looked for again. */
function holds(word) {
  if (sought.has(word)) return sought.get(word);
  if (sought.size === MAX_SOUGHT) sought.clear();
  const hits = new Uint8Array(ids.length);
  for (const { small, starts, from, to } of blocks) {
    let segment = 0;
    for (let at = small.indexOf(word); at >= 0; at = small.indexOf(word, starts[segment])) {
      while (segment + 1 < starts.length && starts[segment + 1] <= at) segment++;
      hits.fill(1, from[segment], to[segment]);
      if (++segment === starts.length) break;
    }
  }
  sought.set(word, hits);
  return hits;
}

/** What the filters let through, how many each choice would, and all of it shown. */
function search() {
  words = [...small($("search").value).matchAll(/"([^"]+)"?|[^\s"]+/g)].map(([all, phrase]) => phrase ?? all);
  const hits = [];
  for (const word of [...words].sort((a, b) => b.length - a.length)) {
    hits.push(holds(word)); // the longer, the rarer: where one is nowhere, the others do not matter
    if (!hits.at(-1).includes(1)) break;
  }
  const wanted = FACETS.map((name) => ($(name).value === "" ? -1 : known[name].get($(name).value.slice(1)) ?? -2));
  const columns = FACETS.map((name) => codes[name]);
  const counts = FACETS.map((name) => new Uint32Array(values[name].length));
  found = [];
  for (let row = 0; row < ids.length; row++) {
    if (!hits.every((hit) => hit[row])) continue;
    let failed = -1, failures = 0;
    for (let i = 0; i < wanted.length && failures < 2; i++) {
      if (wanted[i] !== -1 && columns[i][row] !== wanted[i]) (failed = i), failures++;
    }
    if (failures === 0) found.push(row), columns.forEach((column, i) => counts[i][column[row]]++);
    else if (failures === 1) counts[failed][columns[failed][row]]++;
  }
  FACETS.forEach((name, i) => offer(name, counts[i]));
  page = 0;
  show();
}

function offer(name, counts) {
  const select = $(name), chosen = select.value;
  const some = values[name].map((value, i) => [value, counts[i]]).filter(([value, n]) => n || chosen === `=${value}`);
  some.sort((a, b) => b[1] - a[1] || (a[0] < b[0] ? -1 : 1));
  const options = some.slice(0, MAX_CHOICES).map(([value, n]) => {
    const option = make("option", "", `${value || "none"} (${n.toLocaleString("en")})`);
    option.value = `=${value}`;
    return option;
  });
  select.replaceChildren(Object.assign(make("option", "", "all"), { value: "" }), ...options);
  select.value = chosen;
  select.closest("label").hidden = values[name].length < 2 && !chosen;
}

/** A piece of a row's text around the first hit, which is marked. */
function excerpt(row) {
  const block = blocks[blockOf[row]];
  const bounds = (segment) => [block.starts[segment], (block.starts[segment + 1] ?? block.text.length + 1) - 1];
  let [start, end] = bounds(ownSegment[row]);
  start = Math.min(end, start + ids[row].length + 1);
  if (start === end) [start, end] = bounds(storySegment[row]);
  const places = words.flatMap((word) => [[start, end], bounds(storySegment[row])].map((place) => [word, ...place]));
  const first = places.find(([word, low, high]) => block.small.slice(low, high).includes(word));
  let hit = -1, length = 0;
  if (first) {
    [start, end, length] = [first[1], first[2], first[0].length];
    hit = block.small.indexOf(first[0], start);
  }
  const from = hit < 0 ? start : Math.max(start, hit - EXCERPT / 3);
  const piece = (a, b) => block.text.slice(a, Math.max(a, Math.min(b, end)));
  const line = make("span", "excerpt", (from > start ? "… " : "") + piece(from, hit < 0 ? from + EXCERPT : hit));
  line.dir = "auto";
  if (hit >= 0) line.append(make("mark", "", piece(hit, hit + length)), piece(hit + length, from + EXCERPT));
  return line;
}

function show() {
  const value = (facet, row) => values[facet][codes[facet][row]];
  const items = found.slice(page * A_PAGE, (page + 1) * A_PAGE).map((row) => {
    const end = value("end", row), reason = value("why", row);
    const button = make("button", "");
    button.type = "button";
    button.dataset.row = row;
    button.append(make("code", "row-id", ids[row]), make("b", lookOf(end), reason ? `${end}: ${reason}` : end));
    button.append(make("span", "family", [value("family", row), value("who", row)].filter(Boolean).join(" · ")));
    button.append(excerpt(row));
    const item = make("li", "");
    item.append(button);
    return item;
  });
  $("list").replaceChildren(...items);
  const n = (number) => number.toLocaleString("en");
  const total = Number(document.body.dataset.total);
  $("found").textContent =
    ids.length < total ? `${n(found.length)} found, ${n(ids.length)} of ${n(total)} rows read`
      : found.length === 1 ? `1 of ${n(total)} rows` : `${n(found.length)} of ${n(total)} rows`;
  const last = Math.max(0, Math.ceil(found.length / A_PAGE) - 1);
  const end = Math.min(found.length, (page + 1) * A_PAGE);
  $("where").textContent = found.length ? `${n(page * A_PAGE + 1)} to ${n(end)}` : "none";
  $("back").disabled = page === 0;
  $("next").disabled = page >= last;
}

/** Lines as `datastill why` tells them. */
function told(lines) {
  const list = make("dl", "told");
  for (const [label, text, style = "", more = ""] of lines) {
    const content = make("dd", /red/.test(style) ? "dropped-text" : /green/.test(style) ? "kept-text" : "", text);
    content.dir = "auto";
    if (more) content.append(make("span", "more-told", `  ${more}`));
    list.append(make("dt", "", label), content);
  }
  return list;
}

async function open(row) {
  const story = (await unpack(blocks[blockOf[row]].packed))[storyOf[row]];
  $("story-id").textContent = ids[row];
  const parts = [told(story.lines)];
  const isChosen = (one) => one.id === ids[row];
  const attempts = story.rows.filter((one) => one.lines.length).sort((a, b) => isChosen(b) - isChosen(a));
  for (const one of attempts) {
    const attempt = make("section", isChosen(one) ? "attempt chosen" : "attempt");
    const head = make("h3", "");
    head.append(make("code", "", one.id), " ", make("span", lookOf(one.end), one.end));
    attempt.append(head, told(one.lines));
    parts.push(attempt);
  }
  $("told").replaceChildren(...parts);
  if (!$("story").open) $("story").showModal();
  $("story").scrollTop = 0;
  opened = row;
  remember();
}

/** The address says what is shown, so that it can be kept and linked to. */
function remember() {
  const state = new URLSearchParams($("search").value ? { q: $("search").value } : {});
  for (const name of FACETS) if ($(name).value) state.set(name, $(name).value.slice(1));
  if (opened !== null) state.set("row", ids[opened]);
  history.replaceState(null, "", `#${state}`);
}

function recall() {
  const state = new URLSearchParams(location.hash.slice(1));
  $("search").value = state.get("q") ?? "";
  for (const name of FACETS) {
    const option = make("option", "", state.get(name) ?? "");
    option.value = state.has(name) ? `=${state.get(name)}` : "";
    $(name).append(option);
    $(name).value = option.value;
  }
  return state.get("row");
}

const changed = () => (search(), remember());

function turn(by) {
  page += by;
  show();
  $("list").querySelector("button")?.focus();
}

async function start() {
  const wanted = recall();
  const packed = [...document.querySelectorAll("script.block")];
  document.body.dataset.total = packed.reduce((sum, block) => sum + Number(block.dataset.rows), 0);
  let next = 1;
  for (const block of packed) {
    const content = block.textContent;
    block.remove();
    add(content, await unpack(content));
    if (blocks.length < next) continue;
    next *= 2; // shown ever more seldom while they are read
    search();
    await new Promise((ready) => setTimeout(ready));
  }
  search();
  document.body.dataset.ready = "yes";
  if (wanted !== null && ids.indexOf(wanted) >= 0) await open(ids.indexOf(wanted));
}

$("search").addEventListener("input", changed);
$("filters").addEventListener("change", (event) => event.target.id !== "search" && changed());
$("filters").addEventListener("submit", (event) => event.preventDefault());
$("filters").addEventListener("reset", () => setTimeout(changed));
$("back").addEventListener("click", () => turn(-1));
$("next").addEventListener("click", () => turn(1));
$("list").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) open(Number(button.dataset.row));
});
$("close").addEventListener("click", () => $("story").close());
$("story").addEventListener("close", () => ((opened = null), remember()));
document.addEventListener("keydown", (event) => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const buttons = [...$("list").querySelectorAll("button")];
  const at = buttons.indexOf(document.activeElement);
  if (step && (at >= 0 || (step > 0 && document.activeElement === $("search")))) {
    event.preventDefault();
    (buttons[at + step] ?? (at + step < 0 ? $("search") : buttons[at]))?.focus();
  } else if (event.key === "/" && !/INPUT|SELECT/.test(document.activeElement.tagName) && !$("story").open) {
    event.preventDefault();
    $("search").focus();
  }
});
start();
