// node fetch.mjs URL GRANTED CLOSED: the official client has tests/js/handlers/fetch.js, at URL, ask a server of HTTP. It is here, at a port of
// its own that is not granted, and at the port GRANTED, which is, as is CLOSED, where nothing listens.

import assert from 'node:assert/strict';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { acknowledged, argumentsOf, connect, heard, run, same, within } from './suite.mjs';

const [url, granted, closed] = argumentsOf('fetch.mjs', 'URL', 'GRANTED', 'CLOSED');
const at = (path) => `http://127.0.0.1:${granted}${path}`;

let waiting = [];
let gone;
const server = createServer(async (request, response) => {
  const { pathname, searchParams } = new URL(request.url, at('/'));
  const chunks = [];
  for await (const chunk of request) chunks.push(chunk);
  const body = Buffer.concat(chunks);
  const answer = (status, headers, text) => response.writeHead(status, headers).end(text);
  switch (pathname) {
    case '/echo': {
      const { method, url, headers } = request;
      return answer(200, { 'content-type': 'application/json' }, JSON.stringify({ method, url, headers, body: body.toString() }));
    }
    case '/back':
      return answer(200, {}, body);
    case '/status':
      return answer(Number(searchParams.get('is')), { 'content-type': 'text/plain' }, 'as asked: grüße');
    case '/together':
      waiting.push(response);
      if (waiting.length === Number(searchParams.get('of'))) for (const one of waiting.splice(0)) one.end('all are here');
      return;
    case '/redirect': {
      const left = Number(searchParams.get('times')) - 1;
      const location = left > 0 ? `/redirect?times=${left}` : (searchParams.get('to') ?? '/echo');
      return answer(Number(searchParams.get('by') ?? 302), { location });
    }
    case '/large':
      return answer(200, {}, Buffer.alloc(Number(searchParams.get('bytes'))));
    case '/endless': {
      response.writeHead(200);
      const more = () => {
        while (!response.destroyed && response.write(Buffer.alloc(100_000)));
      };
      response.on('drain', more);
      return more();
    }
    case '/broken':
      response.writeHead(200, { 'content-length': 1000 });
      response.write('half');
      return setTimeout(() => request.socket.destroy(), 20);
    case '/never':
      gone = once(response, 'close');
      return;
  }
});
server.listen(Number(granted), '127.0.0.1');
await once(server, 'listening');
const other = createServer((_, response) => response.end('nobody should read this'));
other.listen(0, '127.0.0.1');
await once(other, 'listening');
const elsewhere = `127.0.0.1:${other.address().port}`;

const ask = async (...args) => (await acknowledged(await connect(url), ...args))[0];

await run({
  'an answer has its status, its headers and its body': async () => {
    same(await ask('fetch', at('/status?is=404')), {
      status: 404, ok: false, url: at('/status?is=404'), redirected: false, type: 'text/plain', text: 'as asked: grüße', used: true,
    });
    const { ok, status, text } = await ask('fetch', at('/echo?a=b%20c#part'));
    same([ok, status], [true, 200]);
    const { method, url, headers } = JSON.parse(text);
    same([method, url, headers.host], ['GET', '/echo?a=b%20c', `127.0.0.1:${granted}`]);
  },

  'JSON, forms and bytes are sent and received': async () => {
    const { method, headers, body } = await ask('json', at('/echo'), { grüße: ['🦀'] });
    const text = '{"grüße":["🦀"]}';
    same([method, headers['content-type'], headers['content-length'], body], ['POST', 'application/json', String(Buffer.byteLength(text)), text]);
    const form = await ask('form', at('/echo'), { a: 'b c', d: '&' });
    same([form.method, form.headers['content-type'], form.body], ['PUT', 'application/x-www-form-urlencoded;charset=UTF-8', 'a=b+c&d=%26']);
    const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, n) => n % 251));
    same(await ask('bytes', at('/back'), bytes), bytes);
    const own = await ask('fetch', at('/echo'), { method: 'DELETE', headers: { 'X-Own': ' yes ', 'user-agent': 'me' } });
    const told = JSON.parse(own.text);
    same([told.method, told.headers['x-own'], told.headers['user-agent']], ['DELETE', 'yes', 'me']);
  },

  'requests run concurrently': async () => {
    same(await ask('together', Array(8).fill(at('/together?of=8'))), Array(8).fill('all are here'));
  },

  'redirects are followed up to a limit': async () => {
    const followed = await ask('fetch', at('/redirect?times=3'), { method: 'POST', body: 'x', headers: { authorization: 'secret' } });
    same([followed.url, followed.redirected], [at('/echo'), true]);
    const told = JSON.parse(followed.text);
    same([told.method, told.body, told.headers.authorization], ['GET', '', 'secret']);
    const kept = JSON.parse((await ask('fetch', at('/redirect?by=307'), { method: 'POST', body: 'x' })).text);
    same([kept.method, kept.body], ['POST', 'x']);
    assert.match((await ask('fetch', at('/redirect?times=50'))).error, /redirected more than 20 times/);
    same((await ask('fetch', at('/redirect'), { redirect: 'manual' })).status, 302);
    // A redirect does not extend the grant.
    assert.match((await ask('fetch', at(`/redirect?to=${encodeURIComponent(`http://${elsewhere}/`)}`))).error, /grants = /);
  },

  'an ungranted host is denied with the grant to add': async () => {
    const { error, name } = await ask('fetch', `http://${elsewhere}/x`);
    same(name, 'TypeError');
    assert.ok(error.includes(`http://${elsewhere}/x`) && error.includes(`grants = { http = ["${elsewhere}"] }`), error);
  },

  'failures are reported': async () => {
    assert.match((await ask('fetch', `http://127.0.0.1:${closed}/`)).error, /fetch failed: GET http:\/\/127.*refused/);
    assert.match((await ask('fetch', at('/broken'))).error, /fetch failed: GET .*(ended|HTTP)/);
    for (const [url, init, words] of [
      ['ftp://127.0.0.1/', {}, /only http: and https:/],
      ['/relative', {}, /Invalid URL/],
      [at('/echo'), { body: 'x' }, /a GET request cannot have a body/],
      [at('/echo'), { method: 'POST', body: { a: 1 } }, /JSON.stringify/],
      [at('/echo'), { method: 'CONNECT' }, /does not support the method/],
      [at('/echo'), { headers: { 'a b': 'c' } }, /not a valid header name/],
      [at('/echo'), { headers: { a: 'b\r\nc: d' } }, /one line/],
      [at('/echo'), { headers: { host: 'else.example' } }, /host cannot be sent/],
    ]) assert.match((await ask('fetch', url, init)).error, words);
    assert.match((await ask('twice', at('/echo'))).error, /already read/);
  },

  'the size of an answer is limited': async () => {
    same(await ask('size', at(`/large?bytes=${8 << 20}`)), 8 << 20);
    assert.match((await ask('fetch', at(`/large?bytes=${(8 << 20) + 1}`))).error, /larger than 8388608 bytes/);
    assert.match((await ask('fetch', at('/endless'))).error, /larger than 8388608 bytes/);
    const [only, ...more] = await ask('many', at('/status?is=200'), 40);
    assert.match(only, /no more than 32 requests/);
    same(more, []);
  },

  'an aborted request ends': async () => {
    const { name } = await ask('aborted', at('/never'), 30);
    same(name, 'AbortError');
    await within(10, 'the server sees it end', gone);
    same(await ask('aborted before', at('/never')), { error: 'never mind', name: 'Error' });
    same((await ask('limited', at('/never'), 30)).name, 'TimeoutError');
    same((await ask('aborted', at('/status?is=200'), 60_000)).status, 200);
  },

  'the event waits for requests that nothing awaits': async () => {
    const socket = await connect(url);
    const remembered = heard(socket, 'remembered');
    same(await acknowledged(socket, 'forgotten', at('/status?is=201')), ['sent']);
    same(await remembered, [201]);
  },

  'a request without an answer in time fails only its event': async () => {
    const socket = await connect(url);
    const [{ error }] = await acknowledged(socket, 'fetch', at('/never'));
    same(error.code, 'failed');
    await within(10, 'the server sees it end', gone);
    same((await acknowledged(socket, 'fetch', at('/status?is=200')))[0].status, 200);
  },
});
