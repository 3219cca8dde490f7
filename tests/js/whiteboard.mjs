// node whiteboard.mjs URL: the official client against examples/js/whiteboard.

import { argumentsOf, connect, heard, run, same } from './suite.mjs';

const [url] = argumentsOf('whiteboard.mjs', 'URL');

await run({
  async 'a drawing reaches all other clients'() {
    const [one, ...others] = await Promise.all([connect(url), connect(url), connect(url)]);
    one.on('drawing', () => {
      throw new Error('whoever draws is not told');
    });
    for (let x = 0; x < 10; x++) {
      const line = { from: { x: x / 10, y: 0.5 }, to: { x: (x + 1) / 10, y: 0.25 }, color: 'crimson' };
      const seen = others.map((other) => heard(other, 'drawing'));
      one.emit('drawing', line);
      for (const drawn of seen) same(await drawn, [line]);
    }
  },
});
