// plugnode/cluster for import: the names of cluster.js.

import module from "./cluster.js";

export const { makeListener, makeAppServer, getClient } = module;
export default module;
