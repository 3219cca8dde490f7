// plugnode in Node: the API of handlers without Socket.IO, on the host of the test kit.

module.exports = require("./modules").load("plugnode");
