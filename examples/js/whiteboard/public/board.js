// The page of the whiteboard. Positions are fractions of its width and height, so that they work on screens of any size.

const socket = io();
const canvas = document.querySelector("canvas");
const pen = canvas.getContext("2d");
const COLORS = ["black", "crimson", "seagreen", "royalblue", "gold"];
let color = COLORS[0];
let last;

function fit() {
  canvas.width = innerWidth;
  canvas.height = innerHeight;
}

function draw({ from, to, color }) {
  pen.beginPath();
  pen.moveTo(from.x * canvas.width, from.y * canvas.height);
  pen.lineTo(to.x * canvas.width, to.y * canvas.height);
  pen.strokeStyle = color;
  pen.lineWidth = 2;
  pen.stroke();
}

const position = (event) => ({ x: event.clientX / canvas.width, y: event.clientY / canvas.height });

canvas.addEventListener("pointerdown", (event) => (last = position(event)));
canvas.addEventListener("pointermove", (event) => {
  if (!last) return;
  const line = { from: last, to: position(event), color };
  last = line.to;
  draw(line);
  socket.emit("drawing", line);
});
for (const end of ["pointerup", "pointercancel", "pointerleave"]) canvas.addEventListener(end, () => (last = undefined));

for (const choice of COLORS) {
  const button = document.createElement("button");
  button.style.background = choice;
  button.ariaLabel = choice;
  button.addEventListener("click", () => (color = choice));
  document.querySelector("nav").append(button);
}

socket.on("drawing", draw);
addEventListener("resize", fit);
fit();
