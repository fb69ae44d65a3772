// Pictures and sounds of the next message: chosen, dropped or pasted, as data URLs.

// What the server reads; other pictures that this browser knows are drawn and sent as JPEG.
const READ = ["image/png", "image/jpeg"];
const SOUNDS = { "audio/wav": "wav", "audio/x-wav": "wav", "audio/wave": "wav", "audio/mpeg": "mp3", "audio/flac": "flac", "audio/x-flac": "flac" };
const MOST_BYTES = 4e6;
const MOST_PIXELS = 2048;

const dataUrl = (blob) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result);
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(blob);
  });

async function drawn(file) {
  const picture = await createImageBitmap(file);
  const scale = Math.min(1, MOST_PIXELS / Math.max(picture.width, picture.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(picture.width * scale));
  canvas.height = Math.max(1, Math.round(picture.height * scale));
  const pen = canvas.getContext("2d");
  pen.fillStyle = "white";
  pen.fillRect(0, 0, canvas.width, canvas.height);
  pen.drawImage(picture, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/jpeg", 0.92);
}

// A file as {kind, name, url, format}; throws an Error with a sentence for one that cannot be sent.
export async function read(file) {
  if (SOUNDS[file.type]) return { kind: "audio", name: file.name, url: await dataUrl(file), format: SOUNDS[file.type] };
  if (!file.type.startsWith("image/")) throw new Error(`${file.name} is no picture, and no WAV, MP3 or FLAC file.`);
  try {
    const whole = READ.includes(file.type) && file.size <= MOST_BYTES;
    return { kind: "image", name: file.name || "picture", url: whole ? await dataUrl(file) : await drawn(file) };
  } catch {
    throw new Error(`${file.name} cannot be read as a picture.`);
  }
}

// Files of a drop or a paste.
export const filesOf = (transfer) => [...(transfer?.files ?? [])];

// A message in the form of the interface.
export function content(text, media) {
  if (!media?.length) return text;
  const parts = media.map((one) =>
    one.kind === "audio"
      ? { type: "input_audio", input_audio: { data: one.url.slice(one.url.indexOf(",") + 1), format: one.format } }
      : { type: "image_url", image_url: { url: one.url } });
  return [...parts, { type: "text", text }];
}
