// A chat with a hosted session. What OpenAI's servers would do happens here, too:
// the conversations, and whether a secret is still usable, live in this origin's
// storage, where the chat on the next page finds them.

import { element } from "./dom.js";
import { call, emit } from "./page.js";

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

function bubble({ role, text, note }) {
  const e = element("div", `message ${role}`, element("p", "", text));
  if (note) e.append(element("p", "note", note));
  return e;
}

// hosted returns the chat of such a session. ui is the frame around it.
export function hosted(ui) {
  const { log, main } = ui;
  let threadId = null;
  let busy = false; // An answer is on its way.
  let loading = Promise.resolve(); // Of a thread. It never rejects.

  function open(id) {
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
    ui.hideHistory();
    ui.render();
    main.scrollTop = main.scrollHeight;
  }

  // change is open for a visitor or a page that wants another thread.
  async function changeThread(id) {
    if (busy) throw new Error("An answer is on its way.");
    await open(id);
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
      ui.hideHistory();
      await session();
      await respond(message);
    } catch (error) {
      log.append(element("p", "failure", "No answer came. Please send the message again."));
      fail(error);
    } finally {
      busy = false;
      ui.render();
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
    ui.render();
    main.scrollTop = main.scrollHeight;
  }

  const fail = (error) => emit("error", error.message);

  return {
    label: "answers are canned",
    get busy() {
      return busy;
    },
    get title() {
      return stored().threads[threadId]?.title;
    },
    get empty() {
      return log.childElementCount === 0;
    },
    start: (id) => (id ? open(id) : session()).catch(fail),
    change: changeThread,
    send,
    refresh: () => open(threadId),
    threads: async () =>
      Object.entries(stored().threads)
        .reverse()
        .map(([id, { title }]) => ({ id, title })),
    conversation: () => [...log.querySelectorAll(".message")].map((e) => ({ role: e.classList[1], text: e.innerText })),
    expireSecret: () =>
      change(({ sessions }) => {
        for (const s of sessions) if (secret && s.name === short(secret)) s.expired = true;
      }),
    fail,
  };
}
