// Answers that come as JSON lines over a fetch.

// The site's words for a refusal; `fields` are messages by field name.
export class Refusal extends Error {
  constructor(message, fields = {}) {
    super(message);
    this.fields = fields;
  }
}

async function refusal(response) {
  if (response.status === 422) return new Refusal("", (await response.json()).errors);
  if (response.status === 404) return new Refusal("This snapshot or base model is gone. Choose another.");
  if (response.status === 403) return new Refusal("The page is out of date. Load it again.");
  return new Refusal("The site could not answer. Try again in a few seconds.");
}

async function* lines(body) {
  const reader = body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    const parts = (rest + value).split("\n");
    rest = parts.pop();
    yield* parts;
  }
}

// Yields each line as an object. Throws a Refusal in the site's words.
export async function* ask(url, values, signal) {
  const headers = { Accept: "application/jsonl" };
  const response = await fetch(url, { method: "POST", body: values, headers, signal });
  if (response.redirected) throw new Refusal("You are signed out. Load the page again to sign in.");
  if (!response.ok) throw await refusal(response);
  for await (const text of lines(response.body)) {
    const line = JSON.parse(text);
    if (line.error) throw new Refusal(line.error.message);
    yield line;
    if (line.done) return;
  }
  throw new Refusal("The answer broke off. Try again.");
}
