// Conversations, kept in this browser alone: the latest fifty.

const NAME = "localspec-chats";
const MOST = 50;

const read = () => {
  try {
    const found = JSON.parse(localStorage.getItem(NAME));
    return Array.isArray(found) ? found.filter((chat) => chat.id && Array.isArray(chat.messages)) : [];
  } catch {
    return [];
  }
};

export const all = () => read().sort((a, b) => b.changed - a.changed);

export const fresh = () => ({ id: crypto.randomUUID?.() ?? String(Math.random()), messages: [], changed: Date.now() });

export const title = (chat) => chat.messages[0]?.content.slice(0, 60) || "New chat";

function write(chats) {
  const kept = chats.slice(0, MOST);
  while (kept.length) {
    try {
      localStorage.setItem(NAME, JSON.stringify(kept));
      return;
    } catch {
      kept.pop(); // no room: the oldest goes
    }
  }
  localStorage.removeItem(NAME);
}

export function keep(chat) {
  chat.changed = Date.now();
  write([chat, ...all().filter((other) => other.id !== chat.id)]);
}

export const drop = (id) => write(all().filter((chat) => chat.id !== id));
