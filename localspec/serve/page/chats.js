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

export const title = (chat) => chat.messages[0]?.content.slice(0, 60) || chat.messages[0]?.media?.[0]?.name || "New chat";

const bare = (message) => (message.media ? { ...message, media: message.media.map((one) => ({ ...one, url: null })) } : message);

function write(chats) {
  const kept = chats.slice(0, MOST);
  let whole = kept.length; // chats that keep their pictures and sounds
  while (kept.length) {
    try {
      localStorage.setItem(NAME, JSON.stringify(kept));
      return;
    } catch {
      // no room: pictures and sounds of the oldest go first, then the oldest
      if (whole) kept[--whole] = { ...kept[whole], messages: kept[whole].messages.map(bare) };
      else kept.pop();
    }
  }
  localStorage.removeItem(NAME);
}

export function keep(chat) {
  chat.changed = Date.now();
  write([chat, ...all().filter((other) => other.id !== chat.id)]);
}

export const drop = (id) => write(all().filter((chat) => chat.id !== id));
