const button = document.getElementById("ask");
const answer = document.getElementById("answer");

async function ask() {
  // Same origin, by Hosting's rewrite: the cookie that keeps a reader's
  // conversations goes along by itself.
  const response = await fetch("/api/chatkit/session", { method: "POST" });
  const body = await response.json();
  if (response.ok) {
    // The secret itself is for the chat alone.
    return `Granted, for ${body.expires_after} seconds. ${response.headers.get("X-RateLimit-Remaining")} left this minute.`;
  }
  return `${body.error} (${body.code}, ${body.request_id})`;
}

button.addEventListener("click", async () => {
  button.disabled = true;
  try {
    answer.textContent = await ask();
  } catch (error) {
    // Not JSON is not Docent: Hosting's own error page, say, where the rewrite
    // names a service or a region that does not exist.
    answer.textContent = `Docent did not answer: ${error.message}`;
  } finally {
    button.disabled = false;
  }
});
