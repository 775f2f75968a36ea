// A thread as a stream's events change it. Turns alternate: what the visitor said,
// then what came back.

const known = new Set([
  "assistant_message", "client_tool_call", "end_of_turn", "generated_image", "structured_input", "task", "user_message", "widget", "workflow",
]);

const contentOf = "assistant_message.content_part.";

export class Thread {
  id = null;
  title = undefined;
  status = { type: "active" };
  turns = []; // {user, items, pending, error, notice, progress}

  // from makes a thread of what threads.get_by_id returned, with all its items.
  static from({ id, title, status }, items) {
    const thread = new Thread();
    thread.take({ id, title, status });
    for (const item of items) thread.#put(item);
    return thread;
  }

  take({ id, title, status }) {
    Object.assign(this, { id, title, status: status ?? this.status });
  }

  // ask begins a turn of the visitor and the one that answers. A retry has no text:
  // the turn to answer is there.
  ask(text) {
    for (const turn of this.turns) turn.notice = undefined;
    if (text !== undefined) this.turns.push({ user: true, items: [], pending: text });
    this.turns.push({ user: false, items: [] });
  }

  // settle ends the turns: what the server did not confirm is gone.
  settle() {
    for (const turn of this.turns) Object.assign(turn, { pending: undefined, progress: undefined });
    this.turns = this.turns.filter((turn) => turn.items.length > 0 || turn.error);
  }

  // finish shows all of the text that is held back.
  finish() {
    for (const item of this.items()) item.streaming = false;
  }

  items() {
    return this.turns.flatMap((turn) => turn.items);
  }

  // apply changes the thread by an event. It throws if the event makes no sense.
  apply(event) {
    const turn = this.turns.at(-1);
    switch (event.type) {
      case "thread.created":
        this.take(event.thread);
        break;
      case "thread.updated":
        if (event.thread.id === this.id) this.take(event.thread);
        break;
      case "thread.item.added":
        this.#put({ ...event.item, streaming: true });
        break;
      case "thread.item.done":
      case "thread.item.replaced":
        this.#put(event.item);
        break;
      case "thread.item.removed":
        for (const turn of this.turns) turn.items = turn.items.filter((item) => item.id !== event.item_id);
        break;
      case "thread.item.updated":
        this.#update(event);
        break;
      case "progress_update":
        turn.progress = event.text;
        break;
      case "notice":
        turn.notice = event;
        break;
    }
  }

  // put adds an item, or replaces the one with its ID.
  #put(item) {
    if (!known.has(item.type)) return;
    for (const turn of this.turns) {
      const i = turn.items.findIndex(({ id }) => id === item.id);
      if (i >= 0) {
        turn.items[i] = item;
        return;
      }
    }
    const user = item.type === "user_message";
    let turn = this.turns.findLast((turn) => turn.user === user && (!user || turn.pending !== undefined));
    if (!turn || (!user && turn !== this.turns.at(-1))) this.turns.push((turn = { user, items: [] }));
    turn.items.push(item);
    Object.assign(turn, { pending: undefined, progress: undefined });
  }

  #update({ item_id, update }) {
    const item = this.items().find(({ id }) => id === item_id);
    if (!item || !update.type.startsWith(contentOf)) return;
    const i = update.content_index;
    switch (update.type.slice(contentOf.length)) {
      case "added":
      case "done":
        item.content[i] = structuredClone(update.content);
        break;
      case "text_delta":
        item.content[i].text += update.delta;
        break;
      case "annotation_added":
        item.content[i].annotations[update.annotation_index] = update.annotation;
        break;
    }
  }
}

// textOf returns what is on show of a text: while it streams, all but the last two
// words, which are still in the smoothing buffer.
export const textOf = (item, { text }) => (item.streaming ? text.replace(/\s*\S+(\s+\S+)?\s*$/, "") : text);
