// Right and wrong uses of plugnode-emitter, for the type checker: it must find the errors that are expected.

import { Emitter, EmitterError, type RemoteSocket } from 'plugnode-emitter';

interface Events {
  news: (text: string, number?: number) => void;
}

const emitter = new Emitter<Events>({ url: ['http://127.0.0.1:9090'], key: 'k' });

export async function right(): Promise<void> {
  const { event, repeated } = await emitter.to('a', ['b']).except('c').volatile.emit('news', 'text', 7);
  const sockets: RemoteSocket<Events>[] = await emitter.of('/chat').in('a').fetchSockets();
  await sockets[0]?.emit('news', `${event} ${repeated}`);
  const { args } = await emitter.event('/', 'acme.change/1', { sku: 7 }, { wait: 'acknowledged', order: 'sku-7' });
  await new Emitter({ url: 'http://127.0.0.1:9090', key: 'k' }).emit('anything', args, Buffer.from(''));
  await emitter.event('/', 'acme.change/1').catch((error) => error instanceof EmitterError && error.status === 503);
}

export function wrong(): void {
  // @ts-expect-error: no such event
  emitter.emit('other');
  // @ts-expect-error: the argument is a text
  emitter.to('a').emit('news', 7);
  // @ts-expect-error: the key is missing
  new Emitter({ url: 'http://127.0.0.1:9090' });
  // @ts-expect-error: no such method
  emitter.serverSideEmit('news');
  // @ts-expect-error: nothing to wait for
  emitter.event('/', 'acme.change/1', null, { wait: 'long' });
  // @ts-expect-error: no argument of the constructor
  emitter.of('/chat').event('acme.change/1');
}
