// The chat of socket.io-cluster: a new client receives the latest messages, and clients receive each other's messages.

const cluster = require("plugnode/cluster");
const { state } = require("plugnode");

const io = cluster.makeListener({ REDIS_HOST: "127.0.0.1" });

const LIMIT = 15;

function listen(client) {
  client.on("message", (text) => {
    const said = { message: [client.sessionId, text] };
    // The original keeps this in a variable of each app-node.
    const chat = state("chat", { last: [] });
    chat.last = [...chat.last, said].slice(-LIMIT);
    client.broadcast(said);
  });
  client.on("disconnect", () => client.broadcast({ announcement: `${client.sessionId} disconnected` }));
}

io.on("connection", (client) => {
  client.send({ buffer: state("chat", { last: [] }).last });
  client.broadcast({ announcement: `${client.sessionId} connected` });
  listen(client);
});

// This instance did not handle the client's connection: after a restart or deploy, or because another instance did.
io.on("no-client", listen);
