// PNG → samples, exactly. A canvas would do for plain 8-bit grey, but it halves 16-bit data and rounds under alpha.
// https://www.w3.org/TR/png-3/

const SIGNATURE = [137, 80, 78, 71, 13, 10, 26, 10];
const CHANNELS = { 0: 1, 2: 3, 3: 1, 4: 2, 6: 4 }; // by colour type
const PASSES = [
  [0, 0, 8, 8], [4, 0, 8, 8], [0, 4, 4, 8], [2, 0, 4, 4], [0, 2, 2, 4], [1, 0, 2, 2], [0, 1, 1, 2],
]; // of interlacing: first column, first row, columns apart, rows apart
const NOT_INTERLACED = [[0, 0, 1, 1]];

/** What makes a file unreadable, in words. */
export class Unreadable extends Error {}

export const isPng = (bytes) => SIGNATURE.every((byte, i) => bytes[i] === byte);

/**
 * @param {Uint8Array} bytes
 * @param {(width: number, height: number) => void} check throws where the size is out of bounds, before decoding
 * @returns {Promise<{width, height, depth, type, samples, palette, transparency, exif}>} samples of every pixel in turn, all
 * channels of one together: Uint8Array, or Uint16Array at 16 bits; `type` is PNG's colour type
 */
export async function readPng(bytes, check) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const found = { palette: null, transparency: null, exif: null };
  const parts = [];
  let header = null;
  for (let place = 8; place + 8 <= bytes.length; ) {
    const length = view.getUint32(place);
    const kind = String.fromCharCode(...bytes.subarray(place + 4, place + 8));
    const data = bytes.subarray(place + 8, place + 8 + length);
    if (data.length < length) break;
    if (kind === "IHDR") header = new DataView(data.buffer, data.byteOffset, data.byteLength);
    else if (kind === "PLTE") found.palette = data;
    else if (kind === "tRNS") found.transparency = data;
    else if (kind === "eXIf") found.exif = data;
    else if (kind === "acTL") throw new Unreadable("an animated PNG; give its frames one by one, or use braincam serve");
    else if (kind === "IDAT") parts.push(data);
    else if (kind === "IEND") break;
    place += 12 + length;
  }
  if (!header || header.byteLength !== 13 || !parts.length) throw new Unreadable("the PNG is damaged; export it again");
  const [width, height] = [header.getUint32(0), header.getUint32(4)];
  const [depth, type, interlaced] = [header.getUint8(8), header.getUint8(9), header.getUint8(12)];
  const channels = CHANNELS[type];
  if (!channels || ![1, 2, 4, 8, 16].includes(depth) || (type === 3 && !found.palette)) {
    throw new Unreadable("the PNG is damaged; export it again");
  }
  check(width, height);

  const passes = (interlaced ? PASSES : NOT_INTERLACED).map(([left, top, across, down]) => ({
    left, top, across, down,
    columns: Math.max(0, Math.ceil((width - left) / across)),
    rows: Math.max(0, Math.ceil((height - top) / down)),
  })).filter(({ columns, rows }) => columns && rows);
  const bits = channels * depth;
  const lineLength = (columns) => Math.ceil((columns * bits) / 8);
  const size = passes.reduce((sum, { columns, rows }) => sum + rows * (1 + lineLength(columns)), 0);
  const raw = await inflate(parts, size);

  const samples = depth === 16 ? new Uint16Array(width * height * channels) : new Uint8Array(width * height * channels);
  const step = Math.max(1, bits >> 3); // bytes to the same sample of the pixel before
  let place = 0;
  for (const { left, top, across, down, columns, rows } of passes) {
    const length = lineLength(columns);
    let before = new Uint8Array(length);
    for (let row = 0; row < rows; row++) {
      const line = raw.subarray(place + 1, place + 1 + length);
      unfilter(raw[place], line, before, step);
      place += 1 + length;
      before = line;
      const to = (top + row * down) * width;
      for (let column = 0; column < columns; column++) {
        const pixel = (to + left + column * across) * channels;
        for (let k = 0; k < channels; k++) samples[pixel + k] = sampleAt(line, column * channels + k, depth);
      }
    }
  }
  return { width, height, depth, type, samples, ...found };
}

function sampleAt(line, number, depth) {
  if (depth === 8) return line[number];
  if (depth === 16) return (line[2 * number] << 8) | line[2 * number + 1];
  const bit = number * depth;
  return (line[bit >> 3] >> (8 - depth - (bit & 7))) & ((1 << depth) - 1);
}

/** Undo a line's filter, in place; `before` is the line above, undone. */
function unfilter(kind, line, before, step) {
  if (kind > 4) throw new Unreadable("the PNG is damaged; export it again");
  for (let i = 0; i < line.length; i++) {
    const left = i < step ? 0 : line[i - step];
    const above = before[i];
    if (kind === 1) line[i] += left;
    else if (kind === 2) line[i] += above;
    else if (kind === 3) line[i] += (left + above) >> 1;
    else if (kind === 4) line[i] += paeth(left, above, i < step ? 0 : before[i - step]);
  }
}

function paeth(left, above, corner) {
  const [a, b, c] = [Math.abs(above - corner), Math.abs(left - corner), Math.abs(left + above - 2 * corner)];
  return a <= b && a <= c ? left : b <= c ? above : corner;
}

/** `size` bytes out of a zlib stream, and never more: a small file may unpack to gigabytes. */
async function inflate(parts, size) {
  const reader = new Blob(parts).stream().pipeThrough(new DecompressionStream("deflate")).getReader();
  const out = new Uint8Array(size);
  let filled = 0;
  try {
    while (filled < size) {
      const { done, value } = await reader.read();
      if (done) break;
      out.set(value.subarray(0, size - filled), filled);
      filled += value.length;
    }
  } catch {
    // what follows says it
  } finally {
    reader.cancel().catch(() => {});
  }
  if (filled < size) throw new Unreadable("the PNG is damaged or cut short; export it again");
  return out;
}
