// Messages as elements. Markdown of a model is untrusted: DOMPurify cleans it, and links open elsewhere.

import { marked } from "./vendor/marked.js";

const clean = window.DOMPurify;
clean.addHook("afterSanitizeAttributes", (node) => {
  if (node.tagName === "A") {
    node.setAttribute("target", "_blank");
    node.setAttribute("rel", "noopener noreferrer");
  }
});

export function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

const button = (text, action) => element("button", { type: "button", onclick: action }, text);

export async function copy(text) {
  await navigator.clipboard?.writeText(text);
}

export function markdown(text) {
  const made = element("div", { class: "body" });
  made.innerHTML = clean.sanitize(marked.parse(text, { gfm: true }), { FORBID_TAGS: ["style", "form", "img"], FORBID_ATTR: ["style"] });
  for (const block of made.querySelectorAll("pre")) {
    const code = block.textContent;
    block.tabIndex = 0;
    block.append(button("Copy", () => copy(code)));
  }
  return made;
}

function tokens(pairs) {
  const made = element("pre", { class: "body raw" });
  addTokens(made, pairs);
  return made;
}

// Adds text token by token: drafted ones are tinted.
export function addTokens(place, pairs) {
  for (const [text, source] of pairs) {
    place.append(source === "drafted" ? element("span", { class: "drafted", title: "drafted" }, text) : text);
  }
}

export const percent = (part, whole) => (whole ? `${Math.round((100 * part) / whole)}%` : "–");

// One line of facts about an answer that has ended.
export function facts(timings) {
  if (!timings) return "";
  const parts = [`${timings.predicted_n} tokens`, `${timings.passes} passes`, `${timings.predicted_per_second.toFixed(1)} tok/s`];
  for (const [name, one] of Object.entries(timings.drafters)) {
    parts.push(`${name}: ${one.draft_n_accepted} of ${one.draft_n} accepted (${percent(one.draft_n_accepted, one.draft_n)})`);
  }
  return parts.join(" · ");
}

// A picture or sound; one that was not kept is named.
export function shown(one) {
  if (!one.url) return element("span", { class: "facts" }, `${one.name} (not kept)`);
  if (one.kind === "audio") return element("audio", { src: one.url, controls: true, title: one.name });
  return element("img", { src: one.url, alt: one.name });
}

export function message(one, actions) {
  const own = one.role === "user";
  const made = element("article", { class: one.role }, element("h2", {}, own ? "You" : one.model || "Model"));
  if (one.reasoning) made.append(element("details", {}, element("summary", {}, "Reasoning"), element("pre", {}, one.reasoning)));
  if (one.media?.length) made.append(element("div", { class: "media" }, ...one.media.map(shown)));
  let body = own ? element("div", { class: "body" }, one.content) : markdown(one.content);
  made.append(body);
  if (one.error) made.append(element("p", { class: "error" }, one.error));
  if (one.timings) made.append(element("p", { class: "facts" }, facts(one.timings)));
  const row = element("div", { class: "actions" }, ...actions.map(([text, action]) => button(text, action)));
  made.append(row);
  if (one.tokens?.length) {
    const toggle = button("Drafted tokens", () => {
      const raw = toggle.getAttribute("aria-pressed") !== "true";
      toggle.setAttribute("aria-pressed", String(raw));
      const other = raw ? tokens(one.tokens) : markdown(one.content);
      body.replaceWith(other);
      body = other;
    });
    toggle.setAttribute("aria-pressed", "false");
    row.append(toggle);
  }
  return made;
}
