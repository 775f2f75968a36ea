// What the frame's parts draw with.

export const $ = (id) => document.getElementById(id);

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
  stop: "M7 7h10v10H7z",
  trash: "M5 7h14M10 7V4h4v3M7 7l1 13h8l1-13",
};

export function icon(name) {
  const ns = "http://www.w3.org/2000/svg";
  const svg = document.createElementNS(ns, "svg");
  svg.setAttribute("viewBox", "0 0 24 24");
  svg.setAttribute("aria-hidden", "true");
  const path = svg.appendChild(document.createElementNS(ns, "path"));
  path.setAttribute("d", icons[name?.replace("lucide:", "")] ?? icons.sparkle);
  return svg;
}

export function element(name, className, ...children) {
  const e = document.createElement(name);
  e.className = className;
  e.append(...children);
  return e;
}

export function button(className, onClick, ...children) {
  const b = element("button", className, ...children);
  b.type = "button";
  b.addEventListener("click", onClick);
  return b;
}

// iconButton is a button whose label is for those who do not see the icon.
export function iconButton(name, label, onClick) {
  const b = button("icon", onClick, icon(name));
  b.ariaLabel = label;
  return b;
}

export function row(glyph, label, onClick, ...more) {
  return element("li", "", button("", onClick, icon(glyph), element("span", "", label)), ...more);
}

export function link(href, ...children) {
  const a = element("a", "", ...children);
  return Object.assign(a, { href, target: "_blank", rel: "noreferrer" });
}

// markdown knows links, bold text, and code in a line or between fences. It returns
// nodes and strings.
export function markdown(source) {
  return source.split(/(```[^\n`]*\n[^]*?\n```\n?|\[[^\]]+\]\(https?:[^)\s]+\)|\*\*[^*]+\*\*|`[^`]+`)/).map((part) => {
    if (/^\*\*.+\*\*$/.test(part)) return element("strong", "", part.slice(2, -2));
    const fenced = part.match(/^```[^\n`]*\n([^]*)\n```\n?$/);
    if (fenced) return element("code", "block", fenced[1]);
    if (/^`.+`$/.test(part)) return element("code", "", part.slice(1, -1));
    const found = part.match(/^\[(.+)\]\((.+)\)$/);
    return found ? link(found[2], found[1]) : part;
  });
}
