// Sends HTTP requests on behalf of clients and returns the results.

import { on } from "plugnode";

const told = async (asked) => {
  try {
    const answer = await asked;
    const { status, ok, url, redirected, headers } = answer;
    return { status, ok, url, redirected, type: headers.get("Content-Type"), text: await answer.text(), used: answer.bodyUsed };
  } catch (error) {
    return { error: error.message, name: error.name };
  }
};

on("fetch", (client, url, init) => told(fetch(url, init)));

on("json", async (client, url, value) => {
  const answer = await fetch(new URL(url), { method: "post", headers: new Headers({ "Content-Type": "application/json" }), body: JSON.stringify(value) });
  return answer.json();
});

on("form", async (client, url, pairs) => (await fetch(url, { method: "PUT", body: new URLSearchParams(pairs) })).json());

on("bytes", async (client, url, bytes) => {
  const answer = await fetch(url, { method: "POST", body: bytes });
  return Buffer.from(await answer.arrayBuffer());
});

on("size", async (client, url) => (await (await fetch(url)).bytes()).length);

// Answered once all answers have arrived.
on("together", async (client, urls) => {
  const answers = await Promise.all(urls.map((url) => fetch(url)));
  return Promise.all(answers.map((answer) => answer.text()));
});

// The result of each, also of those that fail.
on("all", (client, urls) => Promise.all(urls.map((url) => told(fetch(url)))));

on("aborted", (client, url, after) => {
  const controller = new AbortController();
  setTimeout(() => controller.abort(), after);
  return told(fetch(url, { signal: controller.signal }));
});

on("aborted before", (client, url) => told(fetch(url, { signal: AbortSignal.abort(new Error("never mind")) })));

on("limited", (client, url, limit) => told(fetch(url, { signal: AbortSignal.timeout(limit) })));

// The event waits for this request although nothing awaits it.
on("forgotten", (client, url) => {
  fetch(url).then((answer) => client.emit("remembered", answer.status));
  return "sent";
});

on("many", async (client, url, count) => {
  const sent = await Promise.allSettled(Array.from({ length: count }, () => fetch(url)));
  return [...new Set(sent.filter(({ reason }) => reason).map(({ reason }) => reason.message))];
});

on("twice", async (client, url) => {
  const answer = await fetch(url);
  const copy = answer.clone();
  await answer.text();
  return told(answer.json().then(() => copy));
});
