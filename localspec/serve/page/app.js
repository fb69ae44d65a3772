// The page: a conversation with the server's models, and what drafting does while an answer comes.

import { ApiError, chat as ask, get } from "./api.js";
import * as chats from "./chats.js";
import { content, filesOf, read } from "./media.js";
import { addTokens, copy, element, message, percent, shown } from "./render.js";

const $ = (id) => document.getElementById(id);
let current = chats.all()[0] ?? chats.fresh();
let running = null;
let settings = { n_ctx: 0, plain_ms_per_token: null };
let attached = [];

// A screen reader speaks it; what went wrong is also shown.
function say(text, wrong = false) {
  $("status").textContent = text;
  $("status").className = wrong ? "error" : "hidden";
}

function showList() {
  $("list").replaceChildren(
    ...chats.all().map((chat) =>
      element("li", {},
        element("button", { type: "button", "aria-current": chat.id === current.id && "true", onclick: () => open(chat) }, chats.title(chat)),
        element("button", { type: "button", "aria-label": `Delete ${chats.title(chat)}`, onclick: () => remove(chat) }, "×"))));
}

function open(chat) {
  running?.abort();
  current = chat;
  $("chats").classList.remove("open");
  $("menu").setAttribute("aria-expanded", "false");
  show();
  $("question").focus();
}

function remove(chat) {
  chats.drop(chat.id);
  if (chat.id === current.id) open(chats.all()[0] ?? chats.fresh());
  else showList();
}

function actionsOf(one, index) {
  const found = [["Copy", () => copy(one.content)]];
  if (running) return found;
  if (one.role === "user") found.push(["Edit", () => edit(index)]);
  else if (index === current.messages.length - 1) found.push(["Regenerate", () => answer(index)]);
  return found;
}

function show() {
  $("messages").replaceChildren(...current.messages.map((one, index) => message(one, actionsOf(one, index))));
  $("messages").scrollTop = $("messages").scrollHeight;
  $("send").hidden = Boolean(running);
  $("stop").hidden = !running;
  showList();
}

function showAttached() {
  $("attached").hidden = !attached.length;
  $("attached").replaceChildren(
    ...attached.map((one) =>
      element("li", {}, shown(one), one.name,
        element("button", { type: "button", "aria-label": `Remove ${one.name}`, onclick: () => attach([], one) }, "×"))));
}

// Adds files to the next message, or takes one out of it.
async function attach(files, removed) {
  attached = attached.filter((one) => one !== removed);
  for (const file of files) {
    try {
      const one = await read(file);
      if (!settings.modalities?.[one.kind === "audio" ? "audio" : "vision"]) throw new Error("This model reads no such files.");
      attached.push(one);
      say(`${one.name} goes with your next message.`);
    } catch (error) {
      say(error.message, true);
    }
  }
  showAttached();
}

function edit(index) {
  $("question").value = current.messages[index].content;
  attached = (current.messages[index].media ?? []).filter((one) => one.url);
  showAttached();
  current.messages.length = index;
  show();
  $("question").focus();
}

function showLive(state) {
  const seconds = (performance.now() - state.began) / 1000;
  const timings = state.timings;
  const count = timings?.predicted_n ?? state.tokens;
  const passes = timings?.passes ?? state.passes;
  $("live").hidden = false;
  $("speed").textContent = state.note ?? `${(timings?.predicted_per_second ?? (seconds ? count / seconds : 0)).toFixed(1)} tok/s`;
  $("tokens").textContent = `${count} (${state.drafted} drafted)`;
  $("passes").textContent = `${passes} (${passes ? (count / passes).toFixed(2) : "–"} tokens each)`;
  $("accepted").textContent = timings
    ? Object.entries(timings.drafters).map(([name, one]) => `${name} ${percent(one.draft_n_accepted, one.draft_n)}`).join(", ") || "nothing drafted"
    : "…";
  const plain = settings.plain_ms_per_token;
  const took = timings ? timings.predicted_ms / 1000 : seconds;
  $("plain").textContent = plain ? `would take ${((plain * count) / 1000).toFixed(1)} s, this took ${took.toFixed(1)} s` : "not measured yet";
  if (state.used) {
    $("context").value = state.used / settings.n_ctx;
    $("used").textContent = `${state.used} of ${settings.n_ctx} tokens`;
  }
}

// Answers the messages before `index`, in place of those from there on.
async function answer(index) {
  current.messages.length = index;
  const chat = current;
  const asked = chat.messages.map((one) => ({ role: one.role, content: content(one.content, one.media?.filter(({ url }) => url)) }));
  const made = { role: "assistant", content: "", reasoning: "", tokens: [], model: $("model").value };
  chat.messages.push(made);
  running = new AbortController();
  show();
  const place = $("messages").lastElementChild;
  const thought = element("details", { hidden: true }, element("summary", {}, "Reasoning"), element("pre"));
  const body = element("pre", { class: "body raw" });
  place.querySelector(".body").replaceWith(thought, body);
  const state = { began: performance.now(), tokens: 0, drafted: 0, passes: 0, note: null, timings: null, used: 0 };
  const options = { stream: true, sources: true, stream_options: { include_usage: true } };
  if (!$("drafting").checked) options.speculative = false;
  if ($("thinking").checked) options.reasoning_effort = "medium";
  try {
    for await (const event of ask({ model: made.model, messages: asked, ...options }, running.signal)) {
      if (event.note) {
        if (!state.tokens) state.note = event.note;
      } else if (event.error) {
        throw new ApiError(0, event.error.message);
      } else {
        take(event, made, state, thought, body);
      }
      showLive(state);
    }
  } catch (error) {
    if (error.status === 401) needKey();
    made.error = error.name === "AbortError" ? "Stopped." : error.message;
  }
  running = null;
  chats.keep(chat);
  if (chat === current) show();
  await readProps(made.model).catch(() => {}); // what a pass costs is measured while answers come
  if (state.timings) showLive(state);
  say(made.error ?? "The answer is complete.");
  $("question").focus();
}

function take(event, made, state, thought, body) {
  const bottom = $("messages");
  const follows = bottom.scrollHeight - bottom.scrollTop - bottom.clientHeight < 80;
  const delta = event.choices[0]?.delta ?? {};
  const marked = event.localspec;
  if (marked?.pieces.length) {
    if (!state.tokens) state.began = performance.now();
    state.note = null;
    state.passes += 1;
    state.tokens += marked.pieces.length;
    state.drafted += marked.sources.filter((source) => source === "drafted").length;
  }
  if (delta.reasoning) {
    made.reasoning += delta.reasoning;
    thought.hidden = false;
    thought.lastChild.append(delta.reasoning);
  }
  if (delta.content) {
    made.content += delta.content;
    const pieces = marked?.pieces ?? [];
    const known = pieces.join("") === delta.content;
    const added = known ? pieces.map((piece, i) => [piece, marked.sources[i]]) : [[delta.content, "target"]];
    made.tokens.push(...added);
    addTokens(body, $("tint").checked ? added : [[delta.content, "target"]]);
  }
  if (event.timings) made.timings = state.timings = event.timings;
  if (event.usage) state.used = event.usage.total_tokens;
  if (follows) bottom.scrollTop = bottom.scrollHeight;
}

function needKey() {
  $("key").showModal();
  $("key").addEventListener("close", () => {
    sessionStorage.setItem("localspec-key", $("key-text").value);
    start();
  }, { once: true });
}

async function readProps(model) {
  settings = await get(`props?model=${encodeURIComponent(model)}`);
  $("drafting").disabled = !settings.drafters.length;
  $("attach").hidden = !(settings.modalities.vision || settings.modalities.audio);
}

async function start() {
  try {
    const models = await get("v1/models");
    $("model").replaceChildren(...models.data.map((model) => element("option", { value: model.id }, model.id)));
    await readProps($("model").value);
  } catch (error) {
    if (error.status === 401) needKey();
    else say(error.message, true);
  }
}

$("ask").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("question").value;
  if (running || !(text.trim() || attached.length)) return;
  $("question").value = "";
  current.messages.push({ role: "user", content: text, ...(attached.length ? { media: attached } : {}) });
  attached = [];
  showAttached();
  answer(current.messages.length);
});
$("question").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    $("ask").requestSubmit();
  }
});
document.addEventListener("keydown", (event) => event.key === "Escape" && running?.abort());
$("files").addEventListener("change", () => {
  attach([...$("files").files]);
  $("files").value = "";
});
$("question").addEventListener("paste", (event) => {
  const files = filesOf(event.clipboardData);
  if (!files.length) return;
  event.preventDefault();
  attach(files);
});
for (const [name, over] of [["dragover", true], ["dragleave", false], ["drop", false]]) {
  document.addEventListener(name, (event) => {
    if (![...(event.dataTransfer?.types ?? [])].includes("Files")) return;
    event.preventDefault();
    document.querySelector("main").classList.toggle("dropping", over);
    if (name === "drop") attach(filesOf(event.dataTransfer));
  });
}
$("stop").addEventListener("click", () => running?.abort());
$("new").addEventListener("click", () => open(chats.fresh()));
$("model").addEventListener("change", () => readProps($("model").value).catch((error) => say(error.message, true)));
$("menu").addEventListener("click", () => {
  const opened = $("chats").classList.toggle("open");
  $("menu").setAttribute("aria-expanded", String(opened));
});
show();
start();
$("question").focus();
