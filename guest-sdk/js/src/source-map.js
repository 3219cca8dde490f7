// Formats errors with the files and lines of the original program, using the script's source map.

const { host } = require("boot");

const maps = new Map();
/** Matches stack frames of the runtime itself. */
const OWN = /\((?:<input>|plugnode:boot|native)|\(plugnode[/\w.]*:\d|at <eval>/;
const FRAME = /^(\s*at .*?\(?)([^\s()]+?):(\d+)(?::(\d+))?(\)?)$/;
/** Number of lines shown before and after the failing line. */
const CONTEXT_LINES = 2;
const MAX_LINE_LENGTH = 160;

/** The message, the failing code with the lines around it, and the stack. */
function explain(error) {
  if (!(error instanceof Error)) {
    const thrown = typeof error === "string" ? error : require("inspect").inspect(error);
    return `${thrown} (no stack: throw an Error to get one)`;
  }
  const isInterrupted = error.name === "InternalError" && error.message === "interrupted";
  const head = isInterrupted ? "the event exceeded its time limit (limits.time-ms)" : `${error.name}: ${error.message}`;
  const frames = String(error.stack ?? "")
    .split("\n")
    .filter((line) => /^\s*at /.test(line) && !OWN.test(line))
    .map(translate);
  const place = frames.find((frame) => frame.file);
  const code = place ? frameOf(place) : "";
  const cause = error.cause === undefined ? "" : `\n  caused by ${explain(error.cause)}`;
  return [head, code, ...frames.map((frame) => frame.text)].filter(Boolean).join("\n") + cause;
}

function translate(line) {
  const match = FRAME.exec(line.trimEnd());
  if (!match) return { text: `    ${line.trim()}` };
  const [, before, file, row, column, after] = match;
  const place = original(file, Number(row), Number(column ?? 1));
  return { ...place, text: `    ${before.trim()}${before.endsWith("(") ? "" : " "}${place.file}:${place.row}:${place.column}${after}` };
}

/** The position in the original source file. */
function original(file, row, column) {
  const map = mapOf(file);
  const line = map?.lines[row - 1];
  let found;
  for (const segment of line ?? []) {
    if (segment[0] > column - 1) break;
    found = segment;
  }
  if (!found) return { file, row, column };
  const [, source, sourceRow, sourceColumn] = found;
  return { file: map.sources[source], row: sourceRow + 1, column: sourceColumn + 1, content: map.contents?.[source] };
}

function mapOf(file) {
  if (!maps.has(file)) {
    let map = null;
    try {
      const text = host.read(`${file}.map`);
      if (text) map = parse(JSON.parse(text));
    } catch {}
    maps.set(file, map);
  }
  return maps.get(file);
}

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** Parses a source map of version 3 into the segments of each generated line. */
function parse({ sources, sourcesContent, mappings }) {
  const value = new Map([...DIGITS].map((digit, index) => [digit, index]));
  let [source, row, column] = [0, 0, 0];
  const lines = mappings.split(";").map((line) => {
    let generated = 0;
    const segments = [];
    for (const text of line.split(",")) {
      const numbers = [];
      let [number, shift] = [0, 0];
      for (const digit of text) {
        const bits = value.get(digit);
        number += (bits & 31) << shift;
        shift += 5;
        if (bits & 32) continue;
        numbers.push(number & 1 ? -(number >> 1) : number >> 1);
        [number, shift] = [0, 0];
      }
      if (numbers.length === 0) continue;
      generated += numbers[0];
      if (numbers.length < 4) continue;
      source += numbers[1];
      row += numbers[2];
      column += numbers[3];
      segments.push([generated, source, row, column]);
    }
    return segments;
  });
  return { lines, sources, contents: sourcesContent };
}

/** The source lines around a position, with a marker. */
function frameOf({ file, row, column, content }) {
  const lines = (content ?? host.read(file))?.split("\n");
  if (!lines?.[row - 1]) return "";
  const first = Math.max(1, row - CONTEXT_LINES);
  const last = Math.min(lines.length, row + CONTEXT_LINES);
  const width = String(last).length;
  const shown = [];
  for (let number = first; number <= last; number++) {
    const line = lines[number - 1].slice(0, MAX_LINE_LENGTH);
    shown.push(`  ${number === row ? ">" : " "} ${String(number).padStart(width)} | ${line}`);
    if (number === row && column <= MAX_LINE_LENGTH) shown.push(`    ${" ".repeat(width)} | ${" ".repeat(Math.max(0, column - 1))}^`);
  }
  return shown.join("\n");
}

module.exports = { explain };
