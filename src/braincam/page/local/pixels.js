// Files → grey slices, by the rules of braincam's own readers (images/grey.py, images/raster.py).

import { isPng, readPng, Unreadable } from "./png.js";

const [MIN_SIDE, MAX_PIXELS] = [16, 64_000_000];
const [CHROMA, CHROMA_SHARE] = [24, 0.05]; // levels between channels, in that share of the pixels: a coloured picture
const ELSEWHERE = "this page reads PNG and JPEG; for DICOM, NIfTI and TIFF use braincam serve or braincam predict";

/** @returns {Promise<{pixels: Uint8Array, width: number, height: number, colourful: boolean}>} */
export async function greySlice(file) {
  let bytes;
  try {
    bytes = new Uint8Array(await file.arrayBuffer());
  } catch {
    throw new Unreadable("the file cannot be read; was it moved or changed since it was chosen?");
  }
  if (isPng(bytes)) return fromPng(await readPng(bytes, checkSize));
  if (bytes[0] === 0xff && bytes[1] === 0xd8 && bytes[2] === 0xff) return fromJpeg(bytes);
  throw new Unreadable(ELSEWHERE);
}

function checkSize(width, height) {
  if (Math.min(width, height) < MIN_SIDE) {
    throw new Unreadable(`expected at least ${MIN_SIDE} x ${MIN_SIDE} pixels, got ${width} x ${height}; give a whole brain slice`);
  }
  if (width * height > MAX_PIXELS) {
    throw new Unreadable(`expected at most ${MAX_PIXELS} pixels, got ${width} x ${height}; export it at the scanner's resolution`);
  }
}

function fromPng({ width, height, depth, type, samples, palette, transparency, exif }) {
  const count = width * height;
  if (type === 0 && depth === 16) return upright(stretched(samples), width, height, false, exif);
  const byte = depth === 16 ? (value) => value >> 8 : (value) => value; // wide colour is read at 8 bits, as Pillow does
  if (type === 0 && (depth === 1 || !transparency)) {
    const scale = 255 / (2 ** depth - 1);
    return upright(depth === 8 ? samples : samples.map((value) => value * scale), width, height, false, exif);
  }
  const rgba = new Uint8ClampedArray(4 * count);
  const clear = transparency && type !== 3 ? new DataView(transparency.buffer, transparency.byteOffset) : null;
  for (let i = 0; i < count; i++) {
    let red, green, blue;
    let alpha = 255;
    if (type === 3) {
      const entry = samples[i];
      [red, green, blue] = [palette[3 * entry], palette[3 * entry + 1], palette[3 * entry + 2]];
      alpha = transparency?.[entry] ?? 255;
    } else if (type === 0 || type === 4) {
      const value = samples[type === 4 ? 2 * i : i];
      red = green = blue = type === 4 ? byte(value) : (value * 255) / (2 ** depth - 1);
      if (type === 4) alpha = byte(samples[2 * i + 1]);
      else if (value === clear.getUint16(0)) alpha = 0;
    } else {
      const at = (type === 6 ? 4 : 3) * i;
      [red, green, blue] = [byte(samples[at]), byte(samples[at + 1]), byte(samples[at + 2])];
      if (type === 6) alpha = byte(samples[at + 3]);
      else if (clear && [0, 1, 2].every((k) => samples[at + k] === clear.getUint16(2 * k))) alpha = 0;
    }
    rgba.set([overBlack(red, alpha), overBlack(green, alpha), overBlack(blue, alpha), 255], 4 * i);
  }
  return upright(luma(rgba), width, height, isColourful(rgba), exif);
}

async function fromJpeg(bytes) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(new Blob([bytes], { type: "image/jpeg" }), {
      colorSpaceConversion: "none",
      premultiplyAlpha: "none",
      imageOrientation: "from-image",
    });
  } catch {
    throw new Unreadable("the JPEG is damaged; export it again");
  }
  const { width, height } = bitmap;
  checkSize(width, height);
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  return { pixels: luma(rgba), width, height, colourful: isColourful(rgba) };
}

/** ITU-R 601 in Pillow's integers: three equal channels are kept exactly. */
function luma(rgba) {
  const grey = new Uint8Array(rgba.length / 4);
  for (let i = 0; i < grey.length; i++) {
    grey[i] = (rgba[4 * i] * 19595 + rgba[4 * i + 1] * 38470 + rgba[4 * i + 2] * 7471 + 0x8000) >> 16;
  }
  return grey;
}

function isColourful(rgba) {
  let strong = 0;
  for (let i = 0; i < rgba.length; i += 4) {
    const chroma = Math.max(rgba[i], rgba[i + 1], rgba[i + 2]) - Math.min(rgba[i], rgba[i + 1], rgba[i + 2]);
    if (chroma > CHROMA) strong++;
  }
  return strong > (CHROMA_SHARE * rgba.length) / 4;
}

/** A channel times its alpha, rounded as Pillow rounds it. */
function overBlack(value, alpha) {
  const product = value * alpha + 128;
  return ((product >> 8) + product) >> 8;
}

/** The least..largest value to 0..255, a constant picture to all 0. */
function stretched(samples) {
  let [low, high] = [Infinity, -Infinity];
  for (const value of samples) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  const span = high / 2 - low / 2;
  return Uint8Array.from(samples, (value) => (span ? nearestEven(((value / 2 - low / 2) / span) * 255) : 0));
}

function nearestEven(value) {
  const below = Math.floor(value);
  const rest = value - below;
  return rest > 0.5 || (rest === 0.5 && below % 2) ? below + 1 : below;
}

/** Undo the rotation that EXIF numbers 1 to 8. */
function upright(pixels, width, height, colourful, exif) {
  const turn = exif ? orientation(exif) : 1;
  if (turn < 2 || turn > 8) return { pixels, width, height, colourful };
  const swapped = turn >= 5;
  const [across, down] = swapped ? [height, width] : [width, height];
  const out = new Uint8Array(pixels.length);
  for (let row = 0; row < down; row++) {
    for (let column = 0; column < across; column++) {
      const y = [3, 4, 7, 8].includes(turn) ? down - 1 - row : row;
      const x = [2, 3, 6, 7].includes(turn) ? across - 1 - column : column;
      out[row * across + column] = swapped ? pixels[x * width + y] : pixels[y * width + x];
    }
  }
  return { pixels: out, width: across, height: down, colourful };
}

/** The orientation in an EXIF block; 1 where it says nothing. */
function orientation(exif) {
  try {
    const view = new DataView(exif.buffer, exif.byteOffset, exif.byteLength);
    const little = view.getUint16(0) === 0x4949;
    const start = view.getUint32(4, little);
    for (let k = 0; k < view.getUint16(start, little); k++) {
      const entry = start + 2 + 12 * k;
      if (view.getUint16(entry, little) === 274) return view.getUint16(entry + 8, little);
    }
  } catch {
    // damaged: as good as none
  }
  return 1;
}
