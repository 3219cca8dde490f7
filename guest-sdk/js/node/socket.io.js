module.exports = require("./modules").load("plugnode/socket.io");
