// The page of the chat: asks for a name first, then for messages.

const socket = io();
const lines = document.querySelector("#lines");
const input = document.querySelector("#text");
const typists = new Set();
const TYPING_TIMEOUT_MS = 800;
let name;
let stop;

function add(text, kind) {
  const line = document.createElement("li");
  line.textContent = text;
  line.className = kind;
  lines.append(line);
  line.scrollIntoView();
}

function count(people) {
  document.querySelector("#people").textContent = people === 1 ? "You are alone." : `There are ${people} of you.`;
}

function showTyping() {
  document.querySelector("#typing").textContent = typists.size > 0 ? `${[...typists].join(", ")} …` : "";
}

document.querySelector("form").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = input.value.trim();
  if (text === "") return;
  input.value = "";
  if (!name) {
    name = text;
    input.placeholder = "Say something";
    input.maxLength = 500;
    socket.emit("enter", name);
    return;
  }
  add(`${name}: ${text}`, "line");
  clearTimeout(stop);
  socket.emit("typing stopped");
  socket.emit("say", text);
});

input.addEventListener("input", () => {
  if (!name) return;
  socket.emit("typing");
  clearTimeout(stop);
  stop = setTimeout(() => socket.emit("typing stopped"), TYPING_TIMEOUT_MS);
});

socket.on("entered", ({ people }) => count(people));
socket.on("came", ({ name, people }) => {
  add(`${name} came`, "note");
  count(people);
});
socket.on("left", ({ name, people }) => {
  add(`${name} left`, "note");
  typists.delete(name);
  showTyping();
  count(people);
});
socket.on("said", ({ name, text }) => add(`${name}: ${text}`, "line"));
socket.on("typing", ({ name }) => {
  typists.add(name);
  showTyping();
});
socket.on("typing stopped", ({ name }) => {
  typists.delete(name);
  showTyping();
});
// After a reconnect, the server does not know the name of this client.
socket.io.on("reconnect", () => name && socket.emit("enter", name));
