// What is to be seen: builds and changes the page's elements. Knows nothing of sockets. All that people typed goes in
// by `textContent`, so that no markup of theirs is ever one.

const $ = (id) => document.getElementById(id);
const list = $("messages");
const CLOSE_TOGETHER = 5 * 60 * 1000;

/** Shows the state of the connection: `connecting`, `online` or `offline`, and a few words. */
export function showStatus(state, words) {
  $("status").dataset.state = state;
  $("status-text").textContent = words;
}

/** Shows which release of the handler answered last; `changed` draws the eye to it. */
export function showRelease(release, changed) {
  const badge = $("release");
  badge.hidden = false;
  badge.querySelector("code").textContent = release.slice(0, 7);
  badge.classList.remove("changed");
  if (changed) requestAnimationFrame(() => badge.classList.add("changed"));
}

/** Shows the faces of `names`, the first few of them. */
export function showPeople(names) {
  const few = names.slice(0, names.length > 4 ? 3 : 4);
  const faces = few.map((name) => {
    const face = document.createElement("li");
    face.className = "avatar";
    face.title = name;
    showFace(face, name);
    return face;
  });
  if (names.length > few.length) {
    const more = document.createElement("li");
    more.className = "avatar more";
    more.textContent = `+${names.length - few.length}`;
    more.title = names.slice(few.length).join(", ");
    faces.push(more);
  }
  $("people").replaceChildren(...faces);
}

/** Puts initials and colour of `name` on an element. */
export function showFace(element, name) {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words.at(-1)].map((word) => [...word][0]) : [...(words[0] ?? "?")].slice(0, 2);
  element.textContent = letters.join("").toUpperCase();
  element.style.setProperty("--hue", hue(name));
}

/** Adds a message `{from, name, body, at}` and gives its element. */
export function addMessage(message, { own = false, old = false } = {}) {
  const item = $("message").content.firstElementChild.cloneNode(true);
  item.classList.toggle("own", own);
  item.classList.toggle("new", !old);
  item.dataset.from = message.from;
  item.dataset.at = message.at;
  item.style.setProperty("--hue", hue(message.name));
  showFace(item.querySelector(".avatar"), message.name);
  item.querySelector(".author").textContent = message.name;
  item.querySelector(".body").textContent = message.body;
  showTime(item, message.at);
  const before = list.lastElementChild;
  item.classList.toggle(
    "same",
    before?.dataset.from === message.from &&
      before.querySelector(".author").textContent === message.name &&
      message.at - before.dataset.at < CLOSE_TOGETHER,
  );
  return append(item, own);
}

/** Says what became of a message of one's own: `pending`, `sent` at a time, or `failed` with a reason and a way out. */
export function showFate(item, fate, { at, reason, retry } = {}) {
  item.classList.toggle("pending", fate === "pending");
  item.classList.toggle("failed", fate === "failed");
  if (at) showTime(item, at);
  const follow = isAtEnd();
  const words = item.querySelector(".fate");
  words.hidden = fate !== "failed";
  words.textContent = reason ? `${reason} ` : "";
  if (retry) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Try again";
    button.addEventListener("click", retry, { once: true });
    words.append(button);
  }
  if (follow) goToLatest();
}

/** Adds a line about the room; kind is empty, `line` or `swap`. */
export function addNotice(words, ...kinds) {
  const item = $("notice").content.firstElementChild.cloneNode(true);
  item.classList.add("new", ...kinds);
  item.firstElementChild.textContent = words;
  append(item, false);
}

/** Shows the hint for an empty room while there is no message. */
export function showWhetherEmpty() {
  $("empty").hidden = list.querySelector(".message") !== null;
}

/** Goes to the latest message. */
export function goToLatest() {
  list.scrollTop = list.scrollHeight;
  $("latest").hidden = true;
}

$("latest").addEventListener("click", goToLatest);
list.addEventListener("scroll", () => {
  if (isAtEnd()) $("latest").hidden = true;
});
new ResizeObserver(() => $("latest").hidden && goToLatest()).observe(list);

function append(item, always) {
  const follow = always || isAtEnd();
  list.append(item);
  if (follow) goToLatest();
  else if (item.classList.contains("message")) $("latest").hidden = false;
  if (item.classList.contains("message")) $("empty").hidden = true;
  return item;
}

function isAtEnd() {
  return list.scrollHeight - list.scrollTop - list.clientHeight < 80;
}

function showTime(item, at) {
  const time = item.querySelector("time");
  const date = new Date(at);
  const today = date.toDateString() === new Date().toDateString();
  time.dateTime = date.toISOString();
  time.title = date.toLocaleString();
  time.textContent = date.toLocaleString([], {
    hour: "2-digit",
    minute: "2-digit",
    ...(today ? {} : { day: "numeric", month: "short" }),
  });
}

function hue(name) {
  let hash = 7;
  for (const character of name) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  return (hash * 137.508) % 360 | 0;
}
