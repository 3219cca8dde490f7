// The view: creates and updates the page's elements. Knows nothing of sockets. User input is inserted with `textContent`, so that it
// is never parsed as markup.

const $ = (id) => document.getElementById(id);
const list = $("messages");
/** Messages of one person within this many milliseconds form a group. */
const GROUP_MS = 5 * 60 * 1000;

/** Shows the state of the connection (`connecting`, `online` or `offline`) and a text. */
export function showStatus(state, text) {
  $("status").dataset.state = state;
  $("status-text").textContent = text;
}

/** Shows the release of the handler that answered last; highlights it if `changed`. */
export function showRelease(release, changed) {
  const badge = $("release");
  badge.hidden = false;
  badge.querySelector("code").textContent = release.slice(0, 7);
  badge.classList.remove("changed");
  if (changed) requestAnimationFrame(() => badge.classList.add("changed"));
}

/** Shows the avatars of the first few `names`. */
export function showPeople(names) {
  const few = names.slice(0, names.length > 4 ? 3 : 4);
  const avatars = few.map((name) => {
    const avatar = document.createElement("li");
    avatar.className = "avatar";
    avatar.title = name;
    showAvatar(avatar, name);
    return avatar;
  });
  if (names.length > few.length) {
    const more = document.createElement("li");
    more.className = "avatar more";
    more.textContent = `+${names.length - few.length}`;
    more.title = names.slice(few.length).join(", ");
    avatars.push(more);
  }
  $("people").replaceChildren(...avatars);
}

/** Shows initials and colour of `name` on an element. */
export function showAvatar(element, name) {
  const words = name.trim().split(/\s+/).filter(Boolean);
  const letters = words.length > 1 ? [words[0], words.at(-1)].map((word) => [...word][0]) : [...(words[0] ?? "?")].slice(0, 2);
  element.textContent = letters.join("").toUpperCase();
  element.style.setProperty("--hue", hue(name));
}

/** Adds a message `{from, name, body, at}` and returns its element. */
export function addMessage(message, { own = false, old = false } = {}) {
  const item = $("message").content.firstElementChild.cloneNode(true);
  item.classList.toggle("own", own);
  item.classList.toggle("new", !old);
  item.dataset.from = message.from;
  item.dataset.at = message.at;
  item.style.setProperty("--hue", hue(message.name));
  showAvatar(item.querySelector(".avatar"), message.name);
  item.querySelector(".author").textContent = message.name;
  item.querySelector(".body").textContent = message.body;
  showTime(item, message.at);
  const before = list.lastElementChild;
  item.classList.toggle(
    "same",
    before?.dataset.from === message.from &&
      before.querySelector(".author").textContent === message.name &&
      message.at - before.dataset.at < GROUP_MS,
  );
  return append(item, own);
}

/** Shows the delivery state of an own message: `pending`, `sent` with its time, or `failed` with a reason and a retry button. */
export function showDelivery(item, state, { at, reason, retry } = {}) {
  item.classList.toggle("pending", state === "pending");
  item.classList.toggle("failed", state === "failed");
  if (at) showTime(item, at);
  const follow = isAtEnd();
  const text = item.querySelector(".fate");
  text.hidden = state !== "failed";
  text.textContent = reason ? `${reason} ` : "";
  if (retry) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Try again";
    button.addEventListener("click", retry, { once: true });
    text.append(button);
  }
  if (follow) scrollToLatest();
}

/** Adds a notice; kinds are `line` or `swap`. */
export function addNotice(text, ...kinds) {
  const item = $("notice").content.firstElementChild.cloneNode(true);
  item.classList.add("new", ...kinds);
  item.firstElementChild.textContent = text;
  append(item, false);
}

/** Shows the hint for an empty chat while there is no message. */
export function updateEmptyHint() {
  $("empty").hidden = list.querySelector(".message") !== null;
}

/** Scrolls to the latest message. */
export function scrollToLatest() {
  list.scrollTop = list.scrollHeight;
  $("latest").hidden = true;
}

$("latest").addEventListener("click", scrollToLatest);
list.addEventListener("scroll", () => {
  if (isAtEnd()) $("latest").hidden = true;
});
new ResizeObserver(() => $("latest").hidden && scrollToLatest()).observe(list);

function append(item, always) {
  const follow = always || isAtEnd();
  list.append(item);
  if (follow) scrollToLatest();
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
