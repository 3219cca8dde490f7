// node chat-names.mjs URL: the official client against examples/js/names.

import { argumentsOf, connect, heard, run, same } from './suite.mjs';

const [url] = argumentsOf('chat-names.mjs', 'URL');

await run({
  async 'users join, type, talk and leave'() {
    const [ada, grace] = await Promise.all([connect(url), connect(url)]);
    const enter = async (socket, name) => {
      const entered = heard(socket, 'entered');
      socket.emit('enter', name);
      return (await entered)[0];
    };
    same(await enter(ada, 'Ada'), { people: 1 });
    const came = heard(ada, 'came');
    same(await enter(grace, 'Grace'), { people: 2 });
    same(await came, [{ name: 'Grace', people: 2 }]);
    for (const [said, given, back] of [
      ['typing', [], { name: 'Grace' }],
      ['typing stopped', [], { name: 'Grace' }],
      ['say', ['hello'], { name: 'Grace', text: 'hello' }],
    ]) {
      const heardBack = heard(ada, said === 'say' ? 'said' : said);
      grace.emit(said, ...given);
      same(await heardBack, [back]);
    }
    const left = heard(ada, 'left');
    grace.disconnect();
    same(await left, [{ name: 'Grace', people: 1 }]);
  },
});
