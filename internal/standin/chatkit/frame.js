// The chat in the frame. What OpenAI's servers would do happens here, too: the
// conversations, and whether a secret is still usable, live in this origin's
// storage, where the chat on the next page finds them.

const $ = (id) => document.getElementById(id);
const main = document.querySelector("main");
const threads = $("threads");
const log = $("log");
const text = $("text");

// The page.

let port;

function call(name, ...args) {
  const { port1, port2 } = new MessageChannel();
  return new Promise((resolve, reject) => {
    port1.onmessage = ({ data }) => (data.error === undefined ? resolve(data.value) : reject(new Error(data.error)));
    port.postMessage({ name, args }, [port2]);
  });
}

const emit = (type, detail) => call("emit", `chatkit.${type}`, detail);

addEventListener("message", ({ source, data, ports }) => {
  if (source !== parent || data !== "connect") return;
  [port] = ports;
  port.onmessage = async ({ data, ports: [reply] }) => {
    try {
      reply.postMessage({ value: await functions[data.name](...data.args) });
    } catch (error) {
      reply.postMessage({ error: error.message });
    }
  };
});

// What a server would keep: {threads: {ID: {title, messages: [{role, text}]}},
// sessions: [{name, messages, expired}]}, the oldest first. Of a secret only its
// beginning is kept.

let memory = { threads: {}, sessions: [] }; // For where storage is refused.

function stored() {
  try {
    return JSON.parse(localStorage.getItem("chatkit stand-in")) ?? memory;
  } catch {
    return memory;
  }
}

function change(f) {
  memory = stored();
  const result = f(memory);
  try {
    localStorage.setItem("chatkit stand-in", JSON.stringify(memory));
  } catch {
    // It is in memory.
  }
  return result;
}

const short = (secret) => secret.slice(0, 16); // "ek_standin_" and five characters of its own.

let secret = null;
let asking = null;

function usable() {
  return secret !== null && !stored().sessions.some((s) => s.name === short(secret) && s.expired);
}

// session makes sure that there is a usable secret. Calls at the same time ask once.
function session() {
  asking ??= (async () => {
    for (let tries = 0; !usable(); tries++) {
      if (tries === 2) throw new Error("No usable client secret was given.");
      secret = await call("clientSecret", secret);
      change(({ sessions }) => {
        if (!sessions.some((s) => s.name === short(secret))) sessions.push({ name: short(secret), messages: 0 });
      });
    }
  })().finally(() => {
    asking = null;
  });
  return asking;
}

function sessionLine() {
  return change(({ sessions }) => {
    const i = sessions.findIndex((s) => s.name === short(secret));
    const messages = ++sessions[i].messages;
    return `Session ${sessions[i].name}… · message ${messages} · sessions: ${i + 1}`;
  });
}

// The conversation.

let options = {};
let threadId = null;
let busy = false; // An answer is on its way.
let loading = Promise.resolve(); // Of a thread. It never rejects.

function openThread(id) {
  const opened = load(id);
  loading = opened.catch(() => {});
  return opened;
}

async function load(id) {
  if (id === null) {
    show(null, []);
    return;
  }
  emit("thread.load.start", { threadId: id });
  await session();
  const thread = stored().threads[id];
  if (!thread) throw new Error(`Thread ${id} not found.`);
  show(id, thread.messages);
  emit("thread.load.end", { threadId: id });
}

function show(id, messages) {
  threadId = id;
  log.replaceChildren(...messages.map(bubble));
  hideHistory();
  render();
  main.scrollTop = main.scrollHeight;
}

// changeThread is openThread for a visitor or a page that wants another one.
async function changeThread(id) {
  if (busy) throw new Error("An answer is on its way.");
  await openThread(id);
  emit("thread.change", { threadId: id });
}

async function send(message, newThread) {
  if (busy) throw new Error("An answer is on its way.");
  if (!message.trim()) throw new Error("The message is empty.");
  busy = true;
  try {
    await loading;
    if (newThread) show(null, []);
    if (threadId === null) {
      threadId = `cthr_${crypto.randomUUID().replaceAll("-", "")}`;
      change((s) => (s.threads[threadId] = { title: message.slice(0, 60), messages: [] }));
      emit("thread.change", { threadId });
    }
    add("user", message);
    hideHistory();
    await session();
    await respond(message);
  } catch (error) {
    log.append(element("p", "failure", "No answer came. Please send the message again."));
    fail(error);
  } finally {
    busy = false;
    render();
  }
}

async function respond(message) {
  emit("response.start");
  const answer = bubble({ role: "assistant", text: "" });
  answer.classList.add("streaming");
  log.setAttribute("aria-busy", "true"); // A screen reader hears it once, when it is complete.
  log.append(answer);
  const words = `Here your assistant would answer “${message.slice(0, 80)}” from your documentation.`.split(/(?<= )/);
  const still = matchMedia("(prefers-reduced-motion: reduce)").matches;
  for (const word of words) {
    if (!still) await new Promise((resolve) => setTimeout(resolve, 500 / words.length));
    answer.firstChild.textContent += word;
    main.scrollTop = main.scrollHeight;
  }
  answer.remove();
  add("assistant", words.join(""), sessionLine());
  log.removeAttribute("aria-busy");
  emit("response.end");
}

function add(role, text, note) {
  const message = { role, text, note };
  change((s) => s.threads[threadId].messages.push(message));
  log.append(bubble(message));
  render();
  main.scrollTop = main.scrollHeight;
}

const fail = (error) => emit("error", error.message);

// What is on show.

const icons = {
  bolt: "M13 3 5 14h6l-1 7 8-11h-6z",
  "book-open": "M12 6c-2-1.5-5-2-8-2v14c3 0 6 .5 8 2 2-1.5 5-2 8-2V4c-3 0-6 .5-8 2zm0 0v14",
  bug: "M8 9a4 4 0 0 1 8 0v6a4 4 0 0 1-8 0zm0 2H4m4 4H4m12-4h4m-4 4h4M9 5 7 3m8 2 2-2",
  "chevron-right": "m9 6 6 6-6 6",
  "circle-question": "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM9.5 9.500a2.5 2.5 0 1 1 3.5 2.300c-.6.3-1 .9-1 1.600v.1m0 3v.1",
  close: "m6 6 12 12M18 6 6 18",
  compose: "M12 5H5v14h14v-7M18 3l3 3-9 9H9v-3z",
  document: "M6 3h8l4 4v14H6zm8 0v4h4M9 12h6m-6 4h6",
  globe: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18zM3 12h18M12 3c-5 5-5 13 0 18 5-5 5-13 0-18z",
  history: "M4 12a8 8 0 1 0 3-6.200M4 4v4h4m4 0v4l3 2",
  lightbulb: "M9 18h6m-5 3h4M8.5 14a6 6 0 1 1 7 0c-.5.5-.5 1-.5 1.500H9c0-.5 0-1-.5-1.500z",
  search: "M10.5 17a6.5 6.5 0 1 0 0-13 6.5 6.5 0 0 0 0 13zm4.7-1.800L20 20",
  send: "M12 19V5m-6 6 6-6 6 6",
  "settings-slider": "M4 8h9m4 0h3M4 16h3m4 0h9M15 10a2 2 0 1 0 0-4 2 2 0 0 0 0 4zm-6 8a2 2 0 1 0 0-4 2 2 0 0 0 0 4z",
  sparkle: "M12 3c.8 5 3 8 9 9-6 1-8.2 4-9 9-.8-5-3-8-9-9 6-1 8.2-4 9-9z",
  "square-code": "M4 4h16v16H4zm6 5-3 3 3 3m4-6 3 3-3 3",
};

function icon(name) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = svg.appendChild(document.createElementNS(ns, "path"));
  path.setAttribute("d", icons[name?.replace("lucide:", "")] ?? icons.sparkle);
  return svg;
}

function element(name, className, ...children) {
  const e = document.createElement(name);
  e.className = className;
  e.append(...children);
  return e;
}

function bubble({ role, text, note }) {
  const e = element("div", `message ${role}`, element("p", "", text));
  if (note) e.append(element("p", "note", note));
  return e;
}

function row(glyph, label, onClick) {
  const button = element("button", "", icon(glyph), element("span", "", label));
  button.type = "button";
  button.addEventListener("click", onClick);
  return element("li", "", button);
}

// markdown knows links and bold text, which is what a disclaimer has.
function markdown(source) {
  return source.split(/(\[[^\]]+\]\(https?:[^)\s]+\)|\*\*[^*]+\*\*)/).map((part) => {
    if (part.startsWith("**")) return element("strong", "", part.slice(2, -2));
    const link = part.match(/^\[(.+)\]\((.+)\)$/);
    if (!link) return part;
    const a = element("a", "", link[1]);
    Object.assign(a, { href: link[2], target: "_blank", rel: "noreferrer" });
    return a;
  });
}

const contentText = ({ text, content }) => text ?? content?.map((part) => part.text).join("") ?? "";

function theme({ colorScheme, color = {}, radius, density, typography = {} }) {
  const root = document.documentElement;
  Object.assign(root.dataset, { scheme: colorScheme ?? "light", radius: radius ?? "pill", density: density ?? "normal" });
  const set = (name, value) => (value ? root.style.setProperty(name, value) : root.style.removeProperty(name));
  set("--accent", color.accent?.primary);
  set("--on-accent", color.accent && readableOn(color.accent.primary));
  set("--surface", color.surface?.background);
  set("--text", color.surface?.foreground);
  set("--hue", color.grayscale?.hue);
  set("--tint", color.grayscale?.tint);
  set("--font", typography.fontFamily);
  set("--size", typography.baseSize && `${typography.baseSize}px`);
}

// readableOn returns black or white, whichever has more contrast on the colour.
function readableOn(color) {
  const canvas = new OffscreenCanvas(1, 1).getContext("2d");
  canvas.fillStyle = color;
  canvas.fillRect(0, 0, 1, 1);
  const [r, g, b] = [...canvas.getImageData(0, 0, 1, 1).data].map((v) => (v / 255) ** 2.2);
  return 0.21 * r + 0.72 * g + 0.07 * b > 0.18 ? "#000" : "#fff";
}

function render() {
  const { header = {}, history, startScreen = {}, composer = {}, disclaimer, locale } = options;
  const fresh = log.childElementCount === 0;
  document.querySelector("header").hidden = header.enabled === false;
  $("title").hidden = header.title?.enabled === false;
  $("title").textContent = header.title?.text ?? stored().threads[threadId]?.title ?? "New chat";
  $("history").hidden = history?.enabled === false;
  for (const side of ["left", "right"]) {
    const action = header[`${side}Action`];
    $(`${side}-action`).hidden = !action;
    if (action) {
      $(`${side}-action`).replaceChildren(icon(action.icon));
      $(`${side}-action`).setAttribute("aria-label", action.icon);
    }
  }
  $("start").hidden = !fresh || !threads.hidden;
  log.hidden = fresh || !threads.hidden;
  $("greeting").textContent = startScreen.greeting ?? "What can I help with today?";
  $("prompts").replaceChildren(
    ...(startScreen.prompts ?? []).map(({ label, prompt, icon }) =>
      row(icon, label, () => send(typeof prompt === "string" ? prompt : contentText({ content: prompt })).catch(fail)),
    ),
  );
  text.placeholder = composer.placeholder ?? "Message the AI";
  $("send").disabled = busy || !text.value.trim();
  $("disclaimer").replaceChildren(...markdown(disclaimer?.text ?? ""));
  $("disclaimer").classList.toggle("high-contrast", disclaimer?.highContrast === true);
  $("locale").textContent = `(${locale ?? navigator.language})`;
}

function showHistory() {
  const rows = Object.entries(stored().threads).reverse().map(([id, { title }]) =>
    row("document", title, () => changeThread(id).catch(fail)),
  );
  threads.firstChild.replaceChildren(...(rows.length ? rows : [element("li", "", "No chats yet.")]));
  if (threads.hidden) emit("history.open");
  threads.hidden = false;
  $("history").setAttribute("aria-expanded", "true");
  render();
}

function hideHistory() {
  if (threads.hidden) return;
  emit("history.close");
  threads.hidden = true;
  $("history").setAttribute("aria-expanded", "false");
  render();
}

// What the page may call.

const functions = {
  setOptions(o) {
    options = o;
    theme(typeof o.theme === "string" ? { colorScheme: o.theme } : (o.theme ?? {}));
    render();
  },
  // start is called once, after the first options.
  start() {
    (options.initialThread ? openThread(options.initialThread) : session()).catch(fail);
  },
  focusComposer: () => text.focus(),
  setThreadId: (id) => changeThread(id),
  sendUserMessage: (message) => send(contentText(message), message.newThread),
  setComposerValue(value) {
    text.value = contentText(value);
    render();
  },
  showHistory,
  hideHistory,
  fetchUpdates: () => openThread(threadId),
  expireSecret: () =>
    change(({ sessions }) => {
      for (const s of sessions) if (secret && s.name === short(secret)) s.expired = true;
    }),
  conversation: () => [...log.querySelectorAll(".message")].map((e) => ({ role: e.classList[1], text: e.innerText })),
};

// What the visitor does.

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("send").disabled) return;
  const message = text.value;
  text.value = "";
  send(message).catch(fail);
});
text.addEventListener("input", render);
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
$("new").addEventListener("click", async () => {
  if (busy) return;
  await changeThread(null);
  text.focus();
});
$("history").addEventListener("click", () => (threads.hidden ? showHistory() : hideHistory()));
for (const side of ["left", "right"]) $(`${side}-action`).addEventListener("click", () => call("headerAction", `${side}Action`));
for (const e of document.querySelectorAll("[data-icon]")) e.append(icon(e.dataset.icon));

parent.postMessage("hello", "*");
