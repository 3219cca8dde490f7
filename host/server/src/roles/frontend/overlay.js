// What `plugnode dev` shows over a page while the handler does not build, or after it has failed. All that it shows is text: nothing of it
// is taken for markup. It asks by requests of its own, and has nothing to do with the page's Socket.IO connection.
(() => {
  if (window.top !== window) return;
  const EVERY = 500;
  const STYLE = `
    :host { all: initial; position: fixed; inset: 0; z-index: 2147483647; }
    main { position: absolute; inset: 0; overflow: auto; padding: 4vh 5vw; background: #14161af2; color: #e8e8ea;
      font: 15px/1.5 ui-monospace, Menlo, Consolas, monospace; }
    h1 { margin: 0 3rem .5rem 0; font-size: 1.3em; color: #ff8a80; overflow-wrap: anywhere; }
    .place { color: #8ab4f8; } pre { margin: 1rem 0; white-space: pre-wrap; overflow-wrap: anywhere; }
    .frame { padding: .6rem 0; background: #1f2228; border-radius: 6px; }
    .frame div { padding: 0 1rem; } .frame .here { background: #5c2b2b; } .frame span { display: inline-block; min-width: 3.5rem; color: #808690; }
    footer { color: #808690; } button { position: absolute; top: 2vh; right: 3vw; font: inherit; color: inherit; background: none; border: 1px solid;
      border-radius: 6px; cursor: pointer; }`;
  let before = "null";
  let host;

  const element = (name, text, kind) => {
    const made = document.createElement(name);
    if (text !== undefined) made.textContent = text;
    if (kind) made.className = kind;
    return made;
  };

  function hide() {
    host?.remove();
    host = undefined;
  }

  function show({ title, place, frame, text }) {
    hide();
    host = element("plugnode-overlay");
    const root = host.attachShadow({ mode: "open" });
    const main = element("main");
    const close = element("button", "×");
    close.setAttribute("aria-label", "Close");
    close.addEventListener("click", hide);
    main.setAttribute("role", "alert");
    main.append(close, element("h1", title));
    if (place) main.append(element("div", place, "place"));
    if (frame.length > 0) {
      const code = element("pre", undefined, "frame");
      for (const { line, text, here } of frame) {
        const row = element("div", undefined, here ? "here" : "");
        row.append(element("span", String(line)), text);
        code.append(row);
      }
      main.append(code);
    }
    main.append(element("pre", text, "text"));
    main.append(element("footer", "plugnode dev: goes away with the next build that works"));
    root.append(element("style", STYLE), main);
    document.documentElement.append(host);
  }

  addEventListener("keydown", (event) => event.key === "Escape" && hide());

  async function look() {
    try {
      const answer = document.hidden ? undefined : await fetch("/__plugnode/overlay.json", { cache: "no-store" });
      const now = answer?.ok ? await answer.text() : before;
      if (now !== before) {
        before = now;
        const notice = JSON.parse(now);
        if (notice) show(notice);
        else hide();
      }
    } catch {
      // It is being started again.
    }
    setTimeout(look, EVERY);
  }
  look();
})();
