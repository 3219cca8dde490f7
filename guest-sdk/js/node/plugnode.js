module.exports = require("./modules").load("plugnode");
