// Docent's widget: a button that opens a panel with OpenAI's ChatKit. docs/embed.md documents it.
(() => {
  "use strict";

  // The page

  // DOM clobbering: <img name="currentScript"> shadows document.currentScript. The getters on Document.prototype cannot
  // be shadowed.
  const own = (name) => Object.getOwnPropertyDescriptor(Document.prototype, name)?.get?.call(document);
  const create = /** @type {Document["createElement"]} */ (Document.prototype.createElement.bind(document));
  const createNS = Document.prototype.createElementNS.bind(document);

  const warn = (sentence) => console.warn("Docent: " + sentence);

  /** The absolute form of an http or https URL. It ignores base elements, because content can contain them. */
  const webURL = (given) => {
    try {
      const url = new URL(String(given || "about:"), location.href);
      return /^https?:$/.test(url.protocol) ? url.href : undefined;
    } catch {} // Not a URL.
  };

  const script = own("currentScript");
  if (Object.hasOwn(window, "docent")) return; // Client-side navigation may run the script again.
  const source = script instanceof HTMLScriptElement && webURL(script.getAttribute("src"));
  if (!source) return warn("widget.js needs its own script tag with an http or https src and no type");
  const endpoint = new URL("session", source).href;

  // Options

  const text = (v) => (typeof v === "string" ? v : undefined);
  const oneOf = (...names) => (v) => (names.includes(v) ? v : undefined);
  const parsed = (v) => {
    try {
      return typeof v === "string" ? JSON.parse(v) : v;
    } catch {} // Not JSON.
  };

  const prompts = (v) => {
    const list = parsed(v);
    if (!Array.isArray(list) || !list.every((p) => text(p?.label ?? p))) return undefined;
    return list.map((p) => (text(p) ? { label: p, prompt: p } : { prompt: p.label, ...p }));
  };

  const selector = (v) => {
    try {
      new DocumentFragment().querySelector(v || "a");
      return v;
    } catch {} // Not a selector.
  };

  /** Parses "mod+i". A key without a modifier would disturb people who type or use voice control. */
  const shortcut = (v) => {
    if (!v) return null;
    const names = String(v).toLowerCase().split("+");
    const key = names.pop();
    const mod = /Mac|iP/.test(navigator.platform) ? "meta" : "ctrl";
    const held = names.map((name) => (name === "mod" ? mod : name));
    if (!key || !held.every((m) => /^(ctrl|alt|shift|meta)$/.test(m)) || !held.some((m) => m !== "shift")) return undefined;
    return { key, held };
  };

  /** The default of each option, and a function that returns the parsed value, or undefined if it is invalid. @type {Record<string, [any, (v: any) => any]>} */
  const OPTIONS = {
    title: ["Ask AI", (v) => text(v) || undefined],
    greeting: ["", text],
    prompts: [[], prompts],
    placeholder: ["", text],
    disclaimer: ["", text],
    accent: ["", (v) => (v === "" || CSS.supports("color", v) ? v : undefined)],
    position: ["bottom-right", oneOf("bottom-right", "bottom-left", "none")],
    colorScheme: ["auto", oneOf("auto", "light", "dark")],
    locale: ["", text],
    shortcut: [null, shortcut],
    trigger: ["", selector],
    fallbackUrl: ["", (v) => v && webURL(v)],
    fallbackLabel: ["Get help another way", text],
    disableTelemetry: [false, (v) => (/^(true)?$/.test(v) ? true : /^false$/.test(v) ? false : undefined)],
    chatkitUrl: ["https://cdn.platform.openai.com/deployments/chatkit/chatkit.js", webURL],
    texts: [{}, (v) => (parsed(v) instanceof Object ? parsed(v) : undefined)],
  };

  const options = Object.fromEntries(Object.entries(OPTIONS).map(([name, [value]]) => [name, value]));

  function take(given) {
    for (const [name, [, meaning]] of Object.entries(OPTIONS)) {
      if (given[name] === undefined) continue;
      const value = meaning(given[name]);
      if (value === undefined) warn(`${name} is ignored: ${JSON.stringify(given[name])} is not a valid value`);
      else options[name] = value;
    }
  }
  take(script.dataset);

  /** The widget's own texts, by the code of a failure or by name. */
  const TEXTS = {
    __proto__: null, // An unknown code such as "toString" finds nothing.
    close: "Close",
    loading: "Starting the chat…",
    retry: "Try again",
    retrying: "Trying again in {s} s",
    reference: "Reference:",
    offline: "You are offline. The chat starts when you are back.",
    script_blocked: "The chat could not be loaded. A network or a browser extension may be blocking it.",
    frame_blocked: "The chat does not answer. A network or a browser extension may be blocking it.",
    unreachable: "The assistant cannot be reached from here.",
    rate_limited: "Too many chats from your network in a short time. The next one can start in a moment.",
    assistant_unavailable: "The assistant is not available at the moment.",
    busy: "The assistant is very busy at the moment.",
    failed: "Something went wrong on our side.",
  };
  const say = (...names) => {
    for (const name of names) {
      if (Object.hasOwn(options.texts, name)) return String(options.texts[name]);
      if (TEXTS[name]) return TEXTS[name];
    }
    return "";
  };
  const sentenceOf = (f) => say(f.code, f.detail.status > 502 ? "busy" : "failed");

  // Events

  const emit = (name, detail = {}) =>
    window.dispatchEvent(new CustomEvent("docent:" + name, { detail }));

  // Storage

  // Values that could not be stored.
  const memory = {};
  const storage = (area) => globalThis[area];

  const read = (area, name) => {
    const key = `docent ${name} ${endpoint}`;
    try {
      return memory[area + key] ?? storage(area).getItem(key);
    } catch {
      return memory[area + key];
    } // Storage is blocked.
  };

  const write = (area, name, value) => {
    const key = `docent ${name} ${endpoint}`;
    memory[area + key] = value;
    try {
      if (value === undefined) storage(area).removeItem(key);
      else storage(area).setItem(key, value);
      delete memory[area + key];
    } catch {} // Storage is blocked or full.
  };

  // Sessions and threads of the two backends are stored apart: Docent's own, which answers from the docs, with this prefix.
  const DOCS = "docs ";

  /** ChatKit's way to Docent's own backend: {url, domain_key}. None if the chat is a hosted one. */
  let docs;

  // This tab's thread, or else the visitor's last one. "" means a new chat.
  const thread = (prefix = docs ? DOCS : "") => read("sessionStorage", prefix + "thread") ?? read("localStorage", prefix + "thread") ?? "";
  const keepThread = (id) => {
    const name = (docs ? DOCS : "") + "thread";
    write("sessionStorage", name, id);
    write("localStorage", name, id);
  };

  // Sessions

  class Failure extends Error {
    constructor(code, detail = {}) {
      super(code);
      const retryAfter = detail.retryAfter ?? 0;
      this.code = code;
      this.detail = detail;
      this.until = retryAfter >= 1 ? Date.now() + retryAfter * 1000 : 0; // The time to try again, in ms.
    }
  }

  const failureOf = (response, body) =>
    new Failure(String(body.code ?? "unreachable"), { status: response.status, requestId: body.request_id, retryAfter: body.retry_after });

  /** A backend's stored session, if it is valid for long enough to send the next message. */
  function storedOf(prefix) {
    const session = parsed(read("localStorage", prefix + "session"));
    if (!session) return;
    session.left = session.expires - Date.now() - Math.min(60_000, session.life / 10);
    if (text(session.secret) && session.left > 0 && session.left < session.life) return session; // The clock may have been set back.
    write("localStorage", prefix + "session");
  }

  /** The stored session to use. A conversation about the docs goes on with the backend that has it. */
  const stored = () => storedOf(DOCS) ?? (thread(DOCS) ? undefined : storedOf(""));

  let expiry = 0;
  /** Removes the stored sessions when they expire. */
  function expire() {
    const left = [DOCS, ""].map((prefix) => storedOf(prefix)?.left ?? 1e9);
    clearTimeout(expiry);
    expiry = setTimeout(expire, Math.min(...left) + 1);
  }

  /** A stored session whose secret is not the current one: another tab may have stored a fresher one. */
  const fresher = (current) => {
    const found = stored();
    return found?.secret === current ? undefined : found;
  };

  async function mint() {
    const asked = Date.now();
    let response, body;
    try {
      // A simple request in CORS terms, so the browser sends no preflight.
      response = await fetch(endpoint + "?api=" + (thread(DOCS) ? "docs" : "any"), {
        method: "POST",
        credentials: "include",
        body: read("localStorage", "visitor"), // The visitor's token, for browsers that block cookies of other sites.
        signal: AbortSignal.timeout(30_000), // Docent itself gives up after 8 s by default.
      });
      body = await response.json();
    } catch {
      if (!navigator.onLine) throw new Failure("offline");
    }
    if (!body || body.code === "origin_not_allowed") {
      warn(`${endpoint} gave this page no session. Check that its ALLOWED_ORIGINS contains ${location.origin}`);
    }
    if (!response || !body) throw new Failure("unreachable");
    if (!response.ok) throw failureOf(response, body);
    const { api, client_secret, token, visitor } = body;
    const life = body.expires_after * 1000;
    const secret = api ? text(api.url) && text(api.domain_key) && text(token) : text(client_secret);
    if (!secret || !(life > 0)) throw new Failure("failed", { status: response.status });
    if (text(visitor)) write("localStorage", "visitor", visitor);
    const session = { secret, api, expires: asked + life, life };
    write("localStorage", (api ? DOCS : "") + "session", JSON.stringify(session));
    expire();
    emit("session");
    return session;
  }

  /** Replaces Web Locks where there are none, on this page only. */
  let queue = Promise.resolve();

  /** Runs work while no other tab of the site does. Without Web Locks: while no other call on this page does. */
  const alone = (work) =>
    new Promise((resolve) => {
      const turn = () => {
        const done = work();
        resolve(done);
        // Other tabs see stored values a moment later.
        return done.then(() => new Promise((go) => setTimeout(go, 200)), () => {});
      };
      const here = () => (queue = queue.then(turn));
      try {
        // A suspended tab may hold the lock.
        navigator.locks.request("docent " + endpoint, { signal: AbortSignal.timeout(35_000) }, turn).catch(here);
      } catch {
        here();
      } // Locks need a secure context that may use storage.
    });

  const STREAM = "text/event-stream";

  const session = async (current) => fresher(current) ?? alone(async () => fresher(current) ?? mint());

  /** Sends a request of ChatKit's to Docent's own backend. At 401 it gets another session, once. */
  async function send(init, headers, current = null) {
    const found = await session(current);
    if (!found.api) {
      build(found);
      throw new Failure("failed");
    }
    headers.set("authorization", "Bearer " + found.secret);
    const response = await fetch(found.api.url, { ...init, headers });
    return response.status === 401 && current === null ? send(init, headers, found.secret) : response;
  }

  /**
   * The fetch that ChatKit uses. If a stream cannot begin, ChatKit drops the message without a word or repeats the
   * request. So it always gets a stream, and a failure is an event in it.
   * @type {typeof fetch}
   */
  const request = async (_, init) => {
    const headers = new Headers(init.headers);
    headers.set("docent-page", location.origin + location.pathname);
    headers.set("docent-widget", "1");
    const streams = headers.get("accept") === STREAM;
    let f, sentence;
    try {
      const response = await send(init, headers);
      if (!streams || (response.status === 200 && response.headers.get("content-type")?.startsWith(STREAM))) return response;
      const body = parsed(await response.text()) ?? {};
      f = failureOf(response, body);
      sentence = text(body.code) && text(body.message ?? body.error);
    } catch (e) {
      if (!streams || init.signal?.aborted) throw e;
      f = e instanceof Failure ? e : new Failure(navigator.onLine ? "unreachable" : "offline");
    }
    emit("error", { code: f.code, ...f.detail });
    const event = {
      type: "error",
      code: "custom",
      message: sentence || sentenceOf(f),
      // A message that did not arrive is not in the thread: to retry would replace the answer before it.
      allow_retry: parsed(init.body).type === "threads.retry_after_item" && !(f.detail.status < 429) && f.code !== "answers_used_up",
    };
    return new Response(`data: ${JSON.stringify(event)}\n\n`, { headers: { "content-type": STREAM } });
  };

  // The parts of the panel

  /** @template {keyof HTMLElementTagNameMap} K @param {K} tag @param {Partial<HTMLElementTagNameMap[K]>} properties @param {(Node | string)[]} children */
  const h = (tag, properties, ...children) => {
    const e = Object.assign(create(tag), properties);
    e.append(...children);
    return e;
  };

  const icon = (d) => {
    const svg = createNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", "0 0 24 24");
    svg.setAttribute("aria-hidden", "true");
    const path = createNS("http://www.w3.org/2000/svg", "path");
    path.setAttribute("d", d);
    svg.append(path);
    return svg;
  };

  const label = h("span", { className: "label" });
  const launcher = h("button", { className: "launcher", ariaHasPopup: "dialog", onclick: () => open(launcher) },
    icon("M12 3c-5 0-9 3.4-9 7.7 0 2.4 1.3 4.6 3.3 6l-.6 4 4.2-2.4c.7.1 1.4.2 2.1.2 5 0 9-3.5 9-7.8S17 3 12 3Z"), label);
  const title = h("h2", { id: "title" });
  const closer = h("button", { className: "close", onclick: () => close() }, icon("M6 6l12 12M18 6L6 18"));
  const status = h("p", { id: "status", role: "status" });
  const countdown = h("p", { className: "countdown", role: "timer" });
  const retrier = h("button", { className: "retry", onclick: () => retry() });
  const fallback = h("a", { className: "fallback", target: "_blank", rel: "noopener" });
  const reference = h("p", { className: "reference" });
  const notice = h("div", { className: "notice" }, status, countdown, h("div", { className: "ways" }, retrier, fallback), reference);
  const panel = h("dialog", { className: "panel", tabIndex: -1 },
    h("div", { className: "head" }, title, closer), h("div", { className: "body" }, notice, h("slot", {})));
  panel.setAttribute("aria-labelledby", "title");
  panel.setAttribute("aria-describedby", "status");

  const host = create("docent-widget");
  const shadow = host.attachShadow({ mode: "open" });
  shadow.append(launcher, panel);

  // A CSP does not restrict a constructed style sheet.
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(`
:host { all: initial; display: contents !important; color-scheme: light; --d-ink: #15181e; --d-soft: #59606c; --d-paper: #fff; --d-line: #e2e5ea; --d-edge: 20px;
  --d-on-accent: oklch(from var(--d-accent) clamp(0, (.57 - l) * 1e4, 1) 0 0); --d-accent: var(--d-given, var(--d-ink)) }
:host([data-scheme=dark]) { color-scheme: dark; --d-ink: #ececec; --d-soft: #a8a8a8; --d-paper: #212121; --d-line: #3a3a3a }
* { box-sizing: border-box; margin: 0; font: 400 15px/1.5 system-ui, sans-serif; color: inherit }
svg { width: 1.35em; height: 1.35em; fill: none; stroke: currentColor; stroke-width: 1.9; stroke-linecap: round; flex: none }
button { cursor: pointer; border: 1px solid transparent; background: none }
:focus-visible { outline: 2px solid var(--d-ink); outline-offset: 2px }
.launcher, .panel { position: fixed; z-index: 2147483000; inset: auto var(--d-edge) var(--d-edge) auto }
:host([data-position=bottom-left]) :is(.launcher, .panel) { inset-inline: auto; left: var(--d-edge) }
.launcher { display: flex; align-items: center; gap: .5em; max-width: calc(100vw - 2 * var(--d-edge)); padding: .75em 1.15em .75em 1em; border-radius: 99px;
  background: var(--d-accent); color: var(--d-on-accent); font-weight: 600; line-height: 1.35;
  box-shadow: 0 1px 2px rgb(0 0 0 / .18), 0 6px 20px rgb(0 0 0 / .18) }
.launcher * { font-weight: inherit }
.launcher:hover { filter: brightness(1.2) }
.label { overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
:host([data-position=none]) .launcher, :host([data-open]) .launcher { display: none }
.panel { width: min(410px, calc(100vw - 2 * var(--d-edge))); height: min(680px, calc(100dvh - 2 * var(--d-edge))); max-width: none; max-height: none; padding: 0;
  overflow: hidden; overscroll-behavior: contain; border: 1px solid var(--d-line); border-radius: 16px; background: var(--d-paper); color: var(--d-ink);
  box-shadow: 0 2px 8px rgb(0 0 0 / .08), 0 16px 48px rgb(0 0 0 / .2); animation: rise .2s ease-out }
.panel[open] { display: flex; flex-direction: column }
.panel:focus { outline: 0 }
@keyframes rise { from { opacity: 0; translate: 0 12px } }
.head { display: flex; align-items: center; justify-content: space-between; gap: 12px; padding: 8px 8px 8px 18px; border-bottom: 1px solid var(--d-line) }
h2 { font-weight: 600; font-size: 16px; overflow: hidden; text-overflow: ellipsis; white-space: nowrap }
.close { display: grid; place-items: center; width: 40px; height: 40px; border-radius: 10px; color: var(--d-soft) }
.close:hover { color: var(--d-ink); background: color-mix(in srgb, var(--d-ink) 8%, transparent) }
.body { position: relative; flex: 1; min-height: 0; display: flex; flex-direction: column }
::slotted(*) { display: block; flex: 1; min-height: 0; width: 100%; border: 0 }
.notice { position: absolute; z-index: 1; inset: 0; display: flex; flex-direction: column; align-items: center; justify-content: center; gap: 10px; padding: 32px;
  background: var(--d-paper); text-align: center }
.notice.bar { position: static; padding: 12px 18px; gap: 6px; border-bottom: 1px solid var(--d-line) }
.notice[hidden], .notice :empty, .notice [hidden] { display: none }
.countdown, .reference { color: var(--d-soft) }
.reference { font-size: 12px; overflow-wrap: anywhere }
.ways { display: flex; flex-wrap: wrap; align-items: center; justify-content: center; gap: 8px 18px }
.retry { padding: .5em 1em; border-radius: 9px; background: var(--d-accent); color: var(--d-on-accent); font-weight: 600 }
.notice[data-code=""]::before { content: ""; width: 42px; height: 8px; background: radial-gradient(4px, var(--d-soft) 90%, transparent) 0 / 14px; animation: pulse 1.4s infinite }
@keyframes pulse { 50% { opacity: .3 } }
@media (max-width: 640px), (max-width: 960px) and (max-height: 480px) {
  .launcher { padding: 14px; bottom: calc(var(--d-edge) + env(safe-area-inset-bottom)) }
  .label { display: none }
  .panel, :host([data-position=bottom-left]) .panel { inset: 0; width: 100%; height: 100dvh; border: 0; border-radius: 0;
    padding: env(safe-area-inset-top) env(safe-area-inset-right) env(safe-area-inset-bottom) env(safe-area-inset-left) }
}
@media (prefers-reduced-motion: reduce) { *, ::before { animation: none !important } }
@media print { :host { display: none !important } }
`);
  shadow.adoptedStyleSheets = [sheet];

  // Appearance

  const systemDark = matchMedia("(prefers-color-scheme: dark)");
  const phone = matchMedia("(max-width: 640px), (max-width: 960px) and (max-height: 480px)");

  function scheme() {
    if (options.colorScheme !== "auto") return options.colorScheme;
    const root = own("documentElement");
    const named = [root.getAttribute("data-theme"), ...root.classList].find((name) => name === "dark" || name === "light");
    return named ?? (systemDark.matches ? "dark" : "light");
  }

  /** Applies the options and the page's colour scheme. */
  function refresh() {
    const root = own("documentElement");
    // Next to body, not in it: a router may replace body, and an iframe that is moved loads again.
    if (host.parentNode !== root) root.append(host);
    host.dataset.scheme = scheme();
    host.dataset.position = options.position;
    /** @type {CSSStyleRule} */ (sheet.cssRules[0]).style.setProperty("--d-given", options.accent || "initial");
    label.textContent = title.textContent = launcher.ariaLabel = options.title;
    closer.ariaLabel = closer.title = say("close");
    retrier.textContent = say("retry");
    fallback.textContent = options.fallbackUrl && options.fallbackLabel;
    fallback.href = options.fallbackUrl;
    const set = JSON.stringify({ ...chatOptions(), initialThread: null });
    if (chat && set !== applied) chat.setOptions(chatOptions());
    applied = set;
  }

  /** Shows the panel, on a phone as a modal that covers the page. */
  function show() {
    if (panel.open) panel.close();
    if (phone.matches) panel.showModal();
    else panel.open = true; // Unlike show(), this does not move the focus.
  }

  const focused = () => host.matches(":focus-within");

  function focus() {
    // On a phone, the keyboard would cover the text.
    if (ready && !phone.matches) chat?.focusComposer().catch(() => {});
    else panel.focus();
  }

  // Failures

  /** The failure that is shown, if any. */
  let failure = null;
  let timer = 0;
  /** Resolves the promises of fail(): on a retry by the visitor or by the countdown. */
  let waiting = [];

  /** Shows a failure. Without one, the notice says that the chat is starting, or is hidden. */
  function tell(f) {
    failure = f;
    clearTimeout(timer);
    notice.hidden = ready && !f;
    notice.classList.toggle("bar", ready);
    notice.dataset.code = f?.code ?? "";
    retrier.hidden = !f;
    fallback.hidden = !f || !options.fallbackUrl;
    status.textContent = f ? sentenceOf(f) : ready ? "" : say("loading");
    reference.textContent = f?.detail.requestId ? `${say("reference")} ${f.detail.requestId}` : "";
    tick();
  }

  /** Counts down to the next try, and retries if the visitor can see the chat. */
  function tick() {
    clearTimeout(timer);
    const until = failure?.until ?? 0;
    const left = Math.ceil((until - Date.now()) / 1000);
    countdown.textContent = until ? say("retrying").replace("{s}", String(Math.max(left, 0))) : "";
    if (!until) return;
    if (left > 0) timer = setTimeout(tick, 250);
    else if (isOpen() && own("visibilityState") === "visible") retry();
  }

  /** Reports and shows a failure, and waits for the next try. */
  function fail(e) {
    const f = e instanceof Failure ? e : new Failure("failed");
    if (f !== e) warn(String(e)); // ChatKit rejects an option.
    emit("error", { code: f.code, ...f.detail });
    tell(f);
    return new Promise((resolve) => waiting.push(resolve));
  }

  function retry() {
    const had = notice.contains(shadow.activeElement);
    tell(null);
    if (had) panel.focus(); // The focused element is hidden now.
    for (const go of waiting.splice(0)) go();
  }

  /** Repeats an attempt until it succeeds. */
  async function persist(attempt) {
    for (;;) {
      try {
        return await attempt();
      } catch (e) {
        await fail(e);
      }
    }
  }

  // ChatKit

  /** @type {import("@openai/chatkit").OpenAIChatKit} */
  let chat = null;
  let ready = false; // ChatKit accepts calls.
  let busy = false; // ChatKit is answering.
  let doubtful = false; // The stored thread may not load: it may be deleted or belong to another visitor.
  let started = false;
  /** The options that ChatKit has, as JSON. */
  let applied = "";
  /** Messages to send as soon as ChatKit takes them. */
  const asked = [];
  let tag;

  let sharing;
  /** Waits until there is a secret: the notice can say why there is none, ChatKit cannot. */
  const getClientSecret = async (current) => {
    sharing ??= persist(() => session(current)).finally(() => (sharing = undefined));
    const found = await sharing;
    if (found.api) return void build(found);
    return found.secret === current ? getClientSecret(current) : found.secret;
  };

  /** All options, because ChatKit resets those that are left out. @returns {import("@openai/chatkit").ChatKitOptions} */
  function chatOptions() {
    return {
      api: docs ? { url: docs.url, domainKey: docs.domain_key, fetch: request } : { getClientSecret },
      initialThread: thread() || null,
      locale: options.locale || undefined,
      frameTitle: options.title,
      theme: {
        colorScheme: scheme(),
        radius: "soft",
        // A computed colour, because the frame does not have the page's CSS variables.
        color: options.accent ? { accent: { primary: getComputedStyle(launcher).backgroundColor, level: 2 } } : undefined,
      },
      startScreen: { greeting: options.greeting || undefined, prompts: options.prompts },
      composer: { placeholder: options.placeholder || undefined },
      disclaimer: options.disclaimer ? { text: options.disclaimer } : undefined,
      ...(options.disableTelemetry && { disableTelemetry: true }), // The types do not have it.
    };
  }

  /** Loads ChatKit's script and waits until it has defined its element. */
  async function load() {
    const defined = customElements.whenDefined("openai-chatkit");
    if (customElements.get("openai-chatkit")) return;
    tag?.remove();
    tag = h("script", { src: options.chatkitUrl, async: true, nonce: script.nonce });
    const blocked = new Promise((_, reject) => {
      const give = () => reject(new Failure(navigator.onLine ? "script_blocked" : "offline"));
      setTimeout(give, 5_000);
      tag?.addEventListener("error", give);
    });
    own("head").append(tag);
    defined.then(() => failure?.code === "script_blocked" && retry()); // It loaded late.
    await Promise.race([defined, blocked]);
  }

  /** Creates ChatKit's element, and replaces an older one. found is the session, if it is another one. */
  function build(found) {
    if (found) docs = found.api;
    const c = create("openai-chatkit");
    c.setOptions(chatOptions());
    chat?.remove();
    chat = c;
    ready = false;
    busy = false;
    doubtful = thread() !== "";
    const late = setInterval(() => {
      if (failure) return; // It may wait for a secret, for example.
      clearInterval(late);
      if (c === chat) fail(new Failure("frame_blocked")).then(() => ready || build());
    }, 10_000);
    const listen = (name, fn) => c.addEventListener(name, (e) => c === chat && fn(e.detail));
    listen("chatkit.ready", () => {
      clearInterval(late);
      ready = true;
      tell(failure?.code === "frame_blocked" ? null : failure);
      if (shadow.activeElement === panel) focus();
      emit("start");
      flush();
    });
    listen("chatkit.thread.load.end", () => { doubtful = false; flush(); });
    listen("chatkit.thread.change", ({ threadId }) => {
      doubtful = false;
      keepThread(threadId ?? "");
      emit("thread", { threadId });
    });
    listen("chatkit.response.start", () => {
      busy = true;
      doubtful = false;
      emit("response");
    });
    listen("chatkit.response.end", () => { busy = false; flush(); });
    listen("chatkit.error", ({ error }) => {
      if (doubtful) {
        clearInterval(late);
        keepThread("");
        build();
      } else {
        busy = false;
        complain(error);
      }
    });
    host.append(c);
  }

  function start() {
    if (started) return;
    started = true;
    tell(null);
    persist(() => Promise.all([load(), session(null)]).then(([, found]) => build(found)));
  }

  const complain = (e) => emit("error", { code: "chatkit_error", message: String(e?.message ?? e) });

  /** Sends the next message. ChatKit takes none while it answers. */
  function flush() {
    if (!ready || busy || doubtful || !asked.length) return;
    busy = true;
    const text = asked.shift();
    chat.sendUserMessage({ text }).catch((e) => {
      busy = false;
      asked.unshift(text); // Send it after the current answer.
      complain(e);
    });
  }

  // Open, close

  /** The element that had the focus before. */
  let opener = null;

  const isOpen = () => host.dataset.open === "";

  /** Opens the panel. from is the clicked element, if any. null does not move the focus. */
  function open(from) {
    if (!host.isConnected) return window.addEventListener("DOMContentLoaded", () => open(from)); // body does not exist yet.
    if (!isOpen()) {
      opener = from ?? own("activeElement");
      host.dataset.open = "";
      write("sessionStorage", "open", "1");
      show();
      if (failure && failure.until <= Date.now()) retry();
      else tick();
      start();
      emit("open");
    }
    if (from !== null) focus();
  }

  function close(had = focused()) {
    if (!isOpen()) return;
    delete host.dataset.open;
    write("sessionStorage", "open");
    panel.close();
    if (had) {
      launcher.focus();
      if (opener?.isConnected) opener.focus();
    }
    emit("close");
  }

  panel.addEventListener("close", () => panel.open || close(true)); // By a phone's back gesture, for example.
  phone.addEventListener("change", () => isOpen() && show());
  systemDark.addEventListener("change", refresh);
  window.addEventListener("online", () => failure?.code === "offline" && retry());
  window.addEventListener("visibilitychange", tick);
  // When the page comes from the back/forward cache, restore the state of the page that the visitor left.
  window.addEventListener("pageshow", (e) => {
    if (!e.persisted) return;
    if (!read("sessionStorage", "open")) close();
    else if (!phone.matches) open(null);
    if (ready) chat.setThreadId(thread() || null).catch(complain);
  });

  window.addEventListener("keydown", (e) => {
    if (e.defaultPrevented || e.isComposing || e.repeat) return;
    const { key, held } = options.shortcut ?? {};
    const pressed = (m) => e[m + "Key"] === held.includes(m);
    // If a letter key types no ASCII (another alphabet, Alt on a Mac), use the key's position.
    const typed = /^Key/.test(e.code) && !/^[!-~]$/.test(e.key) ? e.code.slice(3) : e.key;
    if (key && typed?.toLowerCase() === key && ["ctrl", "alt", "shift", "meta"].every(pressed)) {
      e.preventDefault();
      if (isOpen()) close();
      else open();
    } else if (e.key === "Escape" && isOpen() && (focused() || own("activeElement") === own("body"))) {
      e.preventDefault();
      close();
    }
  });

  window.addEventListener("click", (e) => {
    const button = options.trigger && e.target instanceof Element && Element.prototype.closest.call(e.target, options.trigger);
    if (!button) return;
    e.preventDefault();
    open(button);
  }, true); // Runs before a router that handles links.

  // The last address that was checked, because a jump within a page is a navigation, too.
  let address = "";
  function openIfAsked() {
    const before = address;
    address = location.pathname + location.search;
    if (address !== before && new URLSearchParams(location.search).get("chatbot") === "open") open();
  }

  function begin() {
    refresh();
    new MutationObserver(refresh).observe(own("documentElement"), { attributeFilter: ["class", "data-theme"], childList: true });
    // On a phone, the open panel would cover the page that the visitor has just opened.
    if (read("sessionStorage", "open") && !phone.matches) open(null);
    openIfAsked();
    window.navigation?.addEventListener("navigatesuccess", openIfAsked);
    emit("ready");
  }

  expire();
  Object.defineProperty(window, "docent", {
    value: Object.freeze({
      open: () => open(),
      close: () => close(),
      ask(message) {
        asked.push(String(message));
        open();
        flush();
      },
      on(name, fn) {
        const listener = (e) => fn(e.detail);
        window.addEventListener("docent:" + name, listener);
        return () => window.removeEventListener("docent:" + name, listener);
      },
      set(given) {
        take(given);
        refresh();
      },
    }),
  });
  if (own("body")) begin();
  else window.addEventListener("DOMContentLoaded", begin);
})();
