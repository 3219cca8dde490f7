import module from "./socket.io.js";

export const { Server, Namespace, Socket, RemoteSocket, BroadcastOperator } = module;
export default module.default;
