// What the suites share: tests that run one after the other and print themselves in the Test Anything Protocol, and
// helpers to look at pictures without any library.
import assert from "node:assert/strict";
import { inflateSync, deflateSync, crc32 } from "node:zlib";

export { assert };
export const base = process.env.REVERIE_URL;
export const model = "reverie:1@1";
export const small = { prompt: "a red circle", size: "128x128", steps: 1, seed: 7 }; // OpenAI's words
export const tiny = { positivePrompt: "a red circle", model, width: 128, height: 128, steps: 1, seed: 7 }; // Runware's

const tests = [];
const only = (process.env.TESTS || "").split(",").filter(Boolean);

export function test(name, run) {
  if (!only.length || only.some((part) => name.includes(part))) tests.push({ name, run });
}

const LIMIT_MS = 120000;

function limited(promise, ms) {
  let timer;
  const late = new Promise((_, fail) => {
    timer = setTimeout(() => fail(new Error(`no end after ${ms / 1000} s`)), ms);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}

export async function runAll() {
  let failed = 0, number = 0;
  for (const { name, run } of tests) {
    const begun = Date.now();
    number++;
    try {
      await limited(run(), LIMIT_MS);
      console.log(`ok ${number} - ${name} (${((Date.now() - begun) / 1000).toFixed(2)} s)`);
    } catch (e) {
      failed++;
      console.log(`not ok ${number} - ${name}`);
      console.log(String(e?.stack ?? e).slice(0, 3000).replace(/^/gm, "# "));
    }
  }
  console.log(`1..${number}`);
  return failed || !number ? 1 : 0;
}

// ---- pictures ----

export function kind(bytes) {
  const b = Buffer.from(bytes);
  if (b.subarray(0, 4).toString("latin1") === "\x89PNG") return "png";
  if (b[0] === 0xff && b[1] === 0xd8) return "jpeg";
  if (b.subarray(8, 12).toString("latin1") === "WEBP") return "webp";
  return `unknown (${b.subarray(0, 16).toString("hex")})`;
}

// Width and height as the file says.
export function size(bytes) {
  const b = Buffer.from(bytes);
  if (kind(b) === "png") return `${b.readUInt32BE(16)}x${b.readUInt32BE(20)}`;
  if (kind(b) === "jpeg") {
    for (let at = 2; at < b.length; at += 2 + b.readUInt16BE(at + 2)) {
      const mark = b[at + 1];
      if (mark >= 0xc0 && mark <= 0xcf && mark !== 0xc4 && mark !== 0xc8 && mark !== 0xcc)
        return `${b.readUInt16BE(at + 7)}x${b.readUInt16BE(at + 5)}`;
    }
  }
  const chunk = b.subarray(12, 16).toString("latin1");
  if (chunk === "VP8X") return `${b.readUIntLE(24, 3) + 1}x${b.readUIntLE(27, 3) + 1}`;
  if (chunk === "VP8 ") return `${b.readUInt16LE(26) & 0x3fff}x${b.readUInt16LE(28) & 0x3fff}`;
  const bits = b.readUInt32LE(21);
  return `${(bits & 0x3fff) + 1}x${((bits >> 14) & 0x3fff) + 1}`;
}

export async function download(url) {
  const reply = await fetch(url); // pictures are fetched without a key by every client
  assert.equal(reply.status, 200, url);
  const bytes = Buffer.from(await reply.arrayBuffer());
  assert.equal(reply.headers.get("content-type"), `image/${kind(bytes)}`);
  return bytes;
}

export function isPicture(bytes, format, dimensions = "128x128") {
  assert.equal(kind(bytes), format);
  assert.equal(size(bytes), dimensions);
}

// A PNG file from a function of x and y that gives [r, g, b, a].
export function png(width, height, color) {
  const rows = Buffer.alloc(height * (1 + 4 * width));
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) rows.set(color(x, y), y * (1 + 4 * width) + 1 + 4 * x);
  const part = (name, data) => {
    const out = Buffer.alloc(12 + data.length);
    out.writeUInt32BE(data.length);
    out.write(name, 4, "latin1");
    data.copy(out, 8);
    out.writeUInt32BE(crc32 ? crc32(out.subarray(4, 8 + data.length)) : crc(out.subarray(4, 8 + data.length)), 8 + data.length);
    return out;
  };
  const head = Buffer.alloc(13);
  head.writeUInt32BE(width);
  head.writeUInt32BE(height, 4);
  head.set([8, 6, 0, 0, 0], 8);
  return Buffer.concat([Buffer.from("\x89PNG\r\n\x1a\n", "latin1"), part("IHDR", head), part("IDAT", deflateSync(rows)),
    part("IEND", Buffer.alloc(0))]);
}

// Older Node has no crc32 of its own.
function crc(bytes) {
  let c = -1;
  for (const b of bytes) {
    c ^= b;
    for (let k = 0; k < 8; k++) c = (c >>> 1) ^ (c & 1 ? 0xedb88320 : 0);
  }
  return (c ^ -1) >>> 0;
}

// Pixels of an 8 bit PNG as our server writes them.
export function pixels(bytes) {
  const b = Buffer.from(bytes);
  const width = b.readUInt32BE(16), height = b.readUInt32BE(20), channels = b[25] === 6 ? 4 : 3;
  const parts = [];
  for (let at = 8; at < b.length; at += 12 + b.readUInt32BE(at))
    if (b.subarray(at + 4, at + 8).toString("latin1") === "IDAT") parts.push(b.subarray(at + 8, at + 8 + b.readUInt32BE(at)));
  const raw = inflateSync(Buffer.concat(parts)), stride = width * channels, out = Buffer.alloc(height * stride);
  for (let y = 0; y < height; y++) {
    const filter = raw[y * (stride + 1)];
    for (let i = 0; i < stride; i++) {
      const left = i >= channels ? out[y * stride + i - channels] : 0;
      const up = y ? out[(y - 1) * stride + i] : 0;
      const corner = y && i >= channels ? out[(y - 1) * stride + i - channels] : 0;
      const p = left + up - corner, pa = Math.abs(p - left), pb = Math.abs(p - up), pc = Math.abs(p - corner);
      const paeth = pa <= pb && pa <= pc ? left : pb <= pc ? up : corner;
      const guess = [0, left, up, (left + up) >> 1, paeth][filter];
      out[y * stride + i] = raw[y * (stride + 1) + 1 + i] + guess;
    }
  }
  return { width, height, at: (x, y) => [...out.subarray((y * width + x) * channels, (y * width + x) * channels + 3)] };
}

export const blue = png(128, 128, () => [20, 60, 200, 255]);
export const leftHole = png(128, 128, (x) => [0, 0, 0, x < 64 ? 0 : 255]); // the left half may change
