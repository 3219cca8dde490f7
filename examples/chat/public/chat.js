// The conversation: connects to the first io-node of `/config.js`, and turns what comes and goes into what is seen.

import * as view from "./view.js";

const NAME = "plugnode-chat.name";
const MINE = "plugnode-chat.mine";
const PATIENCE = 10_000;

const form = document.getElementById("compose");
const nameField = document.getElementById("name");
const textField = document.getElementById("text");
const ownFace = document.getElementById("avatar");

/** Who was heard from and has not left, by client id. */
const people = new Map();
/** Ids of the messages that are shown already: a reconnect brings the history anew. */
const shown = new Set();
/** One's own client ids; a reload or a reconnect begins a new one. */
const mine = new Set(JSON.parse(sessionStorage.getItem(MINE) ?? "[]"));
/** The name that the handler knows; none before it has welcomed this client. */
let knownAs = null;
let release = null;
let visits = 0;
let welcomed = Promise.withResolvers();

nameField.value = localStorage.getItem(NAME) ?? "";
view.showFace(ownFace, nameField.value || "?");

const socket = io(server(), { auth: (give) => give(nameField.value.trim() ? { name: nameField.value.trim() } : {}) });

socket.on("connect", () => {
  mine.add(socket.id);
  sessionStorage.setItem(MINE, JSON.stringify([...mine].slice(-20)));
  view.showStatus("online", "Connected");
});

socket.on("disconnect", (reason) => {
  knownAs = null;
  welcomed = Promise.withResolvers();
  if (reason === "io server disconnect") view.showStatus("offline", "Disconnected by the server");
  else view.showStatus("connecting", "Connection lost, trying again…");
});

socket.on("connect_error", () => view.showStatus(socket.active ? "connecting" : "offline", "No answer, trying again…"));

socket.on("welcome", (you) => {
  visits += 1;
  knownAs = you.name;
  if (!nameField.value.trim()) nameField.value = you.name;
  view.showFace(ownFace, you.name);
  noteRelease(you.release);
  people.clear();
  view.showPeople([]);
  welcomed.resolve();
});

socket.on("history", (messages) => {
  const unseen = messages.filter((message) => !shown.has(message.id));
  for (const message of unseen) show(message, { old: true });
  view.addNotice(visits > 1 ? "You are back" : `You are here as ${knownAs}`, "line");
  view.showWhetherEmpty();
  view.goToLatest();
});

socket.on("message", (message) => {
  meet(message.from, message.name);
  show(message);
});

socket.on("joined", ({ id, name }) => {
  meet(id, name);
  view.addNotice(`${name} joined`);
});

socket.on("left", ({ id, name }) => {
  people.delete(id);
  view.showPeople([...people.values()]);
  view.addNotice(`${name} left`);
});

socket.on("renamed", ({ id, name, was }) => {
  meet(id, name);
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
nameField.addEventListener("input", () => view.showFace(ownFace, nameField.value || "?"));

/** Shows a message of one's own at once, and sends it. */
function say(body) {
  const item = view.addMessage({ from: socket.id ?? "", name: nameField.value.trim(), body, at: Date.now() }, { own: true });
  send(item, body);
}

async function send(item, body) {
  view.showFate(item, "pending");
  try {
    await settleName();
    const said = await ask("message", body);
    shown.add(said.id);
    noteRelease(said.release);
    view.showFate(item, "sent", { at: said.at });
  } catch (error) {
    view.showFate(item, "failed", { reason: error.message, retry: () => send(item, body) });
  }
}

function changeName() {
  settleName().catch((error) => view.addNotice(error.message));
}

/** Makes the name in the field the one that the handler knows. What is said afterwards is said under it. */
async function settleName() {
  const name = nameField.value.trim();
  if (name) localStorage.setItem(NAME, name);
  await within(PATIENCE, welcomed.promise);
  if (!name) {
    nameField.value = knownAs;
    view.showFace(ownFace, knownAs);
  } else if (name !== knownAs) {
    knownAs = await ask("set name", name);
    nameField.value = knownAs;
  }
}

/** Emits, and waits for the handler's answer. */
async function ask(event, argument) {
  const answer = await socket.timeout(PATIENCE).emitWithAck(event, argument).catch(() => {
    throw new Error("Not delivered.");
  });
  if (answer.error) throw new Error(`Refused: ${answer.error}.`);
  return answer.ok;
}

function show(message, options) {
  if (shown.has(message.id)) return;
  shown.add(message.id);
  noteRelease(options?.old ? null : message.release);
  view.addMessage(message, { own: mine.has(message.from), ...options });
}

function meet(id, name) {
  people.set(id, name);
  view.showPeople([...people.values()]);
}

/** A handler was replaced while everybody stayed: worth a line. */
function noteRelease(found) {
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
