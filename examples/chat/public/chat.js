// The chat's Socket.IO client: connects to the first io-node of `/config.js` and updates the view.

import * as view from "./view.js";

const NAME = "plugnode-chat.name";
const OWN_IDS = "plugnode-chat.mine";
const TIMEOUT_MS = 10_000;

const form = document.getElementById("compose");
const nameField = document.getElementById("name");
const textField = document.getElementById("text");
const ownAvatar = document.getElementById("avatar");

/** Names of the clients that joined or wrote and have not left, by client id. */
const people = new Map();
/** Ids of the messages that are already shown, because every reconnect sends the history again. */
const shown = new Set();
/** All client ids of this window; every reload or reconnect adds one. */
const ownIds = new Set(JSON.parse(sessionStorage.getItem(OWN_IDS) ?? "[]"));
/** The name that the handler has stored; null until `welcome`. */
let storedName = null;
let release = null;
let connects = 0;
let welcomed = Promise.withResolvers();

nameField.value = localStorage.getItem(NAME) ?? "";
view.showAvatar(ownAvatar, nameField.value || "?");

const socket = io(server(), { auth: (give) => give(nameField.value.trim() ? { name: nameField.value.trim() } : {}) });

socket.on("connect", () => {
  ownIds.add(socket.id);
  sessionStorage.setItem(OWN_IDS, JSON.stringify([...ownIds].slice(-20)));
  view.showStatus("online", "Connected");
});

socket.on("disconnect", (reason) => {
  storedName = null;
  welcomed = Promise.withResolvers();
  if (reason === "io server disconnect") view.showStatus("offline", "Disconnected by the server");
  else view.showStatus("connecting", "Connection lost, trying again…");
});

socket.on("connect_error", () => view.showStatus(socket.active ? "connecting" : "offline", "No answer, trying again…"));

socket.on("welcome", (you) => {
  connects += 1;
  storedName = you.name;
  if (!nameField.value.trim()) nameField.value = you.name;
  view.showAvatar(ownAvatar, you.name);
  showRelease(you.release);
  people.clear();
  view.showPeople([]);
  welcomed.resolve();
});

socket.on("history", (messages) => {
  const unseen = messages.filter((message) => !shown.has(message.id));
  for (const message of unseen) show(message, { old: true });
  view.addNotice(connects > 1 ? "You are back" : `You are here as ${storedName}`, "line");
  view.updateEmptyHint();
  view.scrollToLatest();
});

socket.on("message", (message) => {
  addPerson(message.from, message.name);
  show(message);
});

socket.on("joined", ({ id, name }) => {
  addPerson(id, name);
  view.addNotice(`${name} joined`);
});

socket.on("left", ({ id, name }) => {
  people.delete(id);
  view.showPeople([...people.values()]);
  view.addNotice(`${name} left`);
});

socket.on("renamed", ({ id, name, was }) => {
  addPerson(id, name);
  view.addNotice(`${was} is now ${name}`);
});

form.addEventListener("submit", (event) => {
  event.preventDefault();
  if (document.activeElement === nameField) textField.focus();
  const body = textField.value.trim();
  textField.value = "";
  if (body) say(body);
  else changeName();
});

textField.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  form.requestSubmit();
});

nameField.addEventListener("change", changeName);
nameField.addEventListener("input", () => view.showAvatar(ownAvatar, nameField.value || "?"));

/** Shows an own message at once, and sends it. */
function say(body) {
  const item = view.addMessage({ from: socket.id ?? "", name: nameField.value.trim(), body, at: Date.now() }, { own: true });
  send(item, body);
}

async function send(item, body) {
  view.showDelivery(item, "pending");
  try {
    await storeName();
    const said = await ask("message", body);
    shown.add(said.id);
    showRelease(said.release);
    view.showDelivery(item, "sent", { at: said.at });
  } catch (error) {
    view.showDelivery(item, "failed", { reason: error.message, retry: () => send(item, body) });
  }
}

function changeName() {
  storeName().catch((error) => view.addNotice(error.message));
}

/** Stores the name of the input field in the handler, for all messages sent afterwards. */
async function storeName() {
  const name = nameField.value.trim();
  if (name) localStorage.setItem(NAME, name);
  await within(TIMEOUT_MS, welcomed.promise);
  if (!name) {
    nameField.value = storedName;
    view.showAvatar(ownAvatar, storedName);
  } else if (name !== storedName) {
    storedName = await ask("set name", name);
    nameField.value = storedName;
  }
}

/** Emits an event and waits for the acknowledgement. */
async function ask(event, argument) {
  const answer = await socket.timeout(TIMEOUT_MS).emitWithAck(event, argument).catch(() => {
    throw new Error("Not delivered.");
  });
  if (answer.error) throw new Error(`Refused: ${answer.error}.`);
  return answer.ok;
}

function show(message, options) {
  if (shown.has(message.id)) return;
  shown.add(message.id);
  showRelease(options?.old ? null : message.release);
  view.addMessage(message, { own: ownIds.has(message.from), ...options });
}

function addPerson(id, name) {
  people.set(id, name);
  view.showPeople([...people.values()]);
}

/** Shows the release that answered, with a notice if it has changed. */
function showRelease(found) {
  if (!found || found === release) return;
  view.showRelease(found, release !== null);
  if (release !== null) view.addNotice(`Now answered by release ${found.slice(0, 7)}`, "swap");
  release = found;
}

function server() {
  const [first] = globalThis.SOCKET_SERVERS ?? [];
  if (!first) return location.origin;
  const host = first.host.includes(":") ? `[${first.host}]` : first.host;
  return `${location.protocol}//${host}:${first.port}`;
}

function within(time, promise) {
  const late = new Promise((_, fail) => setTimeout(fail, time, new Error("Not connected.")));
  return Promise.race([promise, late]);
}
