// The page of an album. What it shows comes from the server, which keeps every change before it answers.
"use strict";

const REFRESH = 2000; // milliseconds between questions whether another window has changed something
const NOBODY = "?";
const STRIP = 6; // faces of a person in a suggestion
const OPTIONS = 8; // names that are offered
const byId = id => document.getElementById(id);
const people = byId("people");
const collator = new Intl.Collator(undefined, { numeric: true, sensitivity: "base" });
const plain = text => text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase();
const count = (number, noun) => `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;

let facts = []; // of each face: name of the photo, number in it, quality issue
let content = { version: -1, people: [], names: [], undo: "", redo: "", problem: "", messages: [], mark: "" };
let shown = []; // people in the order of the page
let owner = []; // face -> index of its person in `shown`
let suggestions = [];
let busy = false; // a change has no answer yet
let waiting = []; // undo and redo that were asked for meanwhile
const selected = new Set();
let marked = new Set(); // faces that are shown as selected
const later = new Set(); // suggestions that were put off
const buttons = new Map(); // face -> its button
const sections = new Map(); // name of a person -> its section
let current = -1; // face that the keys are about
let anchor = -1; // face from which Shift selects

// Elements are made without HTML text, so that no name can be taken for markup.
function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

// ---- talking to the server

async function ask(path, options) {
  const answer = await fetch(path, { cache: "no-store", ...options });
  return [answer.status, answer.status === 204 ? null : await answer.json()];
}

async function refresh() {
  try {
    const [status, answer] = await ask(`people?mark=${encodeURIComponent(content.mark)}`);
    if (status === 200 && !busy) show(answer);
    else if (status === 204 && byId("problem").dataset.lost) show(content);
  } catch {
    lost();
  }
}

function lost() {
  byId("problem").textContent =
    "facelib does not answer. What was done is kept: run the same command again, and open the address that it prints.";
  byId("problem").dataset.lost = "yes";
  byId("problem").hidden = false;
}

// next: faces of which the first one that is still there gets the focus afterwards.
async function change(request, next = []) {
  // A second change would be about faces that are no longer where they are seen; undoing is not about what is seen.
  if (busy) return request.kind === "undo" || request.kind === "redo" ? waiting.push(request) : 0;
  busy = true;
  try {
    const [status, answer] = await ask("change", {
      method: "POST",
      headers: { "Content-Type": "application/json" },
      body: JSON.stringify({ version: content.version, ...request }),
    });
    if (status === 200) {
      selected.clear();
      show(answer, next);
      const label = request.kind === "undo" ? `Undone: ${content.redo}` : content.undo;
      say(request.kind === "undo" ? label : `Kept: ${label}`);
    } else {
      if (answer.people) show(answer);
      say(answer.error, true);
    }
  } catch {
    lost();
    waiting = [];
  } finally {
    busy = false;
  }
  return waiting.length ? change(waiting.shift()) : 0;
}

let saying = 0;
function say(text, isError = false) {
  const status = byId("status");
  status.textContent = text;
  status.classList.toggle("error", isError);
  clearTimeout(saying);
  saying = setTimeout(() => (status.textContent = ""), isError ? 10000 : 4000);
}

// ---- people and faces

function show(answer, next = []) {
  const changed = answer.version !== content.version;
  if (answer.messages.length && answer.messages.at(-1) !== content.messages.at(-1) && content.mark) {
    say(answer.messages.at(-1));
  }
  content = answer;
  byId("problem").hidden = !content.problem;
  byId("problem").textContent = content.problem;
  delete byId("problem").dataset.lost;
  for (const kind of ["undo", "redo"]) {
    byId(kind).disabled = !content[kind];
    byId(kind).title = content[kind];
  }
  render(next);
  if (changed) loadSuggestions();
}

function ordered() {
  const rows = content.people.filter(person => person.name !== NOBODY);
  const order = byId("order").value;
  if (order !== "faces") {
    rows.sort((a, b) => (order === "nameless" && a.named - b.named) || collator.compare(a.name, b.name));
  }
  return [...rows, ...content.people.filter(person => person.name === NOBODY)];
}

function render(next = []) {
  const kept = [...next, current].find(face => buttons.has(face));
  const top = kept === undefined ? 0 : buttons.get(kept).getBoundingClientRect().top;
  const hadFocus = document.activeElement === document.body || people.contains(document.activeElement);
  const wanted = plain(byId("search").value.trim());
  shown = ordered().filter(person => !wanted || plain(person.name).includes(wanted));
  owner = [];
  const names = new Set(content.people.map(person => person.name));
  for (const [name, section] of sections) if (!names.has(name)) sections.delete(name), section.remove();
  shown.forEach((person, row) => {
    for (const face of person.faces) owner[face] = row;
    fill(sectionOf(person), person);
  });
  arrange(shown.map(person => sections.get(person.name)));
  for (const face of selected) if (owner[face] === undefined) selected.delete(face);
  const known = content.people.filter(person => person.name !== NOBODY).length;
  const unnamed = content.people.filter(person => !person.named && person.name !== NOBODY).length;
  byId("summary").textContent = `${count(facts.length, "face")}, ${known} people, ${unnamed} without a name`;
  if (!shown.length) people.replaceChildren(make("p", { textContent: "Nobody." }));
  const target = [kept, shown[0]?.faces[0]].find(face => owner[face] !== undefined);
  showSelection();
  if (target === undefined) return;
  setCurrent(target);
  const isAsked = byId("question").contains(document.activeElement);
  if (target === kept && !isAsked) window.scrollBy(0, buttons.get(kept).getBoundingClientRect().top - top);
  if (hadFocus && document.activeElement !== buttons.get(target)) focusFace(target);
}

// Rows that are in place stay there: one that is taken out is laid out anew.
function arrange(rows) {
  let place = people.firstElementChild;
  for (const row of rows) {
    if (place && place !== row && place.nextElementSibling === row) {
      people.append(place); // it belongs farther down
      place = row;
    }
    if (place === row) place = row.nextElementSibling;
    else people.insertBefore(row, place);
  }
  while (place) {
    const next = place.nextElementSibling;
    place.remove();
    place = next;
  }
}

function sectionOf(person) {
  if (!sections.has(person.name)) {
    const title = make("h2");
    const heading = make("div", {}, title);
    if (person.name !== NOBODY) {
      heading.append(make("button", { className: "rename", textContent: person.named ? "Rename…" : "Name…" }));
    }
    const list = make("div", { className: "faces" });
    list.setAttribute("role", "listbox");
    list.setAttribute("aria-multiselectable", "true");
    const section = make("section", { className: "person" }, heading, list);
    section.dataset.name = person.name;
    section.classList.toggle("nameless", !person.named);
    sections.set(person.name, section);
  }
  return sections.get(person.name);
}

function fill(section, person) {
  const title = person.name === NOBODY ? "Not sorted: of low quality, or nobody's" : person.name;
  section.querySelector("h2").replaceChildren(title, " ", make("small", { textContent: count(person.faces.length, "face") }));
  const list = section.lastChild;
  list.setAttribute("aria-label", title);
  const key = person.faces.join();
  // Faces that have gone to another person are no longer in this list, whatever its key says.
  if (list.key === key && list.childElementCount === person.faces.length) return;
  list.key = key;
  list.replaceChildren(...person.faces.map(buttonOf));
}

function buttonOf(face) {
  if (!buttons.has(face)) {
    const [photo, number, issue] = facts[face];
    const title = `${photo}, face ${number}${issue ? `, ${issue}` : ""}`;
    const image = make("img", { loading: "lazy", decoding: "async", alt: title, src: `face/${face}`, draggable: false });
    const button = make("button", { className: "face", title, tabIndex: -1 }, image);
    button.dataset.face = face;
    button.setAttribute("role", "option");
    buttons.set(face, button);
  }
  return buttons.get(face);
}

function setCurrent(face) {
  if (buttons.has(current)) buttons.get(current).tabIndex = -1;
  current = face;
  if (buttons.has(face)) buttons.get(face).tabIndex = 0;
}

function focusFace(face) {
  if (face === undefined || owner[face] === undefined) return;
  setCurrent(face);
  const button = buttons.get(face);
  button.focus({ preventScroll: true });
  reveal(button);
  requestAnimationFrame(() => reveal(button)); // rows that came into view may have got another height
}

function reveal(button) {
  // The bars above and below cover a part of the page.
  const box = button.getBoundingClientRect();
  const upper = document.querySelector("header").offsetHeight + 40;
  const lower = window.innerHeight - 80;
  if (box.top < upper) window.scrollBy(0, box.top - upper);
  else if (box.bottom > lower) window.scrollBy(0, box.bottom - lower);
}

function select(faces, on) {
  for (const face of faces) on ? selected.add(face) : selected.delete(face);
  showSelection();
}

function showSelection() {
  for (const face of marked) if (!selected.has(face)) buttons.get(face).removeAttribute("aria-selected");
  for (const face of selected) buttons.get(face).setAttribute("aria-selected", "true");
  marked = new Set(selected);
  byId("bar").hidden = !selected.size;
  byId("selected").textContent = `${count(selected.size, "face")} selected`;
}

function selectTo(face) {
  const from = owner[anchor] === undefined ? face : anchor;
  const all = shown.flatMap(person => person.faces);
  const [first, last] = [all.indexOf(from), all.indexOf(face)].sort((a, b) => a - b);
  select(all.slice(first, last + 1), true);
}

// ---- moving about

const columns = () => Math.max(1, Math.floor((people.clientWidth + 6) / 102)); // cells of 96 pixels with gaps of 6

function neighbour(key) {
  const row = owner[current];
  const faces = shown[row].faces;
  const place = faces.indexOf(current);
  if (key === "ArrowRight") return faces[place + 1] ?? shown[row + 1]?.faces[0];
  if (key === "ArrowLeft") return faces[place - 1] ?? shown[row - 1]?.faces.at(-1);
  const column = place % columns();
  if (key === "ArrowDown") {
    if (place - column + columns() < faces.length) return faces[Math.min(place + columns(), faces.length - 1)];
    const below = shown[row + 1]?.faces;
    return below?.[Math.min(column, below.length - 1)];
  }
  if (place >= columns()) return faces[place - columns()];
  const above = shown[row - 1]?.faces;
  if (!above) return undefined;
  const last = above.length - 1 - ((above.length - 1) % columns());
  return above[Math.min(last + column, above.length - 1)];
}

const nextPerson = step => shown[(owner[current] ?? 0) + step]?.faces[0];

// Faces to go on with after these: those that follow in the row, those before, the next person.
function after(faces) {
  const gone = new Set(faces);
  const row = owner[faces[0]];
  const own = shown[row]?.faces ?? [];
  const place = own.indexOf(faces[0]);
  const rest = [...own.slice(place), ...own.slice(0, place).reverse()].filter(face => !gone.has(face));
  return [...rest, ...[shown[row + 1], shown[row - 1]].flatMap(person => person?.faces.slice(0, 1) ?? [])];
}

// ---- what people do

const chosen = () => (selected.size ? shown.flatMap(person => person.faces).filter(face => selected.has(face)) : [current]);

function namePerson(person) {
  if (!person || person.name === NOBODY) return;
  const row = shown.indexOf(person);
  const following = [shown[row + 1]?.faces[0], person.faces[0]].filter(face => face !== undefined);
  openNaming(`Who is ${person.name}?`, person, name => change({ kind: "name", people: [person.name], name }, following));
}

function moveFaces(faces) {
  const title = `Whose ${faces.length === 1 ? "face is this" : "faces are these"}?`;
  openNaming(title, null, name => change({ kind: "move", faces, name }, after(faces)));
}

function act(action) {
  const faces = chosen();
  if (action === "clear") return select([...selected], false);
  if (faces[0] === undefined || faces[0] < 0) return undefined;
  if (action === "move") return moveFaces(faces);
  if (action === "split") return change({ kind: "move", faces, name: "" }, after(faces));
  return change({ kind: action, faces }, after(faces));
}

function openPhoto(face) {
  const [photo, number] = facts[face];
  const image = byId("photo").querySelector("img");
  byId("photo").querySelector("p").textContent = `${photo}, face ${number}`;
  image.onerror = () => (byId("photo").querySelector("p").textContent = `The picture of ${photo} is gone.`);
  image.src = `photo/${face}`;
  image.alt = photo;
  byId("photo").showModal();
}

// ---- the dialog for a name

let naming = null; // { person, accept, options, chosen }

function openNaming(title, person, accept) {
  naming = { person, accept, options: [], chosen: -1, back: document.activeElement };
  byId("naming-title").textContent = title;
  byId("name").value = person?.named ? person.name : "";
  byId("naming").showModal();
  byId("name").select();
  offerNames();
}

function offerNames() {
  const typed = plain(byId("name").value.trim());
  const rows = content.people.filter(
    person => person.name !== NOBODY && person !== naming.person && (person.named || plain(person.name).startsWith(typed))
  );
  const there = new Set(content.people.map(person => person.name));
  const others = content.names.filter(name => !there.has(name)).map(name => ({ name, named: true, faces: [] }));
  const fits = person => (plain(person.name).startsWith(typed) ? 0 : plain(person.name).includes(typed) ? 1 : 2);
  naming.options = typed
    ? [...rows, ...others]
        .filter(person => fits(person) < 2)
        .sort((a, b) => fits(a) - fits(b) || b.named - a.named || b.faces.length - a.faces.length)
        .slice(0, OPTIONS)
    : [];
  naming.chosen = naming.options.findIndex(person => plain(person.name) === typed);
  showNames();
}

function showNames() {
  const items = naming.options.map((person, i) => {
    const note = make("small", { textContent: person.faces.length ? count(person.faces.length, "face") : "in the gallery" });
    const picture = person.faces.length ? [make("img", { src: `face/${person.faces[0]}`, alt: "" })] : [];
    const item = make("li", { id: `option${i}` }, ...picture, make("span", { textContent: person.name }), note);
    item.setAttribute("role", "option");
    item.setAttribute("aria-selected", i === naming.chosen);
    item.onclick = () => accept(person.name);
    return item;
  });
  byId("names").replaceChildren(...items);
  byId("name").setAttribute("aria-activedescendant", naming.chosen < 0 ? "" : `option${naming.chosen}`);
  const option = naming.options[naming.chosen];
  const merges = option?.faces.length && naming.person;
  byId("naming-hint").textContent = merges
    ? `Enter: ${naming.person.name} and ${option.name} become one person.`
    : "Enter accepts, ↓ chooses a name, Esc closes.";
}

function accept(name) {
  const { accept: go, back } = naming;
  if (!name.trim()) return;
  byId("naming").close();
  back?.focus?.({ preventScroll: true });
  go(name);
}

byId("name").addEventListener("input", offerNames);
byId("name").addEventListener("keydown", event => {
  const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  if (step && naming.options.length) {
    event.preventDefault();
    const size = naming.options.length;
    naming.chosen = naming.chosen < 0 ? (step > 0 ? 0 : size - 1) : (naming.chosen + step + size) % size;
    showNames();
  } else if (event.key === "Tab" && !event.shiftKey && naming.options.length) {
    event.preventDefault();
    byId("name").value = naming.options[Math.max(naming.chosen, 0)].name;
    offerNames();
  } else if (event.key === "Enter" && !event.isComposing) {
    event.preventDefault();
    accept(naming.options[naming.chosen]?.name ?? byId("name").value);
  }
});

// ---- suggestions

let loading = 0;
function loadSuggestions() {
  clearTimeout(loading);
  loading = setTimeout(async () => {
    try {
      const [status, answer] = await ask("suggestions");
      if (status !== 200 || answer.version !== content.version) return;
      suggestions = answer.suggestions;
      showQuestion();
    } catch {
      lost();
    }
  }, 100);
}

const pairOf = each => JSON.stringify([each.first, each.second]);
const question = () => suggestions.find(each => !later.has(pairOf(each)));

function showQuestion() {
  const each = question();
  const hadFocus = byId("question").contains(document.activeElement);
  byId("question").hidden = !each;
  if (!each) {
    if (hadFocus) focusFace(current);
    return;
  }
  byId("question-count").textContent = `${suggestions.filter(one => !later.has(pairOf(one))).length} left`;
  const sides = byId("question").querySelectorAll(".side");
  [each.first, each.second].forEach((name, i) => {
    const faces = content.people.find(person => person.name === name)?.faces ?? [];
    sides[i].querySelector("h3").textContent = `${name} (${count(faces.length, "face")})`;
    const pictures = faces.slice(0, STRIP).map(face => make("img", { src: `face/${face}`, alt: facts[face][0] }));
    sides[i].querySelector(".strip").replaceChildren(...pictures);
  });
  const rate = each.false_match_rate;
  const [percent, pairs] = [100 * rate, 1 / rate].map(value =>
    value.toLocaleString("en", { maximumSignificantDigits: 2 })
  );
  byId("question-text").textContent =
    `The answer decides ${count(each.faces, "face")}. False match rate ${percent} %: of about ${pairs} pairs ` +
    "of different people, one is as alike.";
  if (hadFocus) goToQuestion();
}

function goToQuestion() {
  byId("question").focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

async function answerQuestion(answer) {
  const each = question();
  if (!each) return;
  if (answer === "later") {
    later.add(pairOf(each));
    showQuestion();
  } else if (answer === "same") {
    await change({ kind: "name", people: [each.second], name: each.first });
  } else {
    await change({ kind: "different", people: [each.first, each.second] });
  }
}

// ---- keys and clicks

const isOpen = () => document.querySelector("dialog[open]") !== null;

document.addEventListener("keydown", event => {
  if (isOpen() || event.isComposing || event.altKey) return;
  const key = event.key.length === 1 ? event.key.toLowerCase() : event.key;
  const isTyping = ["INPUT", "SELECT"].includes(event.target.tagName);
  if (event.ctrlKey || event.metaKey) {
    const kind = key === "y" || (key === "z" && event.shiftKey) ? "redo" : key === "z" ? "undo" : "";
    if (!kind || isTyping) return;
    event.preventDefault();
    change({ kind });
    return;
  }
  if (isTyping) {
    if (event.target.id === "search" && ["Enter", "Escape", "ArrowDown"].includes(key)) {
      event.preventDefault();
      if (key === "Escape") event.target.value = "";
      render();
      focusFace(current);
    }
    return;
  }
  const isQuestion = byId("question").contains(event.target);
  if (isQuestion && { y: 1, n: 1, l: 1 }[key]) {
    event.preventDefault();
    answerQuestion({ y: "same", n: "different", l: "later" }[key]);
    return;
  }
  const onFace = event.target.classList.contains("face") || event.target === document.body;
  const keys = {
    "/": () => byId("search").focus(),
    "?": () => byId("keys").showModal(),
    q: () => byId("question").hidden || goToQuestion(),
    Escape: () => (isQuestion ? focusFace(current) : act("clear")),
    j: () => focusFace(isQuestion ? current : nextPerson(1)),
    k: () => focusFace(nextPerson(-1)),
  };
  const onFaces = {
    " ": () => (event.shiftKey ? selectTo(current) : select([current], !selected.has(current)), (anchor = current)),
    Enter: () => namePerson(shown[owner[current]]),
    n: () => namePerson(shown[owner[current]]),
    a: () => select(shown[owner[current]].faces, !shown[owner[current]].faces.every(face => selected.has(face))),
    m: () => act("move"),
    s: () => act("split"),
    r: () => act("not_this_person"),
    d: () => act("not_a_face"),
    o: () => openPhoto(current),
    Home: () => focusFace(shown[0].faces[0]),
    End: () => focusFace(shown.at(-1).faces.at(-1)),
  };
  const run = keys[key] ?? (onFace && owner[current] !== undefined ? onFaces[key] : undefined);
  if (run) {
    event.preventDefault();
    run();
  } else if (onFace && key.startsWith("Arrow") && owner[current] !== undefined) {
    event.preventDefault();
    const to = neighbour(key);
    focusFace(to);
    if (event.shiftKey && to !== undefined) selectTo(to);
  }
});

people.addEventListener("click", event => {
  const face = event.target.closest(".face");
  if (face) {
    const number = +face.dataset.face;
    if (event.shiftKey) selectTo(number);
    else select([number], !selected.has(number));
    anchor = number;
    setCurrent(number);
  } else if (event.target.classList.contains("rename")) {
    namePerson(shown.find(person => person.name === event.target.closest(".person").dataset.name));
  }
});
people.addEventListener("dblclick", event => {
  const face = event.target.closest(".face");
  if (face) openPhoto(+face.dataset.face);
});
people.addEventListener("focusin", event => {
  if (event.target.classList.contains("face")) setCurrent(+event.target.dataset.face);
});
byId("bar").addEventListener("click", event => {
  const action = event.target.closest("button")?.dataset.action;
  if (action) act(action);
});
byId("question").addEventListener("click", event => {
  const answer = event.target.closest("button")?.dataset.answer;
  if (answer) answerQuestion(answer);
});
byId("undo").addEventListener("click", () => change({ kind: "undo" }));
byId("redo").addEventListener("click", () => change({ kind: "redo" }));
byId("help").addEventListener("click", () => byId("keys").showModal());
byId("search").addEventListener("input", () => render());
byId("order").addEventListener("change", () => render());
for (const dialog of document.querySelectorAll("dialog")) {
  dialog.addEventListener("click", event => event.target === dialog && dialog.close()); // beside it
}
document.addEventListener("visibilitychange", () => document.hidden || refresh());
setInterval(() => document.hidden || busy || refresh(), REFRESH);

(async () => {
  try {
    [, facts] = await ask("faces");
    const [, answer] = await ask("people");
    show(answer);
  } catch {
    lost();
  }
})();
