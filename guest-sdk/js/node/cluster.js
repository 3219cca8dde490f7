// plugnode/cluster in Node: the API of socket.io-cluster, on the host of the test kit.

module.exports = require("./modules").load("plugnode/cluster");
