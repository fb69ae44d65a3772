// Requests to the server: the models, the settings, and a chat as a stream of events.

const headers = () => {
  const key = sessionStorage.getItem("localspec-key");
  return { "Content-Type": "application/json", ...(key ? { Authorization: `Bearer ${key}` } : {}) };
};

export class ApiError extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

async function checked(response) {
  if (response.ok) return response;
  let message = `The server answered ${response.status}.`;
  try {
    message = (await response.json()).error.message;
  } catch {
    // an answer that is no JSON says nothing more
  }
  throw new ApiError(response.status, message);
}

export const get = async (path) => (await checked(await fetch(path, { headers: headers() }))).json();

// Yields the data of each event, and {note} for each comment.
export async function* chat(body, signal) {
  const request = { method: "POST", headers: headers(), body: JSON.stringify(body), signal };
  const response = await checked(await fetch("v1/chat/completions", request));
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let held = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    held += value;
    const blocks = held.split("\n\n");
    held = blocks.pop();
    for (const block of blocks) {
      if (block.startsWith(": ")) yield { note: block.slice(2) };
      const data = block.startsWith("data: ") ? block.slice(6) : "[DONE]";
      if (data !== "[DONE]") yield JSON.parse(data);
    }
  }
}
