// The page: what is shown, and what happens on a click. Text is always set as text, never as HTML.

import { Refused, ask, info, remove, upload } from "/static/stream.js";
import { WORDS } from "/static/words.js";

const at = (id) => document.getElementById(id);
const state = { language: "en", documents: new Map(), chosen: null, history: [], running: null };
const words = () => WORDS[state.language];
// Messages that are sent along with the next question.
const MOST_TURNS = 40;

function element(tag, text, classes = "") {
  const made = document.createElement(tag);
  made.textContent = text;
  made.className = classes;
  return made;
}

// Languages

function speak(language) {
  state.language = language;
  localStorage.setItem("language", language);
  document.documentElement.lang = language;
  for (const one of document.querySelectorAll("[data-words]")) {
    one.textContent = words()[one.dataset.words];
  }
  for (const one of document.querySelectorAll("[data-label]")) {
    one.setAttribute("aria-label", words()[one.dataset.label]);
  }
  const other = language === "en" ? "zh" : "en";
  at("language").textContent = other === "zh" ? "中文" : "English";
  at("language").lang = other;
  showDocuments();
}

// Documents

function showDocuments() {
  const rows = [...state.documents.values()].map((one) => {
    const row = element("li", "", one.id === state.chosen ? "chosen" : "");
    const choose = element("button", one.name, "name");
    choose.type = "button";
    choose.setAttribute("aria-pressed", String(one.id === state.chosen));
    choose.onclick = () => choosing(one.id === state.chosen ? null : one.id);
    const drop = element("button", "×", "drop");
    drop.type = "button";
    drop.setAttribute("aria-label", words().remove(one.name));
    drop.onclick = () => forget(one.id);
    row.append(choose, element("small", words().size(one.tokens, one.pages.length)), drop);
    return row;
  });
  at("documents").replaceChildren(...rows);
  const chosen = state.documents.get(state.chosen);
  at("question").placeholder = chosen ? words().askDocument(chosen.name) : words().askAnything;
  for (const title of at("viewer").querySelectorAll("h3")) {
    title.textContent = words().page(title.dataset.page);
  }
}

function choosing(id) {
  state.chosen = id;
  showDocuments();
  showText([]);
}

// The text of the chosen document, passages marked; the first of them comes into view. Places are
// counted in whole characters, which JavaScript's own indices are not.
function showText(sources) {
  const chosen = state.documents.get(state.chosen);
  const shown = (chosen?.pages ?? []).flatMap((text, index) => {
    const label = String(index + 1);
    const own = sources.filter((one) => one.page === null || one.page === label);
    const title = element("h3", words().page(label));
    title.dataset.page = label;
    return chosen.pages.length > 1 ? [title, marked(text, own, sources)] : [marked(text, own, sources)];
  });
  at("viewer").replaceChildren(...shown);
  at("viewer").querySelector("mark.best")?.scrollIntoView({ block: "center" });
}

function marked(text, own, sources) {
  const characters = Array.from(text);
  const page = element("p", "");
  let place = 0;
  for (const one of [...own].sort((a, b) => a.start - b.start)) {
    const start = Math.max(place, one.start);
    page.append(characters.slice(place, start).join(""));
    page.append(element("mark", characters.slice(start, one.end).join(""), one === sources[0] ? "best" : ""));
    place = Math.max(place, one.end);
  }
  page.append(characters.slice(place).join(""));
  return page;
}

async function add(file) {
  at("status").textContent = words().uploading;
  try {
    const document = await upload(file);
    state.documents.set(document.id, document);
    choosing(document.id);
    at("status").textContent = "";
    at("question").focus();
  } catch (error) {
    explain(error);
  }
}

async function forget(id) {
  state.documents.delete(id);
  choosing(state.chosen === id ? null : state.chosen);
  await remove(id).catch(explain);
}

// Questions

function explain(error) {
  const code = error instanceof Refused ? error.code : "failed";
  at("status").textContent = words().errors[code] ?? words().errors.failed;
  at("status").className = "error";
}

function busy(running) {
  state.running = running;
  at("ask").disabled = running !== null;
  at("stop").disabled = running === null;
  at("status").className = "";
  at("status").textContent = running === null ? "" : words().thinking;
}

async function question() {
  const text = at("question").value.trim();
  if (!text || state.running) return;
  const about = state.chosen;
  const running = new AbortController();
  const answer = element("div", "", "answer");
  at("talk").append(element("div", text, "question"), answer);
  at("question").value = "";
  busy(running);
  let failure = null;
  const notes = [];
  try {
    const asked = { question: text, document: about, history: about ? [] : state.history };
    for await (const event of ask(asked, running.signal)) {
      if (event.error) throw new Refused(event.error);
      if (event.read) at("status").textContent = words().reading(Math.round((100 * event.read[0]) / event.read[1]));
      if (event.delta) answer.textContent += event.delta;
      if (event.delta) at("status").textContent = "";
      if (event.sources) cite(answer, about, event.sources);
      if (event.notices) notes.push(words().noted(event.notices.join(" ")));
      if (event.end === "length") notes.push(words().cut);
      answer.scrollIntoView({ block: "nearest" });
    }
    if (!about) {
      state.history.push({ role: "user", content: text }, { role: "assistant", content: answer.textContent });
      if (state.history.length > MOST_TURNS) {
        state.history = state.history.slice(-MOST_TURNS);
        notes.push(words().forgotten);
      }
    }
  } catch (error) {
    if (error.name === "AbortError") notes.push(words().stopped);
    else failure = error;
  }
  busy(null);
  at("status").textContent = notes.join(" ");
  if (failure) explain(failure);
}

function cite(answer, about, sources) {
  if (sources.length === 0) return;
  if (about === state.chosen) showText(sources);
  const list = element("div", "", "sources");
  for (const one of sources.slice(0, 3)) {
    const button = element("button", `${words().source(one.page)}: ${one.text.trim().slice(0, 60)}…`);
    button.type = "button";
    button.onclick = () => {
      if (!state.documents.has(about)) return;
      if (state.chosen !== about) choosing(about);
      showText([one, ...sources.filter((other) => other !== one)]);
    };
    list.append(button);
  }
  answer.after(list);
}

// What happens

at("language").onclick = () => speak(state.language === "en" ? "zh" : "en");
at("file").onchange = () => {
  for (const file of at("file").files) add(file);
  at("file").value = "";
};
at("left").ondragover = (event) => event.preventDefault();
at("left").ondrop = (event) => {
  event.preventDefault();
  for (const file of event.dataTransfer.files) add(file);
};
at("form").onsubmit = (event) => {
  event.preventDefault();
  question();
};
at("question").onkeydown = (event) => {
  // Enter also ends a word that an input method is composing.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  question();
};
at("stop").onclick = () => state.running?.abort();
document.onkeydown = (event) => event.key === "Escape" && state.running?.abort();
at("clear").onclick = () => {
  state.running?.abort();
  state.history = [];
  at("talk").replaceChildren();
};

speak(localStorage.getItem("language") ?? (navigator.language.startsWith("zh") ? "zh" : "en"));
info().then((found) => (at("model").textContent = found.model)).catch(explain);
