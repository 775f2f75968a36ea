// A stand-in for OpenAI's ChatKit script: the element <openai-chatkit>, for the demo
// and for tests. Like the real one it shows its chat in a frame of its own origin and
// keeps to the types of the npm package @openai/chatkit. With a hosted session it
// answers on its own. With a custom API it does what the real one was seen to do, bad
// habits too: it loses messages without a word and repeats requests. It does not
// verify the domain key, as the real one does not on a local page.
//
// What a real page does not have is window.chatkitStandIn, by which a test sees
// and steers it:
//
//   options         what each setOptions() was given, without functions
//   asked           the argument of each getClientSecret() call: null or a secret
//   secrets         the secrets that were received
//   getClientSecret, fetch  the page's functions, to call as ChatKit does
//   calls           each call of another method: {method, args}
//   events          each event: {type, detail}; an error as its message, with its name
//   requests        each request to a custom API: {url, type, params, headers, aborted}
//   pace            a factor for the waits between attempts and for how long a list of
//                   threads counts as fresh: 1, or less to be quick
//   expireSecret()  has every chat of this page find its secret no longer usable, at
//                   its next message; in later pages too. A promise
//   conversation()  a promise of the messages on show in the first chat: [{role, text}]
//   shown()         a promise of all that is on show there: see shown in frame.js
//   press(label)    presses the button with that label there. A promise
//   fill(label, value) fills in the field with that label there. A promise
(() => {
  "use strict";
  if (customElements.get("openai-chatkit")) return;

  // The prototype's own getter: an element named currentScript hides the property.
  const script = Object.getOwnPropertyDescriptor(Document.prototype, "currentScript").get.call(document);
  const frameURL = new URL("frame.html", script.src);

  const chats = new Map(); // The elements on the page, each with the function that calls its frame.
  const standIn = {
    options: [],
    asked: [],
    secrets: [],
    calls: [],
    events: [],
    requests: [],
    pace: 1,
    expireSecret: () => Promise.all([...chats.values()].map((callFrame) => callFrame("expireSecret"))),
    conversation: () => first("conversation"),
    shown: () => first("shown"),
    press: (label) => first("press", label),
    fill: (label, value) => first("fill", label, value),
  };
  const first = (...args) => chats.values().next().value(...args);
  window.chatkitStandIn = standIn;

  const known = new Set([
    "api", "commands", "composer", "disableTelemetry", "disclaimer", "entities", "frameTitle", "header", "history", "initialThread",
    "locale", "onClientTool", "startScreen", "theme", "thread", "threadItemActions", "widgets",
  ]);

  function check(options) {
    const unknown = Object.keys(options).filter((name) => !known.has(name));
    if (unknown.length > 0) throw new TypeError(`ChatKit does not know the option ${unknown.join(", ")}`);
    const { theme } = options;
    const scheme = typeof theme === "object" ? (theme.colorScheme ?? "light") : (theme ?? "light");
    if (!["light", "dark"].includes(scheme)) throw new TypeError(`ChatKit does not know the colour scheme ${scheme}`);
  }

  // An API is a hosted one or a custom one, and nothing of both.
  const valid = ({ getClientSecret, url, domainKey } = {}) =>
    getClientSecret === undefined
      ? typeof url === "string" && typeof domainKey === "string"
      : typeof getClientSecret === "function" && url === undefined && domainKey === undefined;

  const withoutFunctions = (options) => JSON.parse(JSON.stringify(options));

  // Both ends of a port call each other by name; each call brings a port for
  // its answer. The frame has the same two functions.
  function call(port, name, args) {
    const { port1, port2 } = new MessageChannel();
    return new Promise((resolve, reject) => {
      port1.onmessage = ({ data }) => (data.error === undefined ? resolve(data.value) : reject(new Error(data.error)));
      port.postMessage({ name, args }, [port2]);
    });
  }
  function answer(port, functions) {
    port.onmessage = async ({ data, ports: [reply] }) => {
      try {
        reply.postMessage({ value: await functions[data.name](...data.args) });
      } catch (error) {
        reply.postMessage({ error: String(error?.message ?? error) });
      }
    };
  }

  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`
    :host { display: block; }
    iframe { border: 0; display: block; height: 100%; width: 100%; }
    iframe:not(.ready) { opacity: 0; } /* A blank frame is white, on a dark page too. */
  `);

  class ChatKit extends HTMLElement {
    #options = null;
    #frame = document.createElement("iframe");
    #connected = null; // The port to a frame that still lacks its options.
    #port = Promise.withResolvers(); // The port to one that has them.
    #url; // Of a custom API: the first options'.
    #requests = new Map(); // Those of the frame, by its numbers: {controller, reader}.

    constructor() {
      super();
      const root = this.attachShadow({ mode: "open" });
      root.adoptedStyleSheets = [sheet];
      this.#frame.src = frameURL;
      this.#frame.title = "Chat";
      root.append(this.#frame);
    }

    connectedCallback() {
      chats.set(this, (...args) => this.#callFrame(...args));
      window.addEventListener("message", this.#hello);
    }

    // Moving the element reloads its frame, as with any frame.
    disconnectedCallback() {
      chats.delete(this);
      window.removeEventListener("message", this.#hello);
      this.#frame.classList.remove("ready");
      this.#port = Promise.withResolvers();
      for (const { controller } of this.#requests.values()) controller.abort();
      this.#requests.clear();
    }

    setOptions(options) {
      check(options);
      this.#options = options;
      standIn.options.push(withoutFunctions(options));
      standIn.getClientSecret = options.api?.getClientSecret;
      standIn.fetch = options.api?.fetch;
      this.#url ??= options.api?.url;
      if (options.api?.url !== this.#url) console.warn("ChatKit: api.url cannot be changed. The new one is ignored.");
      this.#frame.title = options.frameTitle ?? "Chat";
      this.#start();
      this.#port.promise.then((port) => call(port, "setOptions", [withoutFunctions(options)]));
    }

    focusComposer() {
      this.#frame.focus();
      return this.#method("focusComposer");
    }
    setThreadId(id) {
      return this.#method("setThreadId", id);
    }
    sendUserMessage(message) {
      return this.#method("sendUserMessage", message);
    }
    setComposerValue(value) {
      return this.#method("setComposerValue", value);
    }
    showHistory() {
      return this.#method("showHistory");
    }
    hideHistory() {
      return this.#method("hideHistory");
    }
    fetchUpdates() {
      return this.#method("fetchUpdates");
    }
    async sendCustomAction(action, itemId) {
      standIn.calls.push({ method: "sendCustomAction", args: [action, itemId] }); // No backend here has actions.
    }

    async #method(name, ...args) {
      standIn.calls.push({ method: name, args });
      return this.#callFrame(name, ...args);
    }

    // Waits for the frame.
    async #callFrame(name, ...args) {
      return call(await this.#port.promise, name, args);
    }

    #hello = ({ source, origin, data }) => {
      if (source !== this.#frame.contentWindow || origin !== frameURL.origin || data !== "hello") return;
      const { port1, port2 } = new MessageChannel();
      answer(port1, {
        abort: (id) => this.#requests.get(id)?.controller.abort(),
        clientSecret: (current) => this.#clientSecret(current),
        emit: (...args) => this.#emit(...args),
        fetch: (...args) => this.#fetch(...args),
        pace: () => standIn.pace,
        read: (id) => this.#read(id),
        headerAction: (side) => this.#options.header[side].onClick(),
      });
      source.postMessage("connect", origin, [port2]);
      this.#connected = port1;
      this.#start();
    };

    async #start() {
      if (!this.#connected || !this.#options) return;
      const port = this.#connected;
      this.#connected = null;
      await call(port, "setOptions", [withoutFunctions(this.#options)]);
      this.#frame.classList.add("ready");
      this.#port.resolve(port);
      this.#emit("chatkit.ready");
      if (valid(this.#options.api)) return call(port, "start", []);
      this.#emit("chatkit.error", "ChatKit.create():\n✖ Invalid input\n  → at api", "FatalAppError");
      call(port, "blank", []);
    }

    async #clientSecret(current) {
      standIn.asked.push(current);
      const secret = await this.#options.api.getClientSecret(current);
      if (typeof secret !== "string" || secret === "") throw new Error("getClientSecret returned no secret");
      if (secret === current) throw new Error("getClientSecret returned the secret that is no longer usable");
      standIn.secrets.push(secret);
      return secret;
    }

    async #fetch(id, body, headers) {
      const controller = new AbortController();
      const record = { url: this.#url, ...JSON.parse(body), headers, aborted: false };
      standIn.requests.push(record);
      controller.signal.addEventListener("abort", () => (record.aborted = true));
      const request = { controller };
      this.#requests.set(id, request);
      const send = this.#options.api.fetch ?? ((...args) => fetch(...args));
      const response = await send(this.#url, { method: "POST", body, headers, signal: controller.signal });
      request.reader = response.body?.pipeThrough(new TextDecoderStream()).getReader();
      const { ok, status, statusText } = response;
      return { ok, status, statusText, contentType: response.headers.get("content-type") ?? "" };
    }

    // Returns the next piece of a response's text, or null at its end.
    async #read(id) {
      const { value, done = true } = (await this.#requests.get(id)?.reader?.read()) ?? {};
      return done ? null : value;
    }

    #emit(type, detail, name) {
      if (!this.isConnected) return; // The frame is going: nobody hears what it says.
      standIn.events.push({ type, detail, name });
      if (type === "chatkit.error") detail = { error: Object.assign(new Error(detail), name && { name }) };
      this.dispatchEvent(new CustomEvent(type, { detail }));
    }
  }

  customElements.define("openai-chatkit", ChatKit);
})();
