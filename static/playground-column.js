// One column of the playground: the model that is asked, and its answers.

import { ask, Refusal } from "./playground-stream.js";

const seconds = (value) => `${value.toFixed(value < 1 ? 2 : 1)}\u00a0s`;
const plural = (number) => (number === 1 ? "1 token" : `${number.toLocaleString("en")} tokens`);

class Answer {
  constructor(template, prompt, title) {
    this.node = template.content.firstElementChild.cloneNode(true);
    this.node.setAttribute("aria-busy", "true");
    this.text = document.createTextNode("");
    this.caret = document.createElement("span");
    this.caret.className = "caret";
    this.numTokens = 0;
    this.find("prompt").textContent = prompt;
    this.find("text").append(this.text, this.caret);
    this.find("number").textContent = title;
  }

  find(name) {
    return this.node.querySelector(`[data-${name}]`);
  }

  take(line) {
    this.text.appendData(line.text);
    this.numTokens += line.tokens;
    const tokens = plural(this.numTokens);
    this.find("count").textContent = line.finish_reason
      ? `${tokens}${line.finish_reason === "length" ? ", cut at max tokens" : ""}`
      : `${tokens} so far`;
    if (line.finish_reason) this.end();
  }

  end() {
    this.caret.remove();
    this.node.setAttribute("aria-busy", "false");
  }
}

export class Column {
  constructor(node) {
    this.node = node;
    this.choice = node.querySelector("[data-choice]");
    this.choice.addEventListener("change", () => this.describe());
    this.describe();
  }

  find(name) {
    return this.node.querySelector(`[data-${name}]`);
  }

  get option() {
    return this.choice.selectedOptions[0];
  }

  describe() {
    const link = this.node.querySelector("a[data-about]");
    link.textContent = this.option.dataset.about;
    link.href = this.option.dataset.url;
  }

  stop() {
    this.running?.abort();
  }

  // Resolves to "done", "stopped" or "failed". Throws a Refusal about the form's fields.
  async ask(url, values, template) {
    const running = new AbortController();
    this.running = running;
    values.set("model", this.choice.value);
    const answers = this.prepare(values, template);
    let state;
    try {
      state = await this.follow(ask(url, values, running.signal), answers);
    } catch (error) {
      state = running.signal.aborted ? "stopped" : "failed";
      if (state === "failed") this.fail(error);
    }
    for (const answer of answers) answer.end();
    // The next question may have begun to fill this column already.
    if (this.running === running) this.show(state);
    return state;
  }

  prepare(values, template) {
    const number = Number(values.get("n"));
    const many = Number.isInteger(number) && number > 1 && number <= 8 ? number : 1;
    const prompt = values.get("prompt");
    const answers = Array.from({ length: many }, (_, index) =>
      new Answer(template, prompt, many > 1 ? `Answer ${index + 1} of ${many}` : ""));
    this.find("answers").replaceChildren(...answers.map((answer) => answer.node));
    for (const name of ["hint", "error", "cut"]) this.find(name).hidden = true;
    this.find("footer").hidden = false;
    this.find("speed").textContent = "";
    this.show("waiting");
    return answers;
  }

  async follow(lines, answers) {
    const asked = performance.now();
    let first = 0;
    let numTokens = 0;
    for await (const line of lines) {
      if (line.done) {
        this.find("cut").hidden = !line.prompt_cut;
        return "done";
      }
      answers[line.index].take(line);
      const now = performance.now();
      if (first) numTokens += line.tokens;
      else this.show("generating");
      first ||= now;
      this.tell((first - asked) / 1000, numTokens, (now - first) / 1000);
    }
    return "done";
  }

  tell(wait, numTokens, time) {
    const speed = time > 0.05 ? `, ${Math.round(numTokens / time).toLocaleString("en")}\u00a0tokens/s` : "";
    this.find("speed").textContent = `first word after ${seconds(wait)}${speed}`;
  }

  fail(error) {
    if (Object.keys(error.fields ?? {}).length) {
      this.clear();
      throw error;
    }
    const message = error instanceof Refusal ? error.message : "The site cannot be reached. Is it running?";
    this.find("error").querySelector("span").textContent = message;
    this.find("error").hidden = false;
  }

  clear() {
    this.find("answers").replaceChildren();
    this.find("footer").hidden = true;
    this.find("hint").hidden = false;
  }

  show(state) {
    for (const node of this.node.querySelectorAll("[data-state]")) node.hidden = node.dataset.state !== state;
  }
}
