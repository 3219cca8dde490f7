import module from "./emitter.js";

export const { Emitter, Broadcast, RemoteSocket, EmitterError } = module;
export default module;
