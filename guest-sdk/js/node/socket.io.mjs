// plugnode/socket.io for import: the names of socket.io.js.

import module from "./socket.io.js";

export const { Server, Namespace, Socket, RemoteSocket, BroadcastOperator } = module;
export default module.default;
