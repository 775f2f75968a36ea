// A chat with a custom API: the server has the threads, and its events say what is on
// show.

import { button, element, icon, link, markdown } from "./dom.js";
import { emit } from "./page.js";
import { textOf, Thread } from "./thread.js";
import { json, Lost, patient, stream } from "./transport.js";

const generating = "There was an error while generating the assistant's response.";
const tooMany = "You’ve sent too many requests. Please try again later.";

const seconds = 1000;

// custom returns the chat. ui is the frame around it.
export function custom(ui) {
  const { log, main } = ui;
  let thread = new Thread();
  let stop = null; // Ends the answer that is on its way.
  let busy = false;
  let cancellable = false;
  let loading = Promise.resolve(); // Of a thread. It never rejects.
  let listed = null; // {threads, fresh}: fresh until that time.
  const refused = new Map(); // Errors of threads that were not found, by ID, for 5 s.
  const judged = new Map(); // The visitor's feedback, by the ID of a turn's first item.

  // Threads

  async function list() {
    if (listed && Date.now() < listed.fresh) return listed.threads;
    const pace = await ui.pace();
    const threads = [];
    for (let page = { has_more: true }; page.has_more; ) {
      page = await patient("threads.list", { limit: 9999, order: "desc", after: threads.at(-1)?.id });
      threads.push(...page.data);
    }
    listed = { threads, fresh: Date.now() + 30 * seconds * pace };
    return threads;
  }

  async function get(id) {
    const known = refused.get(id);
    if (known && Date.now() < known.until) throw known.error;
    try {
      const { items, ...found } = await json("threads.get_by_id", { thread_id: id });
      const all = [...items.data];
      for (let page = items; page.has_more; all.push(...page.data)) {
        page = await json("items.list", { thread_id: id, limit: 9999, order: "asc", after: all.at(-1)?.id });
      }
      return Thread.from(found, all);
    } catch (error) {
      if ([404, 429].includes(error.status)) refused.set(id, { error, until: Date.now() + 5 * seconds * (await ui.pace()) });
      throw error;
    }
  }

  function show(t) {
    thread = t;
    ui.hideHistory();
    draw();
  }

  async function load(id) {
    emit("thread.load.start", { threadId: id });
    try {
      show(await get(id));
    } finally {
      emit("thread.load.end", { threadId: id });
    }
  }

  // change opens another thread, for the visitor or the page. If it does not load, the
  // last one stays.
  async function change(id) {
    if (busy) throw new Error("An answer is on its way.");
    const before = thread.id;
    emit("thread.change", { threadId: id });
    if (id === null) return show(new Thread());
    try {
      await load(id);
    } catch (error) {
      emit("thread.change", { threadId: before });
      throw error;
    }
  }

  async function start(id) {
    if (ui.options().history?.enabled !== false) list().catch(() => {}); // Nothing shows that it failed.
    if (!id) return;
    loading = load(id).catch((error) => {
      emit("error", `Failed to load initial thread: ${error.message}`, "InitialThreadLoadError");
      emit("thread.change", { threadId: null });
    });
  }

  // Messages

  async function send(text, newThread) {
    if (busy) throw new Error("An answer is on its way.");
    if (!text.trim()) throw new Error("The message is empty.");
    busy = true;
    await loading;
    if (newThread) show(new Thread());
    ui.hideHistory();
    thread.ask(text);
    const input = { content: [{ type: "input_text", text }], quoted_text: "", attachments: [], inference_options: {} };
    if (thread.id === null) respond("threads.create", { input });
    else respond("threads.add_user_message", { input, thread_id: thread.id });
  }

  // retry asks for another answer in place of a turn. What it names is the last item
  // of the turn before, whatever that is.
  function retry(turn) {
    const i = thread.turns.indexOf(turn);
    const item_id = thread.turns[i - 1]?.items.at(-1)?.id;
    busy = true;
    thread.turns.length = i;
    thread.ask();
    respond("threads.retry_after_item", { thread_id: thread.id, item_id });
  }

  async function respond(type, params) {
    let stopped = false;
    emit("response.start");
    ui.toast("");
    draw();
    try {
      const events = stream(type, params, (close) => {
        stop = () => {
          stopped = true;
          close();
        };
      });
      for await (const event of events) {
        take(event);
        draw();
      }
    } catch (error) {
      if (stopped) thread.finish();
      else if (!(error instanceof Lost)) fail({ message: generating, allow_retry: true });
      else if (error.tooMany) ui.toast(tooMany);
    }
    busy = cancellable = false;
    stop = null;
    thread.settle();
    if (thread.id === null) emit("thread.change", { threadId: null });
    emit("response.end");
    draw();
  }

  function take(event) {
    if (event.type === "error") return fail(event);
    if (event.type === "stream_options") cancellable = event.stream_options.allow_cancel;
    if (event.type === "client_effect") emit("effect", { name: event.name, data: event.data });
    try {
      thread.apply(event);
    } catch {
      emit("log", { name: "stream.event.dropped", data: { type: event.update?.type ?? event.type } });
      return;
    }
    if (event.type === "thread.created") emit("thread.change", { threadId: thread.id });
    if (event.type.startsWith("thread.") && listed && thread.id) {
      listed.threads = listed.threads.filter(({ id }) => id !== thread.id);
      listed.threads.unshift({ id: thread.id, title: thread.title });
    }
  }

  // fail shows an error: as a toast while there is no thread that could have it.
  function fail({ code, message, allow_retry }) {
    const words = code === "stream.error" ? generating : (message ?? generating);
    emit("error", words, "StreamError");
    if (thread.id === null) ui.toast(words);
    else thread.turns.at(-1).error = { message: words, retry: allow_retry };
  }

  // What is on show

  function draw() {
    log.replaceChildren(...thread.turns.flatMap(drawTurn));
    log.ariaBusy = busy;
    ui.render();
    main.scrollTop = main.scrollHeight;
  }

  function drawTurn(turn) {
    const last = turn === thread.turns.at(-1);
    if (turn.user) return [turn.pending ?? turn.items.map(plain).join("\n")].map((text) => element("div", "message user", element("p", "", text)));
    const answers = turn.items.filter(({ type }) => type === "assistant_message");
    const parts = answers.map((item) => element("div", "message assistant", ...item.content.map((part) => drawText(item, part))));
    if (turn.progress) parts.push(element("p", "progress", turn.progress));
    else if (last && busy) parts.push(element("p", "waiting streaming"));
    if (turn.error) parts.push(drawError(turn));
    else if (answers.length > 0 && !(last && busy)) {
      const notice = last && turn.notice;
      parts.push(...drawSources(answers), notice ? drawNotice(notice) : drawActions(turn));
    }
    return parts;
  }

  const plain = ({ content }) => content.map(({ text }) => text).join("");

  // drawText puts a chip where each place of the text has sources. A place counts
  // UTF-16 units, as JavaScript does.
  function drawText(item, part) {
    const text = textOf(item, part);
    const places = Map.groupBy(
      part.annotations.filter(({ index }) => index > 0 && index <= text.length),
      ({ index, source }) => `${String(index).padStart(9, "0")} ${source.type}`,
    );
    const p = element("p", "");
    let from = 0;
    for (const key of [...places.keys()].sort()) {
      const [{ index, source }, ...more] = places.get(key);
      p.append(...markdown(text.slice(from, index)), drawChip(source, more.length));
      from = index;
    }
    p.append(...markdown(text.slice(from)));
    return p;
  }

  // Only a chip of a URL is a link.
  function drawChip(source, more) {
    const name = { url: () => new URL(source.url).hostname, file: () => icon("document"), entity: () => source.inline_label ?? icon(source.icon) };
    const label = [name[source.type](), more > 0 ? ` +${more}` : ""];
    const chip = source.type === "url" ? link(source.url, ...label) : element("span", "", ...label);
    chip.className = "chip";
    chip.title = source.title;
    return chip;
  }

  const identity = { url: ({ url, title }) => `${url} ${title}`, file: ({ filename }) => filename, entity: ({ id }) => id };

  function drawSources(answers) {
    const sources = answers.flatMap(({ content }) => content).flatMap(({ annotations }) => annotations.map(({ source }) => source));
    const each = new Map(sources.map((source) => [`${source.type} ${identity[source.type](source)}`, source]));
    if (each.size === 0) return [];
    const rows = [...each.values()].map((source) => element("li", "", source.type === "url" ? link(source.url, source.title) : source.title));
    return [element("details", "sources", element("summary", "", "Sources"), element("ul", "", ...rows))];
  }

  function drawError(turn) {
    const e = element("div", "failure", element("p", "", turn.error.message));
    if (turn.error.retry) e.append(button("action", () => retry(turn), "Retry"));
    return e;
  }

  const drawNotice = ({ level, title, message }) =>
    element("div", `notice ${level}`, ...(title ? [element("strong", "", title)] : []), element("p", "", ...markdown(message)));

  function drawActions(turn) {
    const { feedback = true, retry: again = false } = ui.options().threadItemActions ?? {};
    const e = element("div", "actions");
    const judge = (kind, label) => {
      const b = button("action", () => {
        judged.set(turn.items[0].id, kind);
        draw();
        json("items.feedback", { thread_id: thread.id, item_ids: turn.items.map(({ id }) => id), kind }).catch(() => {}); // Nobody waits.
      }, label);
      b.ariaPressed = judged.get(turn.items[0].id) === kind;
      return b;
    };
    if (feedback) e.append(judge("positive", "Thumbs up"), judge("negative", "Thumbs down"));
    if (again) e.append(button("action", () => retry(turn), "Try again"));
    return e;
  }

  return {
    label: "the answers are the server's",
    async rename(id, title) {
      await json("threads.update", { thread_id: id, title });
      for (const t of listed?.threads ?? []) if (t.id === id) t.title = title;
      if (thread.id === id) thread.title = title;
      ui.render();
    },
    async remove(id) {
      await json("threads.delete", { thread_id: id });
      if (listed) listed.threads = listed.threads.filter((t) => t.id !== id);
      if (thread.id !== id) return;
      thread = new Thread();
      emit("thread.change", { threadId: null });
      draw();
    },
    get busy() {
      return busy;
    },
    get title() {
      return thread.title;
    },
    get empty() {
      return thread.turns.length === 0;
    },
    get status() {
      return thread.status;
    },
    get stop() {
      return cancellable ? stop : null;
    },
    start,
    change,
    send,
    async refresh() {
      if (!busy && thread.id) show(await get(thread.id));
    },
    threads: list,
    conversation: () =>
      thread.turns.flatMap((turn) => {
        if (turn.pending !== undefined) return [{ role: "user", text: turn.pending }];
        return turn.items
          .filter(({ content }) => content)
          .map((item) => ({ role: turn.user ? "user" : "assistant", text: item.content.map((part) => part.text && textOf(item, part)).join("") }));
      }),
    fail: () => {}, // Nothing shows.
  };
}
