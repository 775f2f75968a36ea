// The page's own button for a session, which shows what the limiter answers.
const button = document.getElementById("mint");
const left = document.getElementById("left");
const answer = document.getElementById("answer");

function element(name, text, className = "") {
  const e = document.createElement(name);
  e.textContent = text;
  e.className = className;
  return e;
}

function showLeft(headers) {
  const limit = Number(headers.get("X-RateLimit-Limit"));
  const remaining = Number(headers.get("X-RateLimit-Remaining"));
  if (!limit) return;
  const dots = limit <= 20 ? Array.from({ length: limit }, (_, i) => element("i", "", i < remaining ? "on" : "")) : [];
  left.replaceChildren(...dots, element("span", `${remaining} of ${limit} left this minute`));
}

function showFields(heading, className, fields) {
  const list = document.createElement("dl");
  for (const [name, value] of Object.entries(fields)) list.append(element("dt", name), element("dd", value));
  answer.replaceChildren(element("p", heading, className), list);
}

// A second's count is no news for a screen reader: it is outside of the status.
function countDown(until) {
  const seconds = Math.ceil((until - Date.now()) / 1000);
  if (seconds > 0) {
    left.replaceChildren(element("span", `Next try in ${seconds} s`));
    setTimeout(countDown, 250, until);
    return;
  }
  left.replaceChildren();
  answer.replaceChildren(element("p", "You can try again now."));
  button.disabled = false;
}

button.addEventListener("click", async () => {
  button.disabled = true;
  let wait = 0;
  try {
    const response = await fetch("/api/chatkit/session", { method: "POST", credentials: "include" });
    const body = await response.json();
    showLeft(response.headers);
    if (response.ok) {
      showFields("Granted: a chat could start.", "", body);
    } else {
      showFields(body.error, "refused", { status: response.status, code: body.code, request_id: body.request_id });
      wait = body.retry_after ?? 0;
    }
  } catch (error) {
    showFields("Docent did not answer.", "refused", { error: error.message });
  }
  if (wait) countDown(Date.now() + wait * 1000);
  else button.disabled = false;
});
