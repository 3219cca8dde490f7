// plugnode/socket.io in Node: the API of Socket.IO, on the host of the test kit.

module.exports = require("./modules").load("plugnode/socket.io");
