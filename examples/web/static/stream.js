// Talks to the program: uploads, and answers as events. It knows no element.

export class Refused extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

async function send(path, options) {
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("lost");
  }
  if (!response.ok) {
    const said = await response.json().catch(() => ({}));
    throw new Refused(said.error ?? "failed");
  }
  return response;
}

export async function info() {
  return (await send("/api/info")).json();
}

export async function upload(file) {
  const path = `/api/documents?name=${encodeURIComponent(file.name)}`;
  return (await send(path, { method: "PUT", body: file })).json();
}

export async function remove(id) {
  await send(`/api/documents/${encodeURIComponent(id)}`, { method: "DELETE" });
}

// Events of an answer, as they come; aborting the signal stops the model.
export async function* ask(question, signal) {
  const response = await send("/api/ask", {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(question),
    signal,
  });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read().catch((error) => {
      if (error.name === "AbortError") throw error;
      throw new Refused("lost");
    });
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) yield JSON.parse(line);
  }
}
