// The chat of socket.io-cluster: whoever comes is told what was said last, and hears what others say.

const cluster = require("plugnode/cluster");
const { state } = require("plugnode");

const io = cluster.makeListener({ REDIS_HOST: "127.0.0.1" });

const KEPT = 15;

function listen(client) {
  client.on("message", (text) => {
    const said = { message: [client.sessionId, text] };
    // The original kept this in a variable of each app-node.
    const chat = state("chat", { last: [] });
    chat.last = [...chat.last, said].slice(-KEPT);
    client.broadcast(said);
  });
  client.on("disconnect", () => client.broadcast({ announcement: `${client.sessionId} disconnected` }));
}

io.on("connection", (client) => {
  client.send({ buffer: state("chat", { last: [] }).last });
  client.broadcast({ announcement: `${client.sessionId} connected` });
  listen(client);
});

// An instance that has not seen the client connect: after a restart, a deploy, or in its turn.
io.on("no-client", listen);
