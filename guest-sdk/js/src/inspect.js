// Formats values for the log, like Node's console.

const DEPTH = 3;
const ITEMS = 100;

function inspect(value, depth = 0, seen = new Set()) {
  switch (typeof value) {
    case "string":
      return depth === 0 ? value : quote(value);
    case "function":
      return `[${value.prototype && /^class\b/.test(Function.prototype.toString.call(value)) ? "class" : "Function"}${
        value.name ? (": " + value.name) : " (anonymous)"
      }]`;
    case "bigint":
      return `${value}n`;
    case "symbol":
      return value.toString();
    case "object":
      return value === null ? "null" : inspectObject(value, depth, seen);
    default:
      return Object.is(value, -0) ? "-0" : String(value);
  }
}

function quote(text) {
  return text.includes("'") ? JSON.stringify(text) : `'${JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"')}'`;
}

function inspectObject(value, depth, seen) {
  if (seen.has(value)) return "[Circular]";
  if (value instanceof Error) return require("source-map").explain(value);
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? "Invalid Date" : value.toISOString();
  if (value instanceof RegExp) return String(value);
  const name = value.constructor?.name;
  if (depth > DEPTH) return Array.isArray(value) ? "[Array]" : `[${name ?? "Object"}]`;
  seen.add(value);
  const within = (item) => inspect(item, depth + 1, seen);
  const list = (items, more) => [...items, ...(more > 0 ? [`... ${more} more items`] : [])];
  let text;
  if (Array.isArray(value)) {
    text = bracket("[", list(value.slice(0, ITEMS).map(within), value.length - ITEMS), "]");
  } else if (ArrayBuffer.isView(value) && !(value instanceof DataView)) {
    text = `${name}(${value.length}) ${bracket("[", list(Array.from(value.slice(0, ITEMS), String), value.length - ITEMS), "]")}`;
  } else if (value instanceof Map) {
    const items = [...value].slice(0, ITEMS).map(([key, item]) => `${within(key)} => ${within(item)}`);
    text = `Map(${value.size}) ${bracket("{", list(items, value.size - ITEMS), "}")}`;
  } else if (value instanceof Set) {
    text = `Set(${value.size}) ${bracket("{", list([...value].slice(0, ITEMS).map(within), value.size - ITEMS), "}")}`;
  } else if (value instanceof Promise) {
    text = "Promise {}";
  } else {
    const keys = Object.keys(value);
    const items = keys.slice(0, ITEMS).map((key) => {
      const shown = /^[A-Za-z_$][\w$]*$/.test(key) ? key : quote(key);
      return `${shown}: ${within(value[key])}`;
    });
    const prefix = name === "Object" ? "" : `${name ?? "[Object: null prototype]"} `;
    text = prefix + bracket("{", list(items, keys.length - ITEMS), "}");
  }
  seen.delete(value);
  return text;
}

function bracket(open, items, close) {
  if (items.length === 0) return open + close;
  const line = items.join(", ");
  if (line.length <= 72 && !line.includes("\n")) return open === "[" || open === "{" ? `${open} ${line} ${close}` : line;
  return `${open}\n  ${items.join(",\n").replaceAll("\n", "\n  ")}\n${close}`;
}

/** Formats the arguments of console.log. */
function format(args) {
  if (typeof args[0] !== "string" || !args[0].includes("%")) return args.map((arg) => inspect(arg)).join(" ");
  let used = 1;
  const text = args[0].replace(/%[sdifoOjc%]/g, (mark) => {
    if (mark === "%%") return "%";
    if (used >= args.length) return mark;
    const arg = args[used++];
    switch (mark) {
      case "%s":
        return typeof arg === "object" && arg !== null ? inspect(arg, 1) : String(arg);
      case "%d":
        return typeof arg === "object" ? "NaN" : String(Number(arg));
      case "%i":
        return String(Number.parseInt(arg, 10));
      case "%f":
        return String(Number.parseFloat(arg));
      case "%j":
        return JSON.stringify(arg);
      case "%c":
        return "";
      default:
        return inspect(arg, 1);
    }
  });
  return [text, ...args.slice(used).map((arg) => inspect(arg))].join(" ");
}

module.exports = { format, inspect: (value) => inspect(value, typeof value === "string" ? 1 : 0) };
