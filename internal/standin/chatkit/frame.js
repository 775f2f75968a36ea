// The frame around the chat: header, start screen, history and composer, and what the
// page may call. The chat itself is a hosted one or one of a custom API.

import { custom } from "./custom.js";
import { $, button, element, icon, iconButton, markdown, row } from "./dom.js";
import { hosted } from "./hosted.js";
import { call, connect, emit } from "./page.js";
import { locale } from "./transport.js";

const threads = $("threads");
const text = $("text");

let options = {};
let chat = null; // Of the kind that the first options ask for.

const ui = {
  log: $("log"),
  main: document.querySelector("main"),
  options: () => options,
  pace: () => call("pace"),
  render,
  hideHistory,
  toast(words) {
    $("toast").replaceChildren(...markdown(words));
  },
};

// What is on show.

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
  const { header = {}, history, startScreen = {}, composer = {}, disclaimer } = options;
  document.querySelector("header").hidden = header.enabled === false;
  $("title").hidden = header.title?.enabled === false;
  $("title").textContent = header.title?.text ?? chat.title ?? "New chat";
  $("history").hidden = history?.enabled === false;
  for (const side of ["left", "right"]) {
    const action = header[`${side}Action`];
    $(`${side}-action`).hidden = !action;
    if (action) {
      $(`${side}-action`).replaceChildren(icon(action.icon));
      $(`${side}-action`).setAttribute("aria-label", action.icon);
    }
  }
  $("start").hidden = !chat.empty || !threads.hidden;
  ui.log.hidden = chat.empty || !threads.hidden;
  $("greeting").textContent = startScreen.greeting ?? "What can I help with today?";
  $("prompts").replaceChildren(
    ...(startScreen.prompts ?? []).map(({ label, prompt, icon }) =>
      row(icon, label, () => chat.send(typeof prompt === "string" ? prompt : contentText({ content: prompt })).catch(chat.fail)),
    ),
  );
  renderComposer(composer);
  $("disclaimer").replaceChildren(...markdown(disclaimer?.text ?? ""));
  $("disclaimer").classList.toggle("high-contrast", disclaimer?.highContrast === true);
  $("stand-in").textContent = `Stand-in for ChatKit: ${chat.label} (${options.locale ?? navigator.language})`;
}

// A closed thread has a sentence in place of the composer. A locked one without a
// reason is not locked.
function renderComposer({ placeholder }) {
  const { type, reason } = chat.status ?? {};
  const locked = type === "locked" && Boolean(reason);
  $("composer").hidden = type === "closed";
  $("banner").textContent = type === "closed" || locked ? (reason ?? "This chat is closed.") : "";
  text.placeholder = placeholder ?? "Message the AI";
  text.disabled = locked;
  $("send").disabled = chat.busy || locked || !text.value.trim();
  $("send").hidden = Boolean(chat.stop);
  $("stop").hidden = !chat.stop;
}

async function showHistory() {
  const opens = threads.hidden;
  threads.hidden = false;
  if (opens) emit("history.open");
  $("history").setAttribute("aria-expanded", "true");
  render();
  await fillHistory();
}

async function fillHistory() {
  let rows = [];
  try {
    rows = (await chat.threads()).map(threadRow);
  } catch {
    // As if there were none: ChatKit shows no error here.
  }
  threads.firstChild.replaceChildren(...(rows.length ? rows : [element("li", "", "No chats yet.")]));
}

function threadRow({ id, title = "New chat" }) {
  const { showRename = true, showDelete = true } = options.history ?? {};
  const more = [];
  if (chat.rename && showRename) more.push(iconButton("compose", `Rename ${title}`, () => li.replaceChildren(renameForm(id, title))));
  if (chat.remove && showDelete) more.push(iconButton("trash", `Delete ${title}`, () => chat.remove(id).then(fillHistory, () => {})));
  const li = row("document", title, () => chat.change(id).catch(chat.fail), ...more);
  return li;
}

function renameForm(id, title) {
  const input = element("input", "");
  Object.assign(input, { value: title, ariaLabel: "Title" });
  const form = element("form", "rename", input, button("action", () => form.requestSubmit(), "Save"));
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    chat.rename(id, input.value).then(fillHistory, () => {});
  });
  return form;
}

function hideHistory() {
  if (threads.hidden) return;
  emit("history.close");
  threads.hidden = true;
  $("history").setAttribute("aria-expanded", "false");
  render();
}

// What a test sees and does, which a page cannot.

const visible = (selector) => [...document.querySelectorAll(selector)].filter((e) => e.checkVisibility());
const labelOf = (e) => e.ariaLabel ?? e.innerText.trim();

function shown() {
  const texts = (selector) => visible(selector).map((e) => e.innerText.trim());
  const links = (selector) => visible(selector).map((a) => ({ text: a.innerText.trim(), href: a.href }));
  // The text of the message before the chip, without chips.
  const before = (chip) => {
    const nodes = [...chip.parentNode.childNodes];
    return nodes.slice(0, nodes.indexOf(chip)).filter((n) => !n.classList?.contains("chip")).map((n) => n.textContent).join("");
  };
  for (const details of document.querySelectorAll("details")) details.open = true;
  return {
    title: $("title").textContent,
    start: !$("start").hidden,
    messages: chat.conversation(),
    chips: visible(".chip").map((chip) => ({ text: chip.innerText.trim(), href: chip.href, after: before(chip) })),
    sources: links(".sources a"),
    progress: texts(".progress"),
    waiting: visible(".waiting").length > 0,
    errors: texts(".failure > p"),
    notices: texts(".notice"),
    toast: $("toast").innerText.trim(),
    banner: $("banner").innerText.trim(),
    composer: $("composer").hidden ? null : text.value,
    threads: threads.hidden ? null : texts("#threads li > button:first-child"),
    buttons: visible("button").filter((b) => !b.disabled).map(labelOf),
  };
}

function find(selector, label) {
  const found = visible(selector).find((e) => labelOf(e) === label && !e.disabled);
  if (!found) throw new Error(`There is no ${label} to use.`);
  return found;
}

// What the page may call.

const functions = {
  setOptions(o) {
    options = o;
    chat ??= o.api.url === undefined ? hosted(ui) : custom(ui);
    locale.value = o.locale ?? navigator.language.replace(/^en-.*/, "en");
    theme(typeof o.theme === "string" ? { colorScheme: o.theme } : (o.theme ?? {}));
    render();
  },
  // start is called once, after the first options.
  start() {
    chat.start(options.initialThread);
  },
  // blank is called in its place if ChatKit does not take the options.
  blank() {
    document.body.hidden = true;
  },
  focusComposer: () => text.focus(),
  setThreadId: (id) => chat.change(id),
  sendUserMessage: (message) => chat.send(contentText(message), message.newThread),
  setComposerValue(value) {
    text.value = contentText(value);
    render();
  },
  showHistory,
  hideHistory,
  fetchUpdates: () => chat.refresh(),
  expireSecret: () => chat.expireSecret?.(),
  conversation: () => chat.conversation(),
  shown,
  press(label) {
    find("button", label).click();
  },
  fill(label, value) {
    const field = find("input, textarea", label);
    field.value = value;
    field.dispatchEvent(new Event("input"));
  },
};

// What the visitor does.

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  if ($("send").disabled) return;
  const message = text.value;
  text.value = "";
  chat.send(message).catch(chat.fail);
});
text.addEventListener("input", render);
text.addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});
$("stop").addEventListener("click", () => chat.stop?.());
$("new").addEventListener("click", async () => {
  if (chat.busy) return;
  await chat.change(null);
  text.focus();
});
$("history").addEventListener("click", () => (threads.hidden ? showHistory() : hideHistory()));
for (const side of ["left", "right"]) $(`${side}-action`).addEventListener("click", () => call("headerAction", `${side}Action`));
for (const e of document.querySelectorAll("[data-icon]")) e.append(icon(e.dataset.icon));

connect(functions);
