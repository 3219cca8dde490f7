// Socket.IO's handshake object, and the parts of it that are stored in a client's attributes.

const queryOf = (text) => Object.fromEntries(new URLSearchParams(text));
/** Matches the query parameters of the transport. */
const TRANSPORT_PARAMS = /^(EIO|transport|t|sid|b64|j)$/;

function headersOf(flat) {
  const headers = {};
  for (let at = 0; at + 1 < flat.length; at += 2) {
    const [name, value] = [flat[at], flat[at + 1]];
    if (headers[name] === undefined) headers[name] = value;
    else headers[name] += name === "cookie" ? `; ${value}` : `, ${value}`;
  }
  return headers;
}

/** Restores a handshake from its stored parts: auth, query, and the fields that the program read when the client connected. */
function handshakeOf(stored = {}) {
  const query = queryOf(stored.q ?? "");
  return {
    headers: stored.headers ?? {},
    time: stored.time ?? new Date(stored.issued ?? 0).toString(),
    issued: stored.issued ?? 0,
    address: stored.address ?? "",
    xdomain: Boolean(stored.headers?.origin),
    secure: false,
    url: `/socket.io/?${stored.q ?? ""}`,
    query,
    auth: stored.a ?? {},
  };
}

/** The handshake of a connecting client. Adds each field that the program reads to `stored`, for other instances. */
function freshHandshake({ auth, query, headers, address }, stored) {
  const own = new URLSearchParams(query);
  for (const name of [...own.keys()]) if (TRANSPORT_PARAMS.test(name)) own.delete(name);
  if (auth !== undefined && auth !== null) stored.a = JSON.parse(auth);
  if (own.size > 0) stored.q = own.toString();
  const handshake = handshakeOf(stored);
  const issued = Date.now();
  handshake.query = queryOf(query);
  handshake.url = `/socket.io/?${query}`;
  const defineLazily = (name, make) => {
    let value;
    Object.defineProperty(handshake, name, {
      __proto__: null,
      get: () => (stored[name] = value ??= make()),
      set: (given) => {
        stored[name] = value = given;
      },
      enumerable: true,
      configurable: true,
    });
  };
  defineLazily("headers", () => headersOf(headers));
  defineLazily("issued", () => issued);
  defineLazily("time", () => new Date(issued).toString());
  defineLazily("address", () => (address ?? "").replace(/:\d+$/, "").replace(/^\[(.*)\]$/, "$1"));
  return handshake;
}

module.exports = { handshakeOf, freshHandshake };
