// A stand-in for OpenAI's ChatKit script: the element <openai-chatkit> with a
// chat that answers on its own, for the demo and for tests. Like the real one it
// shows its chat in a frame of its own origin and keeps to the types of the npm
// package @openai/chatkit, as far as hosted sessions go.
//
// What a real page does not have is window.chatkitStandIn, by which a test sees
// and steers it:
//
//   options         what each setOptions() was given, without functions
//   asked           the argument of each getClientSecret() call: null or a secret
//   secrets         the secrets that were received
//   getClientSecret the page's function, to call as ChatKit does
//   calls           each call of another method: {method, args}
//   events          each event: {type, detail}; an error as its message
//   expireSecret()  has every chat of this page find its secret no longer usable, at
//                   its next message; in later pages too. A promise
//   conversation()  a promise of the messages on show in the first chat: [{role, text}]
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
    expireSecret: () => Promise.all([...chats.values()].map((callFrame) => callFrame("expireSecret"))),
    conversation: () => chats.values().next().value("conversation"),
  };
  window.chatkitStandIn = standIn;

  const known = new Set([
    "api", "commands", "composer", "disclaimer", "entities", "frameTitle", "header", "history", "initialThread",
    "locale", "onClientTool", "startScreen", "theme", "thread", "threadItemActions", "widgets",
  ]);

  function check(options) {
    const unknown = Object.keys(options).filter((name) => !known.has(name));
    if (unknown.length > 0) throw new TypeError(`ChatKit does not know the option ${unknown.join(", ")}`);
    const { api, theme } = options;
    if (typeof api?.getClientSecret !== "function") throw new TypeError("api.getClientSecret must be a function");
    if ("domainKey" in api) throw new TypeError("api.domainKey does not go with api.getClientSecret");
    const scheme = typeof theme === "object" ? (theme.colorScheme ?? "light") : (theme ?? "light");
    if (!["light", "dark"].includes(scheme)) throw new TypeError(`ChatKit does not know the colour scheme ${scheme}`);
  }

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
    }

    setOptions(options) {
      check(options);
      this.#options = options;
      standIn.options.push(withoutFunctions(options));
      standIn.getClientSecret = options.api.getClientSecret;
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
        clientSecret: (current) => this.#clientSecret(current),
        emit: (type, detail) => this.#emit(type, detail),
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
      call(port, "start", []);
    }

    async #clientSecret(current) {
      standIn.asked.push(current);
      const secret = await this.#options.api.getClientSecret(current);
      if (typeof secret !== "string" || secret === "") throw new Error("getClientSecret returned no secret");
      if (secret === current) throw new Error("getClientSecret returned the secret that is no longer usable");
      standIn.secrets.push(secret);
      return secret;
    }

    #emit(type, detail) {
      standIn.events.push({ type, detail });
      if (type === "chatkit.error") detail = { error: new Error(detail) };
      this.dispatchEvent(new CustomEvent(type, { detail }));
    }
  }

  customElements.define("openai-chatkit", ChatKit);
})();
