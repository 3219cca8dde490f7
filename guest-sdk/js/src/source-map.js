// Formats errors with the files and lines of the original program, using the source map that `plugnode build` wrote: its format is
// described in host/plugnode/src/cli/script/source_map.rs.

const { host } = require("boot");

const maps = new Map();
/** Matches stack frames of the runtime itself. */
const OWN = /(?:at |\()<input>|\((?:plugnode:boot|native)|\(plugnode[/\w.]*:\d|at <eval>/;
const FRAME = /^(\s*at .*?\(?)([^\s()]+?):(\d+)(?::(\d+))?(\)?)$/;
/** Matches files of npm packages. */
const PACKAGE = /(?:^|\/)node_modules\//;
/** Frames that are shown, like Node. */
const MAX_FRAMES = 10;
/** Number of lines shown before and after the failing line. */
const CONTEXT_LINES = 2;
const MAX_LINE_LENGTH = 160;
/** Errors that are shown of an AggregateError, and of a chain of causes. */
const MAX_ERRORS = 5;

/** How the runtime wraps a CommonJS script: its name, and the characters before the script on its first line. */
let wrapper = { name: undefined, length: 0 };

function setWrapper(name, length) {
  wrapper = { name, length };
}

/** The message, the failing code with the lines around it, and the stack. `left` bounds the errors shown, which may refer to each other. */
function explain(error, left = { errors: MAX_ERRORS }) {
  left.errors--;
  if (!(error instanceof Error)) {
    const thrown = typeof error === "string" ? error : require("inspect").inspect(error);
    return `${thrown} (no stack: throw an Error to get one)`;
  }
  const isInterrupted = error.name === "InternalError" && error.message === "interrupted";
  const head = isInterrupted ? timeoutText() : [error.name, error.message].filter(Boolean).join(": ");
  const frames = String(error.stack ?? "")
    .split("\n")
    .filter((line) => /^\s*at /.test(line) && !OWN.test(line))
    .slice(0, MAX_FRAMES)
    .map(translate);
  const files = frames.filter((frame) => frame.file);
  const place = files.find(({ file }) => !PACKAGE.test(file)) ?? files[0];
  const code = place ? frameOf(place) : "";
  const parts = [head, code, ...frames.map((frame) => frame.text)];
  const within = Array.isArray(error.errors) ? error.errors.map((inner) => ["one of them is", inner]) : [];
  if (error.cause !== undefined) within.push(["caused by", error.cause]);
  for (const [relation, inner] of within) if (left.errors > 0) parts.push(`  ${relation} ${explain(inner, left)}`);
  return parts.filter(Boolean).join("\n");
}

function timeoutText() {
  const budget = host.context()?.budget;
  return budget === undefined
    ? "the script took too long to start: do less before the first event"
    : `the event took longer than its time limit of ${budget} ms: do less in one event, or raise limits.time-ms of the [[app]]`;
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
  if (file === wrapper.name && row === 1) return { file, row, column: Math.max(1, column - wrapper.length) };
  const map = mapOf(file);
  const found = map && find(lineOf(map, row), column - 1);
  if (!found) return { file, row, column };
  const [source, sourceRow, sourceColumn] = found;
  const content = () => host.read(`${file}.map/${source}`);
  return { file: map.sources[source], row: sourceRow + 1, column: sourceColumn + 1, content };
}

function mapOf(file) {
  if (!maps.has(file)) {
    let map = null;
    try {
      const text = host.read(`${file}.map`);
      const end = text?.indexOf("\n");
      if (end > 0) map = { ...JSON.parse(text.slice(0, end)), text, start: end + 1 };
    } catch {}
    maps.set(file, map);
  }
  return maps.get(file);
}

/** The map's line for a row of the bundle; undefined if there is none. */
function lineOf({ text, start, stride, offsets }, row) {
  const offset = offsets[Math.floor((row - 1) / stride)];
  if (offset === undefined) return undefined;
  let at = start + offset;
  for (let skipped = (row - 1) % stride; skipped > 0; skipped--) {
    at = text.indexOf("\n", at) + 1;
    if (at === 0) return undefined;
  }
  return text.slice(at, text.indexOf("\n", at));
}

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/** Source, row and column of the last segment that begins at or before a column of the bundle. */
function find(line, wanted) {
  if (!line) return undefined;
  const [source, row, column, segments] = line.split(" ");
  const sums = [0, Number(source), Number(row), Number(column)];
  let found;
  let [field, number, shift] = [0, 0, 0];
  for (let at = 0; at <= segments.length; at++) {
    const bits = DIGITS.indexOf(segments[at] ?? ",");
    if (bits < 0) {
      // The end of a segment, which has no source if it is a single number.
      if (sums[0] > wanted) break;
      if (field > 1) found = sums.slice(1);
      field = 0;
      continue;
    }
    number += (bits & 31) << shift;
    shift += 5;
    if (bits & 32) continue;
    if (field < 4) sums[field] += number & 1 ? -(number >> 1) : number >> 1;
    field++;
    [number, shift] = [0, 0];
  }
  return found;
}

/** The source lines around a position, with a marker. Long lines are shown around the column. */
function frameOf({ file, row, column, content }) {
  const lines = (content ? content() : host.read(file))?.split("\n");
  if (!lines?.[row - 1]) return "";
  const first = Math.max(1, row - CONTEXT_LINES);
  const last = Math.min(lines.length, row + CONTEXT_LINES);
  const width = String(last).length;
  const from = column > MAX_LINE_LENGTH - 20 ? column - MAX_LINE_LENGTH / 2 : 0;
  const shown = [];
  for (let number = first; number <= last; number++) {
    const line = (from > 0 ? "…" : "") + lines[number - 1].slice(from, from + MAX_LINE_LENGTH);
    shown.push(`  ${number === row ? ">" : " "} ${String(number).padStart(width)} | ${line}`);
    if (number === row) shown.push(`    ${" ".repeat(width)} | ${" ".repeat(Math.max(0, column - 1 - from + (from > 0 ? 1 : 0)))}^`);
  }
  return shown.join("\n");
}

module.exports = { explain, setWrapper };
