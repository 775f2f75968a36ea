// The way of a request to a custom API. It leaves from the page, with the page's
// fetch, and the frame reads the response through the port.

import { call, emit } from "./page.js";

// A UUID for this load of the frame. crypto.randomUUID needs a secure context.
const instance = URL.createObjectURL(new Blob()).slice(-36);
const attempts = 6;

// locale is the one language that requests ask for.
export const locale = { value: "en" };

// Lost is a streaming request that failed with a status, of which the visitor sees
// nothing, but for "too many requests".
export class Lost extends Error {
  constructor(status) {
    super(`status ${status}`);
    this.tooMany = status === 429;
  }
}

// HTTPError is a JSON request that failed. Its message is the server's.
class HTTPError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

// pause waits; a test may shorten it with the control object's pace.
const pause = async (ms) => {
  const pace = await call("pace");
  await new Promise((resolve) => setTimeout(resolve, ms * pace));
};

// backoff waits after the attempt of that number, from 0: 1 to 2 s, 2 to 4 s, 4 to
// 8 s, then 5 to 10 s.
const backoff = (attempt) => pause(Math.min(1000 * 2 ** attempt, 5000) * (1 + Math.random()));

let last = 0;

// request sends one, and returns the answer's head. read() returns a piece of the body, or null at its
// end. close() aborts the page's fetch, as the real one does after every response.
async function request(type, params, accept) {
  const id = ++last;
  const headers = {
    accept,
    "accept-language": locale.value,
    "chatkit-frame-instance-id": instance,
    "content-type": "application/json",
  };
  const head = await call("fetch", id, JSON.stringify({ type, params }), headers);
  return { ...head, read: () => call("read", id), close: () => call("abort", id) };
}

// json sends a request that is answered with JSON.
export async function json(type, params) {
  const response = await request(type, params, "*/*");
  let text = "";
  for (let piece; (piece = await response.read()) !== null; ) text += piece;
  let body;
  try {
    body = JSON.parse(text);
  } catch {
    // The status says more.
  }
  if (!response.ok) throw new HTTPError(response.status, body?.message || response.statusText);
  return body;
}

// patient is json for what the visitor does not wait for: it tries again after a
// status of 500 or more.
export async function patient(type, params) {
  for (let n = 0; ; n++) {
    try {
      return await json(type, params);
    } catch (error) {
      if (n === attempts - 1 || !(error.status >= 500)) throw error;
      await backoff(n);
    }
  }
}

// stream sends a request that is answered with events. opened gets the function that
// stops it.
export async function* stream(type, params, opened) {
  let response;
  for (let n = 0; ; n++) {
    response = await request(type, params, "text/event-stream");
    if (response.ok && response.contentType.startsWith("text/event-stream")) break;
    const refused = response.status >= 400 && response.status < 500;
    if (!refused && n < attempts - 1) {
      await backoff(n); // The same POST again: what the server did, it does again.
      continue;
    }
    response.close();
    throw new Lost(response.status);
  }
  opened(response.close);
  let rest = "";
  try {
    for (let piece; (piece = await response.read()) !== null; ) {
      const events = (rest + piece).replaceAll("\r\n", "\n").split("\n\n");
      rest = events.pop();
      for (const event of events) yield* parse(event);
    }
  } finally {
    response.close();
  }
}

// parse yields the object in an event's data. Comments have none.
function* parse(event) {
  const data = event
    .split("\n")
    .filter((line) => line.startsWith("data:"))
    .map((line) => line.slice(5).replace(/^ /, ""))
    .join("\n");
  if (!data) return;
  try {
    yield JSON.parse(data);
  } catch (error) {
    emit("error", `Failed to parse stream event: ${error.message}`, "StreamEventParsingError");
  }
}
