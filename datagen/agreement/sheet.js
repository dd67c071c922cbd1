"use strict";

const rows = [...document.querySelectorAll("article")];
const boxes = [...document.querySelectorAll("#choices input")];
const reviewer = document.getElementById("reviewer");
const progress = document.getElementById("progress");
const notice = document.getElementById("notice");
const store = `datastill-review-${document.body.dataset.sheet}`;

let answers = new Map(); // code of a row: names of its labels
let at = 0;
let isSaved = true;

function code() {
  return rows[at].dataset.row;
}

function show(place) {
  rows[at].hidden = true;
  at = Math.max(0, Math.min(place, rows.length - 1));
  rows[at].hidden = false;
  const labels = answers.get(code()) ?? [];
  for (const box of boxes) box.checked = labels.includes(box.value);
  const said = !answers.has(code()) ? "not answered" : labels.length ? labels.join(", ") : "no label holds";
  progress.textContent = `Text ${at + 1} of ${rows.length}: ${said}. ${answers.size} answered.`;
}

function keep() {
  isSaved = false;
  try {
    localStorage.setItem(store, JSON.stringify({ reviewer: reviewer.value, answers: [...answers] }));
  } catch {
    notice.textContent = "This browser keeps no answers: save them before you close the page.";
  }
}

function restore() {
  try {
    const kept = JSON.parse(localStorage.getItem(store) ?? "null");
    if (kept === null) return;
    reviewer.value = kept.reviewer;
    answers = new Map(kept.answers);
  } catch {
    notice.textContent = "Answers of an earlier visit, if there were any, cannot be read in this browser.";
  }
  const open = rows.findIndex((row) => !answers.has(row.dataset.row));
  at = open < 0 ? 0 : open;
}

function choose() {
  const labels = boxes.filter((box) => box.checked).map((box) => box.value);
  if (labels.length) answers.set(code(), labels);
  else answers.delete(code());
  keep();
  show(at);
}

function next() {
  if (!answers.has(code())) {
    answers.set(code(), []);
    keep();
  }
  show(at + 1);
}

function cell(value) {
  const guarded = /^['\s]*[=+\-@]|^'*[\t\r\n]/.test(value) ? `'${value}` : value;
  return `"${guarded.replaceAll('"', '""')}"`;
}

function save() {
  const name = reviewer.value.trim();
  if (!name) {
    notice.textContent = "Write your name first: the file is called after it.";
    reviewer.focus();
    return;
  }
  const lines = rows.map(({ dataset: { row } }) => {
    const labels = answers.get(row);
    return [row, labels === undefined ? "" : labels.length ? labels.join("; ") : "(none)"].map(cell).join(",");
  });
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob(["\ufeff", ["row,labels", ...lines, ""].join("\r\n")], { type: "text/csv" }));
  link.download = `${name.replaceAll(/[^\p{L}\p{N}]+/gu, "-")}.csv`;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000); // some browsers read it later
  isSaved = true;
  notice.textContent = `${answers.size} of ${rows.length} answers are in ${link.download}.`;
}

document.addEventListener("keydown", (event) => {
  if ((event.ctrlKey || event.metaKey) && event.key === "s") {
    event.preventDefault();
    save();
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target === reviewer) return;
  const box = boxes.find((one) => one.dataset.key === event.key.toLowerCase());
  if (box) {
    box.checked = !box.checked;
    choose();
  } else if (event.key === "Enter" && event.target.tagName !== "BUTTON") next();
  else if (event.key === "ArrowLeft") show(at - 1);
  else if (event.key === "ArrowRight") show(at + 1);
  else return;
  event.preventDefault();
});
reviewer.addEventListener("keydown", (event) => {
  if (event.key === "Enter") reviewer.blur();
});
reviewer.addEventListener("input", keep);
for (const box of boxes) box.addEventListener("change", choose);
document.getElementById("next").addEventListener("click", next);
document.getElementById("previous").addEventListener("click", () => show(at - 1));
document.getElementById("save").addEventListener("click", save);
window.addEventListener("beforeunload", (event) => {
  if (!isSaved && notice.textContent) event.preventDefault();
});

restore();
show(at);
